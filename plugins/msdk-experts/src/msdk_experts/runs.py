"""New runs from trained ones: a stage split in two, or a network's single decoder grown into low-rank experts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import attrs

import msdk
from msdk.errors import PartError, RunError
from msdk.partition import Partition
from msdk.runs import fork, run_recipe
from msdk_experts.low_rank import LowRank

T = TypeVar("T")


def split_stage(run: str | Path, stage: int, edge_ratio: float, out: str | Path) -> Path:
    """Splits a stage of a trained run in two, each beginning with the weights of the one decoder: a tree, as eDiff-I.

    The new run is at the iteration of the old one: `msdk train OUT/recipe.toml --out OUT --resume --set
    training.iterations=N` goes on. What the optimiser keeps of a weight is copied with it. With steps for each stage,
    those of the stage are shared out to its halves, and each half has its sampler.
    Source: Balaji et al. 2022, arXiv 2211.01324, section 4.1.

    Args:
        run: A run folder with a checkpoint.
        stage: Which stage, 0 is the one of least noise.
        edge_ratio: Where, in ratio, inside the stage.
        out: The new run folder.

    Returns:
        The new run folder.

    Raises:
        RunError: `run` is none, or `out` exists.
        PartError: There is no such stage, or the edge lies outside of it.
    """
    recipe = run_recipe(Path(run))
    edges = recipe.partition().edges
    bounds = [0.0, *edges, float("inf")]
    if not 0 <= stage < len(bounds) - 1:
        raise PartError(f"there is no stage {stage}: the run has {len(bounds) - 1}, numbered from 0")
    if not bounds[stage] < edge_ratio < bounds[stage + 1]:
        raise PartError(
            f"the edge {edge_ratio:g} lies outside of stage {stage}, which has ratios from {bounds[stage]:g} to "
            f"{bounds[stage + 1]:g}"
        )
    decoders, samplers = _doubled(recipe.decoders, stage), _doubled(recipe.samplers, stage)
    sharing = "shared" if recipe.sharing == "unified" else recipe.sharing
    steps = recipe.sampling.steps_per_stage
    sampling = attrs.evolve(recipe.sampling, steps_per_stage=None if steps is None else _halved(steps, stage))
    new = attrs.evolve(recipe, decoders=decoders, sharing=sharing, samplers=samplers, sampling=sampling)
    new = new.with_partition(Partition(tuple(sorted([*edges, edge_ratio]))))
    kinds = ("decoders", "encoders", "adapters") if sharing == "separate" else ("decoders",)

    def rename(name: str) -> list[str]:
        """Weights behind the stage move up by one, its own are doubled."""
        kind, _, rest = name.partition(".")
        if kind not in kinds:
            return [name]
        number, _, rest = rest.partition(".")
        places = {int(number) + (int(number) > stage), int(number) + (int(number) >= stage)}
        return [f"{kind}.{place}.{rest}" for place in sorted(places)]

    def images(seen: tuple[int, ...]) -> tuple[int, ...]:
        half = seen[stage] // 2
        return (*seen[:stage], seen[stage] - half, half, *seen[stage + 1 :])

    return fork(run, new, rename, out, images=images)


def _doubled(values: tuple[T, ...], stage: int) -> tuple[T, ...]:
    return (*values[: stage + 1], *values[stage:]) if values else ()


def _halved(steps: tuple[int, ...], stage: int) -> tuple[int, ...]:
    """As many steps in all, but at least one in each half."""
    half = max(steps[stage] // 2, 1)
    return (*steps[:stage], max(steps[stage] - half, 1), half, *steps[stage + 1 :])


def grow(run: str | Path, edges_ratio: Sequence[float], rank: int, out: str | Path) -> Path:
    """Grows low-rank experts on the single decoder of a trained run, one for each stage.

    The encoder goes on training with them; the decoder's own weights stay as they are.

    Args:
        run: A run folder of a recipe with one decoder.
        edges_ratio: Interior edges of the stages, ascending.
        rank: Of the experts.
        out: The new run folder.

    Returns:
        The new run folder.

    Raises:
        RunError: `run` is none, or has stages already, or `out` exists.
        PartError: The edges do not ascend.
    """
    recipe = run_recipe(Path(run))
    if len(recipe.decoders) > 1:
        raise RunError(f"{run} has {len(recipe.decoders)} stages: experts grow on a run with one decoder")
    expert = LowRank(base=next(iter(recipe.decoders)), rank=rank)
    new = attrs.evolve(recipe, decoders=(expert,) * (len(edges_ratio) + 1), sharing="shared")
    new = new.with_partition(Partition(tuple(edges_ratio)))
    places: dict[str, list[str]] = {}
    for name in msdk.build(new, "meta").network.state_dict():
        places.setdefault(_single(name), []).append(name)

    def images(seen: tuple[int, ...]) -> tuple[int, ...]:
        return (*seen, *([0] * len(edges_ratio)))

    return fork(run, new, lambda name: places.get(name, [name]), out, images=images)


def _single(name: str) -> str:
    """The name, in a run with one decoder, of a weight of an expert."""
    parts = name.replace(".parametrizations.weight.original", ".weight").split(".")
    return ".".join(["decoders", "0", *parts[2:]]) if parts[0] == "decoders" else ".".join(parts)
