"""Clusterings of before: what a strategy found is kept with all that it depends on."""

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs

from msdk import cache
from msdk.clusterings.base import Clustering
from msdk.datasets.base import Dataset
from msdk.denoiser.building import weights_file
from msdk.errors import RunError, UnknownNameError
from msdk.recipe import BudgetOptions, Recipe
from msdk.recipe.structuring import parts_of, to_data
from msdk.runs import latest, run_recipe, weights_of
from msdk.runs.forking import digest_of


def looked_at(recipe: Recipe) -> tuple[object, ...]:
    """All of a recipe that its edges depend on."""
    spec = recipe.stages.clustering
    needs = () if spec is None else spec.needs
    if "models" in needs:  # it trains the networks
        return (attrs.evolve(recipe, title="", budget=BudgetOptions()),)
    found: list[object] = [recipe.stages, recipe.stages.schedule or recipe.schedule]
    if "data" in needs:
        found += [recipe.data, recipe.autoencoder, recipe.encoder_of(0).unit_range]
    if "draws" in needs:
        found += [recipe.schedule, recipe.training.noise]
    if "calls" in needs:
        found += [recipe.schedule, recipe.sampler, recipe.samplers, recipe.sampling]
    return tuple(found)


def key_of(recipe: Recipe, spec: Clustering, digest: str, seed: int, device: str) -> Mapping[str, Any] | None:
    """What an equal key stands for: the same edges. None where that cannot be said, so that nothing is kept.

    Args:
        recipe: Whose edges are found.
        spec: The strategy.
        digest: Of the data; they are the same wherever they lie.
        seed: Of everything drawn.
        device: Where it runs; processors and GPUs round differently.
    """
    run = getattr(spec, "run", None)
    if run is not None and "denoiser" not in spec.needs:  # trained on, it is another one
        return None
    weights = trained = None
    if run is not None:  # wherever it lies
        changes: Any = {"run": None}
        spec = attrs.evolve(spec, **changes)
    seen = looked_at(attrs.evolve(recipe, stages=attrs.evolve(recipe.stages, clustering=spec)))
    try:
        if run is not None:
            own = run_recipe(run)
            seen, trained = (*seen, own), digest_of(weights_of(latest(run), own, "ema"))
        settings = [_settings(part) for part in seen]
    except (UnknownNameError, RunError):  # a part of one's own that no recipe can name; or a run that cannot be read
        return None
    if recipe.autoencoder is not None and ("data" in spec.needs or "models" in spec.needs):
        with weights_file(recipe.autoencoder).open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "kind": "clustering",
        "settings": settings,
        "code": sorted({cache.fingerprint(type(part)) for part, _ in parts_of(seen)}),
        "use": [file.sha256 for file in recipe.use],
        "data": digest,
        "autoencoder": weights,
        **({} if trained is None else {"run": trained}),
        "seed": seed,
        "device": device.partition(":")[0],
    }


def _settings(part: object) -> Any:
    """Plain data of what was looked at, without the place of data and weights, whose digests are in the key."""
    if isinstance(part, Recipe):
        return {
            field.name: _settings(getattr(part, field.name)) for field in attrs.fields(Recipe) if field.name != "use"
        }
    data = to_data(part)
    places = ("path",) if isinstance(part, Dataset) else ("weights",)
    return {key: value for key, value in data.items() if key not in places} if isinstance(data, dict) else data
