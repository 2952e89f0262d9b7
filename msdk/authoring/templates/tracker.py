"""A tracker: the spec that a recipe holds, and what takes the numbers of a run."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from msdk.trackers.base import Log, Numbers, Tracker

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class MyTracker(Tracker):
    """A table of losses, for spreadsheets.

    Args:
        file: Its name in the run folder.
    """

    file: str = "losses.csv"

    def open(self, run_dir: Path, recipe: "Recipe") -> Log:
        return _Table(run_dir / self.file)


@attrs.frozen
class _Table(Log):
    path: Path

    def log(self, step: int, numbers: Numbers) -> None:
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([step, numbers["loss"]])

    def image(self, name: str, step: int, image: "Tensor") -> None:
        pass  # a table of numbers holds none

    def rewind(self, step: int) -> None:
        # A run that was killed goes on from its last checkpoint, and tells the steps after it again.
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            self.path.write_text("".join(line for line in lines if int(line.split(",")[0]) <= step), encoding="utf-8")

    def close(self) -> None:
        pass  # every line is written at once
