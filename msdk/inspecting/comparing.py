"""The h-space of a run: how alike its encoder's deepest features are at different noise levels and in other stages.

One encoder serves all stages well as far as it does the same at all noise levels; separate ones show how much they
would rather differ. All levels have the same images with the same noise, so that only the level differs.
"""

from collections.abc import Callable
from pathlib import Path

import attrs
import torch
from torch import Tensor

from msdk.arguments import as_annotated
from msdk.batch import Batch
from msdk.denoiser import Denoiser
from msdk.denoiser.building import pick_device
from msdk.errors import PartError
from msdk.evaluation.held_out import shown_to_denoiser
from msdk.inspecting.similarity import FEWEST, gram, similarities
from msdk.inspecting.spaces import HSpace, Level, Matrix, Space
from msdk.recipe import Recipe
from msdk.runs import checkpoints, load_run, run_recipe
from msdk.threads import network_macs, threads_for
from msdk.training.drawing import mixed_seed

AT_A_TIME = 32
"""Images."""

Progress = Callable[[str, int, int], None]


@attrs.frozen
class _Run:
    """A run, loaded."""

    path: Path
    checkpoint: int
    recipe: Recipe
    denoiser: Denoiser


@as_annotated
def h_space(
    run: str | Path,
    *,
    checkpoint: int | None = None,
    beside: str | Path | None = None,
    images: int = 256,
    levels: int = 12,
    device: str | None = None,
    progress: Progress | None = None,
) -> HSpace:
    """Compares the deepest features of a run's encoder between noise levels and stages by CKA.

    Levels lie in each stage where training draws them. A run with separate encoders is asked for the one of each
    level's stage. Source of the name: Kwon et al. 2023, arXiv 2210.10960; the paper's section 4.3 asks the question.

    Args:
        run: A run folder; its averaged weights are used.
        checkpoint: Its iteration; the newest one when not given.
        beside: Another run folder, on the same images, which is looked at at the same ratios.
        images: Held-out images, or where none are, those with the smallest hashes: so many at most.
        levels: In all; each stage has as many, rounded up.
        device: Where networks are.
        progress: Told (what is done, levels done, levels in all).

    Raises:
        RunError: No run folder, no such checkpoint, or one that is damaged.
        PartError: The networks do not see Gaussian noise or not the same images, or there are too few of these.
        DataError: The data cannot be read.
    """
    for name, value, least in (("images", images, FEWEST), ("levels", levels, 2)):
        if value < least:
            raise PartError(f"{name} = {value} are too few to compare: give {least} or more")
    place = pick_device(device)
    first = _load(Path(run), checkpoint, place)
    runs = [first] if beside is None else [first, _load(Path(beside), None, place)]
    if beside is not None:
        _refuse_unlike(*runs)
    shown = shown_to_denoiser(first.denoiser, first.recipe, images)
    assert shown.real is not None
    batch, count = shown.real, len(shown.real.images)
    if count < FEWEST:
        kind = "are held out" if first.recipe.data.held_out else "are in the data"
        raise PartError(f"only {count} images {kind}, of {FEWEST} that a comparison needs: raise data.held_out")
    shape, seen = first.denoiser.shape, first.denoiser.place
    noise = torch.stack([_noise(content, shape) for content in shown.hashes]).to(seen)
    ratios = [float(first.denoiser.schedule.ratio(t)) for t in _times(first, levels)]
    total, done = len(runs) * len(ratios), 0
    found: list[tuple[Space, list[Tensor]]] = []
    for each in runs:
        grams: list[Tensor] = []
        looked = [_level(each.denoiser, ratio) for ratio in ratios]
        sizes: dict[int, tuple[int, ...]] = {}
        work = network_macs(each.denoiser.network, each.denoiser.shape, AT_A_TIME)
        for level in looked:
            with threads_for(work):
                features = _features(each.denoiser, level, batch, noise)
            sizes[level.stage] = tuple(features.shape[1:])
            grams.append(gram(features.flatten(1)))
            if not float(grams[-1].norm()) > 0:
                raise PartError(
                    f"the encoder of {each.path} says the same of all images at the ratio {level.ratio:g}: there is "
                    "nothing to compare; train it first"
                )
            done += 1
            if progress is not None:
                progress("levels", done, total)
        found.append((_space(each, looked, tuple(sizes.values()), similarities(grams, grams)), grams))
    across = similarities(found[0][1], found[1][1]).diagonal().tolist() if len(found) == 2 else []
    return HSpace(
        images=count,
        held_out=bool(first.recipe.data.held_out),
        spaces=tuple(space for space, _ in found),
        across=tuple(across),
    )


def _load(path: Path, checkpoint: int | None, device: str) -> _Run:
    recipe = run_recipe(path)
    denoiser = load_run(path, device=device, checkpoint=checkpoint)
    if denoiser.schedule.feeds != 1 or not denoiser.schedule.trainable:
        raise PartError(
            f"{path} is of the schedule {type(denoiser.schedule).__name__}, whose noise is not Gaussian noise on the "
            "image alone: its levels are not compared"
        )
    return _Run(path, int(checkpoints(path)[-1].name) if checkpoint is None else checkpoint, recipe, denoiser)


def _refuse_unlike(one: _Run, other: _Run) -> None:
    """Two runs must see the same arrays, to be shown the same ones."""
    for what, a, b in (
        ("images of the shape", one.denoiser.shape, other.denoiser.shape),
        ("pixels in [0, 1]:", one.denoiser.unit_range, other.denoiser.unit_range),
        ("classes:", one.denoiser.classes, other.denoiser.classes),
        ("the autoencoder", one.recipe.autoencoder, other.recipe.autoencoder),
    ):
        if a != b:
            raise PartError(
                f"{one.path} and {other.path} are not shown the same images: {what} {a} in one and {b} in the other; "
                "compare runs on the same data"
            )


def _times(run: _Run, levels: int) -> list[float]:
    """Of the levels, least noise first: in each stage at even shares of what training draws there."""
    denoiser, law = run.denoiser, run.recipe.training.noise
    schedule, partition = denoiser.schedule, denoiser.partition
    each = -(-levels // len(partition))
    inside = (torch.arange(each, dtype=torch.float64) + 0.5) / each
    shares = law.edges(schedule, partition)
    times = [schedule.t_min, *partition.edges_t(schedule), schedule.t_max]
    found: list[float] = []
    for stage in range(len(partition)):
        low, high = shares[stage], shares[stage + 1]
        if high - low > 1e-9:
            found += law.quantile(schedule, low + (high - low) * inside).tolist()
        else:  # never drawn
            found += (times[stage] + (times[stage + 1] - times[stage]) * inside).tolist()
    return found


def _level(denoiser: Denoiser, ratio: float) -> Level:
    """The level of a ratio in a run's own time, as far as that reaches."""
    schedule = denoiser.schedule
    t = min(max(float(schedule.t_of_ratio(ratio)), schedule.t_min), schedule.t_max)
    return Level(t=t, ratio=ratio, stage=denoiser.partition.at(t, schedule))


def _noise(content: int, shape: tuple[int, ...]) -> Tensor:
    """That of an image, by its content; drawn on the CPU, so that devices have the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(mixed_seed("h-space", content)))


@torch.no_grad()
def _features(denoiser: Denoiser, level: Level, batch: Batch, noise: Tensor) -> Tensor:
    """The deepest features of all images at a level, [images, ...], float32 on the CPU."""
    schedule, t = denoiser.schedule, level.t
    c = denoiser.parameterization.coefficients(schedule, t)
    c_noise = torch.full((1,), c.c_noise, dtype=torch.float64, device=noise.device)
    encoder, alpha, sigma = denoiser.network.encoder(level.stage), schedule.alpha(t), schedule.sigma(t)
    found: list[Tensor] = []
    for part, drawn in zip(batch.split(AT_A_TIME), noise.split(AT_A_TIME), strict=True):
        x_t = alpha * part.images + sigma * drawn
        found.append(encoder(c.c_in * x_t, c_noise, **part.condition.inputs()).bottom.float().cpu())
    return torch.cat(found)


def _space(run: _Run, levels: list[Level], sizes: tuple[tuple[int, ...], ...], similarity: Tensor) -> Space:
    stages = torch.tensor([level.stage for level in levels])
    others = ~torch.eye(len(levels), dtype=torch.bool)
    count = len(run.denoiser.partition)
    means: list[tuple[float | None, ...]] = []
    for stage in range(count):
        rows = [(stages == stage)[:, None] & (stages == other)[None] & others for other in range(count)]
        # A stage of the other run may lie between two levels, and one with one level has no pair.
        means.append(tuple(float(similarity[pairs].mean()) if pairs.any() else None for pairs in rows))
    network = run.denoiser.network
    kind = "unified" if count == 1 else "shared" if network.shared else "separate"
    return Space(
        run=str(run.path),
        checkpoint=run.checkpoint,
        encoder=kind,
        features=sizes[0],
        sizes=sizes if len(set(sizes)) > 1 else (),
        levels=tuple(levels),
        similarity=_rows(similarity),
        stages=tuple(means),
    )


def _rows(matrix: Tensor) -> Matrix:
    return tuple(tuple(row) for row in matrix.tolist())
