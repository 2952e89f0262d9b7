"""What a run folder says of its training, from its small files alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs

from msdk.errors import MsdkError, RunError
from msdk.recipe.results import to_json
from msdk.runs.folder import checkpoints, run_recipe
from msdk.runs.prices import prices_of, spent_on
from msdk.runs.writer import written_by

State = Literal["training", "done", "stopped", "new", "damaged"]


@attrs.frozen
class Line:
    """A line of metrics.jsonl.

    Attributes:
        iteration: Steps done.
        loss: Mean since the line before.
        loss_by_stage: The same by stage; None where a stage saw no image.
        images_by_stage: Images that each stage has seen since the first step.
        flops: Forward, backward and recomputed FLOPs spent since the first step; None where no ledger says what an
            image costs.
        held_out_loss: Mean loss on held-out images, where this line tells of a look at them.
        held_out_loss_by_stage: The same by stage; empty where there was no look.
    """

    iteration: int
    loss: float
    loss_by_stage: tuple[float | None, ...]
    images_by_stage: tuple[int, ...]
    flops: float | None
    held_out_loss: float | None = None
    held_out_loss_by_stage: tuple[float | None, ...] = ()


@attrs.frozen(kw_only=True)
class RunSummary:
    """A run in a line.

    Attributes:
        path: Its folder.
        title: The recipe's.
        state: "training" where a process writes it now, "done" where it has all iterations or `training.stop` ended it,
            "new" without a line of metrics or a checkpoint, "damaged" where its recipe cannot be read, else "stopped".
        writer: Which process, of one that is training.
        problem: Why it is damaged.
        stages: Decoders.
        iteration: The last one that metrics.jsonl or a checkpoint tells.
        iterations: Of the recipe.
        images: Seen so far.
        loss: The last one.
        loss_by_stage: Likewise; None where a stage saw no image.
        flops: Spent so far; None where there is no ledger.
        checkpoints: Iterations of those that are kept.
        samples: A contact sheet, relative to the folder; empty where there is none.
        held_out_loss: Of the last look; None where there was none.
        held_out_loss_by_stage: Likewise.
    """

    path: str
    title: str = ""
    state: State
    writer: str = ""
    problem: str = ""
    stages: int = 0
    iteration: int = 0
    iterations: int = 0
    images: int = 0
    loss: float | None = None
    loss_by_stage: tuple[float | None, ...] = ()
    flops: float | None = None
    checkpoints: tuple[int, ...] = ()
    samples: str = ""
    held_out_loss: float | None = None
    held_out_loss_by_stage: tuple[float | None, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """An object of `msdk runs --json`."""
        return to_json(self)


def runs_below(folder: Path) -> list[RunSummary]:
    """The runs of a folder: itself, or those in it and in folders of it, in the order of their paths.

    Raises:
        RunError: There is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}: give the one that holds run folders")
    return [summary(path) for path in _run_folders(folder, depth=4)]


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "recipe.toml").is_file() and (folder / "lock.json").is_file():
        yield folder
    elif depth:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
                yield from _run_folders(inner, depth - 1)


def summary(path: Path) -> RunSummary:
    """What a run folder says; one whose recipe cannot be read is told as damaged."""
    writer = written_by(path)
    try:
        recipe = run_recipe(path)
    except MsdkError as error:
        return RunSummary(path=str(path), state="damaged", writer=writer, problem=str(error))
    lines = lines_of(path)
    last = lines[-1] if lines else None
    kept = tuple(int(each.name) for each in checkpoints(path))
    iteration = max([last.iteration if last else 0, *kept])
    state: State = "stopped" if iteration else "new"
    if writer:
        state = "training"
    elif iteration >= recipe.training.iterations or _ended(path):
        state = "done"
    sheet = sorted(path.glob("samples*/grid.png")) or sorted(path.glob("sheets/*.png"))
    look = next((line for line in reversed(lines) if line.held_out_loss_by_stage), None)
    return RunSummary(
        path=str(path),
        title=recipe.title,
        state=state,
        writer=writer,
        stages=len(recipe.decoders),
        iteration=iteration,
        iterations=recipe.training.iterations,
        images=sum(last.images_by_stage) if last else 0,
        loss=last.loss if last else None,
        loss_by_stage=last.loss_by_stage if last else (),
        flops=last.flops if last else None,
        checkpoints=kept,
        samples=str(sheet[-1].relative_to(path)) if sheet else "",
        held_out_loss=look.held_out_loss if look else None,
        held_out_loss_by_stage=look.held_out_loss_by_stage if look else (),
    )


def lines_of(run: Path) -> list[Line]:
    """The lines of metrics.jsonl that tell of a step; what a crash cut short or is none is left out."""
    try:
        content = (run / "metrics.jsonl").read_bytes().splitlines()
    except OSError:
        return []
    prices = prices_of(run)
    found: list[Line] = []
    for each in content:
        try:
            told = json.loads(each)
            seen = tuple(int(images) for images in told["images_by_stage"])
            found.append(
                Line(
                    int(told["iteration"]),
                    float(told["loss"]),
                    tuple(None if loss is None else float(loss) for loss in told["loss_by_stage"]),
                    seen,
                    spent_on(seen, prices),
                    _number(told.get("held_out_loss")),
                    tuple(map(_number, told.get("held_out_loss_by_stage", ()))),
                )
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _ended(run: Path) -> bool:
    """Whether `training.stop` ended a training, as its ledger says."""
    try:
        return json.loads((run / "ledger.json").read_bytes())["stopping"]["ended"] is True
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False
