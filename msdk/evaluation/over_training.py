"""Quality over training: scores of the checkpoints of runs, by iterations and by FLOPs spent."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from msdk.arguments import as_annotated
from msdk.distributed import Group
from msdk.errors import RunError
from msdk.evaluation.asked import Asked
from msdk.evaluation.evaluating import Progress, evaluate_here
from msdk.evaluation.scores import Scores
from msdk.evaluation.task import sampled_as, task_of
from msdk.runs import checkpoints
from msdk.runs.prices import spent_until


@attrs.frozen
class Point:
    """A checkpoint: its iteration, the FLOPs of training until then (None without a ledger), and a score."""

    iteration: int
    flops: float | None
    value: float


@attrs.frozen
class Curve:
    """A score of a run over its checkpoints."""

    run: str
    score: str
    better: str
    points: tuple[Point, ...]


@as_annotated
def curves(
    runs: Sequence[str | Path],
    asked: Asked | None = None,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    group: Group | None = None,
    progress: Progress | None = None,
) -> list[Curve]:
    """Judges every checkpoint that runs keep, and puts scores in order; what was judged before is taken as it is.

    Args:
        runs: Run folders.
        asked: How they are judged; its checkpoint is not used.
        overrides: Of their recipes, `sampling.steps=10`: how they are sampled.
        device: Where.
        group: The processes that share the work.
        progress: Told (what is done, images done, images in all).

    Raises:
        RunError: A run keeps no checkpoint.
    """
    processes, asked = group or Group(), asked or Asked()
    found: list[Curve] = []
    for run in map(Path, runs):
        kept = checkpoints(run)
        if not kept:
            raise RunError(f"{run} has no checkpoint yet: train it with `msdk train`")
        judged: list[Scores] = []
        for path in kept:
            own = attrs.evolve(asked, checkpoint=int(path.name))
            task = processes.agreed(lambda run=run, own=own: task_of(run, own, sampled_as(run, overrides)))
            judged.append(evaluate_here(task, processes, device=device, progress=progress))
        spent = {int(path.name): spent_until(path) for path in kept}
        for score in judged[0].scores:
            points = tuple(
                Point(each.images.checkpoint, spent[each.images.checkpoint], each[score.name]) for each in judged
            )
            found.append(Curve(str(run), score.name, score.better, points))
    return found
