"""Counts of a recipe's parts: those that are known already, see `msdk.cache`, and those that are counted now."""

from collections.abc import Sequence
from typing import Any

import attrs

from msdk import cache as store
from msdk.budgeting.costs import PartCosts
from msdk.budgeting.training_price import counted
from msdk.errors import UnknownNameError
from msdk.recipe import Recipe
from msdk.recipe.structuring import to_data
from msdk.samplers.base import call_times
from msdk.samplers.tracing import Call


def counted_parts(recipe: Recipe, *, cache: bool) -> dict[str, PartCosts]:
    """Costs of the parts of a recipe by label; equal parts are counted once, and known ones not at all."""
    keys = keys_of(recipe)
    first = {label: next(other for other in keys if keys[other] == key) for label, key in keys.items()}
    counts: dict[str, PartCosts] = {}
    if cache:
        recalled = {label: store.recall(keys[label], PartCosts) for label in set(first.values())}
        counts = {label: found for label, found in recalled.items() if found is not None}
    missing = set(first.values()) - counts.keys()
    if missing:
        from msdk.budgeting.parts import count_objective, count_parts
        from msdk.denoiser.building import build

        denoiser = build(recipe, "meta")
        fresh = count_parts(denoiser, recipe.fed, missing)
        if "objective" in missing:
            fresh["objective"] = count_objective(recipe.training.loss, denoiser)
        counts |= fresh
        for label, costs in fresh.items() if cache else ():
            store.keep(keys[label], attrs.asdict(costs))
    return {label: counts[original] for label, original in first.items()}


def simulated_backward(recipe: Recipe, *, cache: bool) -> Sequence[tuple[int, int]]:
    """Backward and recomputed FLOPs by stage, from a simulated backward pass."""
    options = recipe.training
    key = {"kind": "backward", "parts": keys_of(recipe), "augment": options.augment > 0, "recompute": options.recompute}
    known = store.recall(key, tuple[tuple[int, int], ...]) if cache else None
    if known is not None and len(known) == len(recipe.decoders):
        return known
    found = counted(recipe)
    if cache:
        store.keep(key, found)
    return found


def keys_of(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Label of a part -> all that its count depends on."""
    keys: dict[str, dict[str, Any]] = {}
    fronts = [{"shape": recipe.fed, "encoder": _identity(encoder)} for encoder in recipe.built_encoders]
    for index, front in enumerate(fronts):
        keys[f"encoder.{index}"] = {"kind": "encoder", **front}
    if recipe.adapter is not None:
        for index, front in enumerate(fronts):
            front["adapter"] = to_data(recipe.adapter)
            keys[f"adapter.{index}"] = {"kind": "adapter", **front}
    for index, decoder in enumerate(recipe.decoders):
        front = fronts[index if len(fronts) > 1 else 0]
        keys[f"decoder.{index}"] = {"kind": "decoder", **front, "decoder": _identity(decoder)}
    if recipe.autoencoder is not None:
        settings = {"shape": recipe.data.shape, "autoencoder": _identity(recipe.autoencoder)}
        keys |= {f"autoencoder.{way}": {"kind": f"autoencoder.{way}", **settings} for way in ("encode", "decode")}
    for label in keys:
        kind, _, index = label.partition(".")
        if index.isdecimal() and recipe.freezes(kind, int(index)):
            keys[label] = {**keys[label], "frozen": True}
    objective = _identity(recipe.training.loss)
    return {**keys, "objective": {"kind": "objective", "objective": objective, "parts": list(keys.values())}}


def _identity(part: object) -> dict[str, Any]:
    """The settings of a part that decide its count, and the code that it is made of."""
    try:
        settings = {key: value for key, value in to_data(part).items() if key != "weights"}
    except UnknownNameError:  # a part of one's own that no recipe can name: known to this process alone
        return {"part": repr(part), "code": store.THIS_PROCESS}
    return {**settings, "code": store.fingerprint(type(part))}


def calls_of(recipe: Recipe, *, cache: bool) -> list[Call]:
    """The network calls of the recipe's sampler; their times are remembered, because finding them needs torch."""
    sampler, schedule, steps = recipe.solver, recipe.schedule, recipe.steps
    parts = [_identity(part) for part in (recipe.samplers or (recipe.sampler,))]
    key = {"kind": "calls", "samplers": parts, "schedule": _identity(schedule), "steps": steps}
    if recipe.sampling.steps_per_stage is not None:
        key |= {"steps_per_stage": recipe.sampling.steps_per_stage, "edges": recipe.partition().edges}
    times = store.recall(key, tuple[tuple[float, ...], ...]) if cache else None
    if times is None:
        times = call_times(sampler, schedule, steps)
        if cache:
            store.keep(key, times)
    return recipe.calls(times=times)
