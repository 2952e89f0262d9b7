"""Recipe (or denoiser) -> Budget: the counts of its parts, weighed by what its sampler and its training do."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from msdk.budgeting import store
from msdk.budgeting.costs import (
    WEIGHTS,
    AutoencoderCosts,
    Budget,
    GuidanceCosts,
    PartCosts,
    StageCosts,
    TrainingCosts,
    mean_macs,
)
from msdk.budgeting.limits import allowed
from msdk.budgeting.shares import stage_calls, stage_lengths, stage_shares
from msdk.encoders.base import Shape
from msdk.errors import RunError, UnknownNameError
from msdk.partition import Partition
from msdk.recipe import Convention, Recipe, Training, recipe_of
from msdk.recipe.structuring import to_data
from msdk.samplers.base import call_times
from msdk.samplers.tracing import Call, explain
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


def budget(
    model: "Recipe | Denoiser | str | Path",
    shape: Shape | None = None,
    *,
    convention: Convention | None = None,
    name: str = "",
    cache: bool = True,
) -> Budget:
    """Counts the cost of a recipe, or of a denoiser and an input shape.

    A recipe's parts that were counted before, with the same settings and code, are read from a cache: then torch is not
    even imported.

    Args:
        model: A recipe whose stage edges are known, the file of one, a run folder, or a denoiser.
        shape: Channels, height and width of the input; the denoiser's own when not given.
        convention: "exact", "paper" or "fvcore"; the recipe's own (or "exact") when not given.
        name: What to call it in the report.
        cache: Whether counts of earlier calls may be used, and are kept for later ones.

    Raises:
        PartError: The stage edges are not known yet, or a network cannot be traced.
        RunError: The ledger of a run folder cannot be read.
    """
    if isinstance(model, (str, Path)):
        recipe = recipe_of(model)
        found = _of_recipe(recipe, convention or recipe.budget.convention, name or str(model), cache=cache)
        return with_ledger(found, recipe, Path(model), cache=cache)
    if isinstance(model, Recipe):
        return _of_recipe(model, convention or model.budget.convention, name, cache=cache)
    from msdk.budgeting.parts import count_parts

    network, shape, how = model.network, shape or model.shape, convention or "exact"
    counts = count_parts(model, shape)
    stages = _stages(counts, model.partition, model.schedule, how)
    return Budget(
        recipe=name,
        title="",
        convention=how,
        shape=shape,
        stages=stages,
        shared=network.shared,
        autoencoder=_autoencoder(counts),
    )


def with_ledger(found: Budget, recipe: Recipe, run: Path, *, cache: bool = True) -> Budget:
    """The budget of a recipe with the ledger of a run of it; as it is where `run` is no run folder.

    Raises:
        RunError: The ledger cannot be read.
    """
    file = run / "ledger.json"
    if not file.is_file():
        return found
    from msdk.budgeting.ledger import ledger

    exact = found if found.convention == "exact" else _of_recipe(recipe, "exact", "", cache=cache)
    try:
        seen = json.loads(file.read_text(encoding="utf-8"))
        # Only these two are facts of the run; all else follows from the recipe.
        spent = ledger(exact, seen["images_by_stage"], seen["iteration"], recipe)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{file} cannot be read as a ledger ({type(error).__name__}: {error}): training writes it anew at its next "
            "log line, `msdk train RECIPE --resume`"
        ) from error
    return attrs.evolve(found, ledger=spent)


def _of_recipe(recipe: Recipe, convention: Convention, name: str, *, cache: bool) -> Budget:
    partition, schedule = recipe.partition(), recipe.schedule
    counts = _counted(recipe, cache=cache)
    trace = _trace(recipe, partition, cache=cache)
    stages = _weighed(_stages(counts, partition, schedule, convention), recipe, trace)
    autoencoder = _autoencoder(counts)
    return Budget(
        recipe=name,
        title=recipe.title,
        convention=convention,
        shape=recipe.shape,
        stages=stages,
        shared=recipe.sharing != "separate",
        autoencoder=autoencoder,
        trace=tuple(trace),
        guidance=GuidanceCosts(
            recipe.guidance.weight, recipe.guidance.interval, sum(call.evaluations - 1 for call in trace)
        ),
        training=_training(recipe, stages, autoencoder, cache=cache),
        ema=bool(recipe.training.ema_decay or recipe.training.ema_half_life),
        moments=recipe.training.rule.moments,
        allowed=allowed(recipe.budget),
        notes=_notes(recipe),
    )


def _training(
    recipe: Recipe, stages: tuple[StageCosts, ...], autoencoder: AutoencoderCosts | None, *, cache: bool
) -> TrainingCosts:
    options = recipe.training
    images = options.iterations * options.batch_size
    seen = [images * (stage.weights["training"] or 0.0) for stage in stages]
    again = _recomputed(recipe, cache=cache)
    encoded = 0 if autoencoder is None else autoencoder.encode.macs(stages[0].convention)
    return TrainingCosts(
        iterations=options.iterations,
        batch_size=options.batch_size,
        accumulation=options.accumulation,
        paper_pflops=options.iterations * (mean_macs(stages, "sampling") or 0.0) / 1e15,
        images_by_stage=tuple(seen),
        forward_macs_by_stage=tuple(count * stage.macs for count, stage in zip(seen, stages, strict=True)),
        recompute_flops_by_stage=tuple(count * flops for count, flops in zip(seen, again, strict=True)),
        autoencoder_macs=float(images * encoded),
    )


def _stages(
    counts: Mapping[str, PartCosts], partition: Partition, schedule: Schedule, convention: Convention
) -> tuple[StageCosts, ...]:
    """Costs by stage, with the one weight that needs no recipe; encoders and adapters are one, or one per stage."""
    return tuple(
        StageCosts(
            stage=stage,
            times=times,
            convention=convention,
            encoder=counts.get(f"encoder.{stage.index}", counts["encoder.0"]),
            adapter=counts.get(f"adapter.{stage.index}", counts.get("adapter.0")),
            decoder=counts[f"decoder.{stage.index}"],
            weights={"sampling": None, "training": None, "length": length},
        )
        for stage, times, length in zip(
            partition.stages, partition.times(schedule), stage_lengths(partition, schedule), strict=True
        )
    )


def _weighed(stages: Sequence[StageCosts], recipe: Recipe, trace: Sequence[Call]) -> tuple[StageCosts, ...]:
    """The same stages with the shares that the sampler's calls and the training draws give them."""
    shares = stage_shares(recipe, trace)
    return tuple(
        attrs.evolve(stage, calls=calls, weights={name: shares[name][stage.stage.index] for name in WEIGHTS})
        for stage, calls in zip(stages, stage_calls(trace, len(stages)), strict=True)
    )


def _autoencoder(counts: Mapping[str, PartCosts]) -> AutoencoderCosts | None:
    if "autoencoder.encode" not in counts:
        return None
    encode, decode = counts["autoencoder.encode"], counts["autoencoder.decode"]
    return AutoencoderCosts(encode.params, encode, decode)


def _notes(recipe: Recipe) -> tuple[str, ...]:
    """Which figures rest on defaults, so that nobody takes them for plans."""
    training, sampling, found = recipe.training, recipe.sampling, list[str]()
    plain = Training()
    if (training.iterations, training.batch_size) == (plain.iterations, plain.batch_size):
        found.append(
            f"the length of training, {training.iterations:,} iterations of {training.batch_size} images, is the "
            "default: [training] iterations and batch_size say your own"
        )
    if sampling.steps is None and sampling.nfe is None:
        found.append(f"{recipe.steps} steps of sampling are the default: [sampling] steps or nfe say your own")
    return tuple(found)


# --- counts -----------------------------------------------------------------------------------------------------------


def _counted(recipe: Recipe, *, cache: bool) -> dict[str, PartCosts]:
    """Costs of the parts of a recipe by label; equal parts are counted once, and known ones not at all."""
    keys = _keys(recipe)
    first = {label: next(other for other in keys if keys[other] == key) for label, key in keys.items()}
    counts: dict[str, PartCosts] = {}
    if cache:
        recalled = {label: store.recall(keys[label]) for label in set(first.values())}
        counts = {label: PartCosts(**found) for label, found in recalled.items() if found is not None}
    missing = set(first.values()) - counts.keys()
    if missing:
        from msdk.budgeting.parts import count_parts
        from msdk.denoiser.building import build

        counted = count_parts(build(recipe, "meta"), recipe.shape, missing)
        counts |= counted
        for label, costs in counted.items() if cache else ():
            store.keep(keys[label], attrs.asdict(costs))
    return {label: counts[original] for label, original in first.items()}


def _recomputed(recipe: Recipe, *, cache: bool) -> Sequence[int]:
    """FLOPs by stage that training spends on one image's activations a second time."""
    if not recipe.training.recompute:
        return [0] * len(recipe.decoders)
    key = {"kind": "recompute", "parts": _keys(recipe), "augment": recipe.training.augment > 0}
    known: list[int] | None = store.recall(key) if cache else None
    if known is None:
        from msdk.budgeting.ledger import recomputed_flops

        known = list(recomputed_flops(recipe))
        if cache:
            store.keep(key, known)
    return known


def _keys(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Label of a part -> all that its count depends on."""
    encoder = {"shape": recipe.shape, "encoder": _identity(recipe.encoder)}
    keys: dict[str, dict[str, Any]] = {"encoder.0": {"kind": "encoder", **encoder}}
    if recipe.adapter is not None:
        encoder["adapter"] = to_data(recipe.adapter)
        keys["adapter.0"] = {"kind": "adapter", **encoder}
    for index, decoder in enumerate(recipe.decoders):
        keys[f"decoder.{index}"] = {"kind": "decoder", **encoder, "decoder": _identity(decoder)}
    if recipe.sharing == "separate":
        for label in ("encoder", "adapter"):
            if f"{label}.0" in keys:
                keys |= {f"{label}.{index}": keys[f"{label}.0"] for index in range(len(recipe.decoders))}
    if recipe.autoencoder is not None:
        settings = {"shape": recipe.data.shape, "autoencoder": _identity(recipe.autoencoder)}
        keys |= {f"autoencoder.{way}": {"kind": f"autoencoder.{way}", **settings} for way in ("encode", "decode")}
    return keys


def _identity(part: object) -> dict[str, Any]:
    """The settings of a part that decide its count, and the code that it is made of."""
    try:
        settings = {key: value for key, value in to_data(part).items() if key != "weights"}
    except UnknownNameError:  # a part of one's own that no recipe can name: known to this process alone
        return {"part": repr(part), "code": store.THIS_PROCESS}
    return {**settings, "code": store.fingerprint(type(part))}


def _trace(recipe: Recipe, partition: Partition, *, cache: bool) -> list[Call]:
    """The network calls of the recipe's sampler; their times are remembered, because finding them needs torch."""
    sampler, schedule, steps = recipe.solver, recipe.schedule, recipe.steps
    parts = [_identity(part) for part in (recipe.samplers or (recipe.sampler,))]
    key = {"kind": "calls", "samplers": parts, "schedule": _identity(schedule), "steps": steps}
    if recipe.sampling.steps_per_stage is not None:
        key |= {"steps_per_stage": recipe.sampling.steps_per_stage, "edges": partition.edges}
    times: list[list[float]] | None = store.recall(key) if cache else None
    if times is None:
        times = call_times(sampler, schedule, steps)
        if cache:
            store.keep(key, times)
    return explain(partition, schedule, sampler, steps, recipe.guidance, times)
