"""New runs from trained ones: a stage split in two, or a network's single decoder grown into low-rank experts."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
from torch import Tensor

import msdk
from msdk.errors import PartError, RunError
from msdk.partition import Partition
from msdk.recipe import Recipe
from msdk.runs import Checkpoint, latest, load_checkpoint, refuse_existing, run_recipe, save_checkpoint, start_run
from msdk_experts.low_rank import LowRank

Tensors = Mapping[str, Tensor]


def split_stage(run: str | Path, stage: int, edge_ratio: float, out: str | Path) -> Path:
    """Splits a stage of a trained run in two, each beginning with the weights of the one decoder: a tree, as eDiff-I.

    The new run is at the iteration of the old one: `msdk train OUT/recipe.toml --out OUT --resume --set
    training.iterations=N` goes on. Moments of the optimiser are copied with the weights.
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
    decoders = list(recipe.decoders)
    decoders.insert(stage, decoders[stage])
    sharing = "shared" if recipe.sharing == "unified" else recipe.sharing
    new = attrs.evolve(recipe, decoders=tuple(decoders), sharing=sharing, samplers=())
    new = new.with_partition(Partition(tuple(sorted([*edges, edge_ratio]))))

    kinds = ("decoders", "encoders", "adapters") if sharing == "separate" else ("decoders",)

    def moved(tensors: Tensors) -> dict[str, Tensor]:
        return {place: value for name, value in tensors.items() for place in _numbers(name, stage, kinds)}

    def counted(images: tuple[int, ...]) -> tuple[int, ...]:
        half = images[stage] // 2
        return (*images[:stage], images[stage] - half, half, *images[stage + 1 :])

    return _write(Path(run), new, Path(out), moved, counted)


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
    fresh = msdk.build(new).network.state_dict()

    def moved(tensors: Tensors) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        moments = {name.partition("/")[0] + "/" for name in tensors if "/" in name}
        for prefix in moments or {""}:
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            for name, value in fresh.items():
                old = _single(name)
                if old in own:
                    found[prefix + name] = own[old]
                elif not prefix:
                    found[name] = value
        if moments:
            # Frozen weights have no moments, and those of the changes begin at the first step.
            found = {name: value for name, value in found.items() if ".original" not in name}
        return found

    def counted(images: tuple[int, ...]) -> tuple[int, ...]:
        return (*images, *([0] * len(edges_ratio)))

    return _write(Path(run), new, Path(out), moved, counted)


def _numbers(name: str, stage: int, kinds: tuple[str, ...]) -> list[str]:
    """The names that a tensor has after the split: those behind the stage move up by one, its own are doubled."""
    moment, slash, weight = name.rpartition("/")
    kind, _, rest = weight.partition(".")
    if kind not in kinds:
        return [name]
    number, _, rest = rest.partition(".")
    old = int(number)
    places = [old] if old < stage else [old + 1] if old > stage else [old, old + 1]
    return [f"{moment}{slash}{kind}.{place}.{rest}" for place in places]


def _single(name: str) -> str:
    """The name, in a run with one decoder, of a weight of an expert."""
    parts = name.replace(".parametrizations.weight.original", ".weight").split(".")
    return ".".join(["decoders", "0", *parts[2:]]) if parts[0] == "decoders" else ".".join(parts)


def _write(
    run: Path,
    recipe: Recipe,
    out: Path,
    moved: Callable[[Tensors], dict[str, Tensor]],
    counted: Callable[[tuple[int, ...]], tuple[int, ...]],
) -> Path:
    """Makes a run folder whose checkpoint has the tensors of another one's under new names."""
    refuse_existing(out, force=False)
    old = load_checkpoint(latest(run))
    known = set(msdk.build(recipe, "meta").network.state_dict())
    # Safetensors holds no tensor twice, so those that are doubled become copies.
    tensors = {
        name: {key: value.clone() for key, value in moved(getattr(old, name)).items()}
        for name in ("model", "ema", "optimizer")
    }
    for part in ("model", "ema"):
        wrong = known ^ set(tensors[part])
        if tensors[part] and wrong:
            raise RunError(f"the weights of {run} do not fit the new stages: {', '.join(sorted(wrong)[:3])}")
    try:
        digest = json.loads((run / "lock.json").read_text(encoding="utf-8"))["data"]["sha256"]
    except (OSError, ValueError, KeyError):
        digest = ""
    start_run(out, recipe, data_digest=digest)
    save_checkpoint(
        out,
        Checkpoint(
            iteration=old.iteration,
            images_by_stage=counted(old.images_by_stage),
            seconds=old.seconds,
            **tensors,
        ),
        keep=recipe.training.keep,
    )
    return out
