"""metrics.jsonl: the truth of a run, a line of JSON for each step that is told."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from msdk.runs.files import append_text, write_text
from msdk.trackers.base import METRICS, Log, Numbers, Tracker, told_lines

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class JSONL(Tracker):
    """metrics.jsonl in the run folder. Every run has it; a recipe does not name it. It holds no images."""

    def open(self, run_dir: Path, recipe: "Recipe") -> Log:
        return _Lines(run_dir / METRICS)


@attrs.frozen
class _Lines(Log):
    path: Path

    def log(self, step: int, numbers: Numbers) -> None:
        append_text(self.path, json.dumps({"iteration": step, **numbers}) + "\n")

    def image(self, name: str, step: int, image: "Tensor") -> None:
        pass

    def rewind(self, step: int) -> None:
        if self.path.is_file():
            write_text(self.path, "".join(line for _, line in told_lines(self.path, step)))

    def close(self) -> None:
        pass


def last_numbers(run: Path) -> tuple[float, tuple[float, ...]] | None:
    """The loss that the last line tells, and that of each stage, nan where it saw no image; None without a line."""
    try:
        found = json.loads((run / METRICS).read_bytes().splitlines()[-1])
        by_stage = tuple(math.nan if loss is None else float(loss) for loss in found["loss_by_stage"])
        return float(found["loss"]), by_stage
    except (OSError, IndexError, ValueError, TypeError, KeyError, RecursionError):
        return None
