"""metrics.jsonl: the truth of a run, a line of JSON for each step that is told."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from msdk.runs.files import append_text, write_text
from msdk.trackers.base import Log, Numbers, Tracker

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class JSONL(Tracker):
    """metrics.jsonl in the run folder. Every run has it; a recipe does not name it. It holds no images."""

    def open(self, run_dir: Path, recipe: "Recipe") -> Log:
        return _Lines(run_dir / "metrics.jsonl")


@attrs.frozen
class _Lines(Log):
    path: Path

    def log(self, step: int, numbers: Numbers) -> None:
        append_text(self.path, json.dumps({"iteration": step, **numbers}) + "\n")

    def image(self, name: str, step: int, image: "Tensor") -> None:
        pass

    def rewind(self, step: int) -> None:
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(self.path, "".join(line for line in lines if _iteration(line) <= step))

    def close(self) -> None:
        pass


def _iteration(line: str) -> float:
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError):
        return math.inf  # a line that a crash cut short
