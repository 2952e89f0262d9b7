"""The paper's Figure 2: a candidate inside one stage, a reference everywhere else, and what comes of it."""

from collections.abc import Callable
from pathlib import Path

import attrs
import torch
from torch import Tensor, nn

from msdk.arguments import as_annotated
from msdk.batch import Condition
from msdk.denoiser import Denoiser
from msdk.denoiser.denoising import Given
from msdk.distributed import this_rank, together
from msdk.errors import PartError, RunError
from msdk.evaluation.asked import Asked
from msdk.evaluation.evaluating import Progress, evaluate_here
from msdk.evaluation.scores import Scores
from msdk.evaluation.task import Task, task_of
from msdk.recipe.structuring import to_data
from msdk.runs import checkpoints, load_run, run_recipe


@as_annotated
def swap(
    candidate: str | Path,
    reference: str | Path,
    asked: Asked | None = None,
    *,
    stage: int | None = None,
    interval: tuple[float, float] | None = None,
    all_checkpoints: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> list[Scores]:
    """Judges images that the candidate draws inside a stage, and the reference elsewhere.

    Both speak of the clean image, so they may have other parameterisations and networks; they have one schedule. The
    reference draws as its recipe says. Scores are in the candidate's folder.
    Source: the paper's Figure 2.

    Args:
        candidate: A run folder.
        reference: Likewise.
        asked: How they are judged; the checkpoint, sampler and steps are of the candidate, drawn by the reference.
        stage: The stage, by the edges of the reference where it has several, else of the candidate.
        interval: [low, high] in ratio, in the place of a stage: (low, high].
        all_checkpoints: Whether all checkpoints of the candidate that are kept are judged, one after the other.
        device: Where.
        progress: Told (what is done, images done, images in all).

    Returns:
        Scores of each checkpoint, in order.

    Raises:
        PartError: The two cannot be put together, or there is no such stage.
        RunError: As `msdk.evaluate` does.
    """
    own, other, asked = Path(candidate), Path(reference), asked or Asked()
    with together(this_rank()) as group:

        def settled() -> tuple[tuple[float, float], list[int | None]]:
            at = [int(path.name) for path in checkpoints(own)] if all_checkpoints else [asked.checkpoint]
            if all_checkpoints and not at:
                raise RunError(f"{own} has no checkpoint yet: train it with `msdk train`")
            return _inside(own, other, stage, interval), list(at)

        bounds, iterations = group.agreed(settled)
        found: list[Scores] = []
        for at in iterations:
            task = group.agreed(lambda at=at: _task(own, other, bounds, attrs.evolve(asked, checkpoint=at)))
            found.append(evaluate_here(task, group, device=device, progress=progress))
        return found


def _task(own: Path, other: Path, bounds: tuple[float, float], asked: Asked) -> Task:
    """As the reference's recipe draws; judged as the candidate's says."""
    ours, theirs = run_recipe(own), run_recipe(other)
    recipe = attrs.evolve(theirs, evaluation=ours.evaluation or theirs.evaluation)
    task = task_of(own, asked, recipe)
    newest = int(checkpoints(other)[-1].name) if checkpoints(other) else 0
    said = {"reference": str(other.resolve()), "checkpoint": newest, "inside": list(bounds)}
    return attrs.evolve(task, mixed=said, load=_loader(own, other, bounds, task))


def _loader(own: Path, other: Path, bounds: tuple[float, float], task: Task) -> Callable[[str], Denoiser]:
    def load(device: str) -> Denoiser:
        weights = task.options.weights
        inside = load_run(own, weights=weights, device=device, checkpoint=task.checkpoint)
        return swapped(inside, load_run(other, weights=weights, device=device), bounds)

    return load


def _inside(own: Path, other: Path, stage: int | None, interval: tuple[float, float] | None) -> tuple[float, float]:
    """Where the candidate draws: (low, high] in ratio."""
    if (stage is None) == (interval is None):
        raise PartError("give a stage (--stage 0), or an interval of ratios (--interval 0 0.3): one of them")
    if interval is not None:
        low, high = map(float, interval)
        if not 0 <= low < high:
            raise PartError(f"an interval is [low, high] in ratio with 0 <= low < high, got {[low, high]}")
        return low, high
    partitions = [run_recipe(each).partition() for each in (other, own)]
    partition = next((each for each in partitions if len(each) > 1), partitions[0])
    number = int(stage or 0)
    if not 0 <= number < len(partition):
        raise PartError(f"there is no stage {number}: there are {len(partition)}, 0 has the least noise")
    found = partition.stages[number]
    return found.low, min(found.high, 1e300)  # JSON has no infinity


def swapped(candidate: Denoiser, reference: Denoiser, bounds: tuple[float, float]) -> Denoiser:
    """The reference, whose estimates inside (low, high] of ratio are the candidate's; 0 belongs to a low of 0.

    Raises:
        PartError: They have other schedules, shapes or classes, or one has an autoencoder.
    """
    for what, ours, theirs in (
        ("schedule", to_data(candidate.schedule), to_data(reference.schedule)),
        ("shape of images", list(candidate.shape), list(reference.shape)),
        ("number of classes", candidate.classes, reference.classes),
        ("range of pixels", candidate.unit_range, reference.unit_range),
        ("autoencoder", candidate.autoencoder is None, reference.autoencoder is None),
    ):
        if ours != theirs:
            raise PartError(f"candidate and reference have another {what}: {ours} and {theirs} cannot be put together")
    return _Swapped(candidate, reference, bounds)


class _Swapped(Denoiser):
    def __init__(self, candidate: Denoiser, reference: Denoiser, bounds: tuple[float, float]) -> None:
        nn.Module.__init__(self)
        self.inside, self.outside, self.bounds = candidate, reference, bounds
        self.network, self.partition, self.schedule = reference.network, reference.partition, reference.schedule
        self.parameterization, self.autoencoder = reference.parameterization, reference.autoencoder
        self.shape, self.classes, self.unit_range = reference.shape, reference.classes, reference.unit_range
        self.recipe, self.class_names, self.place = reference.recipe, reference.class_names, reference.place

    def forward(self, x_t: Tensor, t: float | Tensor, label: Given = None, augment: Tensor | None = None) -> Tensor:
        condition = Condition.of(label, augment)
        if not isinstance(t, Tensor):
            return self._at(float(t))(x_t, t, condition)
        # Times of a batch may lie on both sides; each side is asked for all of its own.
        found = torch.empty_like(x_t)
        within = torch.tensor([self._at(each) is self.inside for each in t.tolist()])
        for side, denoiser in ((within, self.inside), (~within, self.outside)):
            rows = side.nonzero()[:, 0]
            if len(rows):
                there = rows.to(x_t.device)
                found[there] = denoiser(x_t[there], t[rows.to(t.device)], condition.select(there))
        return found

    def _at(self, t: float) -> Denoiser:
        ratio, (low, high) = self.schedule.ratio(t), self.bounds
        return self.inside if low < ratio <= high or ratio == low == 0 else self.outside
