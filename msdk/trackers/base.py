"""Where a run tells how it goes: numbers and images by step, each step once, also where a killed run repeats some."""

import abc
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdk.errors import RunError
from msdk.trackers import registry

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.recipe import Recipe

Number = float | int | None
"""A number of a run; None where there is none, as the loss of a stage that saw no image."""

Numbers = Mapping[str, Number | Sequence[Number]]
"""Numbers by name; those by stage are sequences, least noise first.

Training tells `images`, `loss`, `loss_by_stage`, `images_by_stage` (since the first step), `expected_images_by_stage`
(by the recipe, for the same steps), `lr`, `images_per_second`, `seconds`, `gradient_norm`, `data_seconds` and
`memory_peak_bytes`; on CUDA `cuda_peak_bytes`, in float16 `loss_scale`. Where gradients are
looked at stage by stage, `gradient_cosine` (stages 0 and 1, 0 and 2, ..., 1 and 2, ...) and `gradient_norm_by_stage`.
Where held-out images are looked at,
`held_out_loss` and `held_out_loss_by_stage` at each look, and `held_out_images_by_stage`; where training stops by them
`frozen_by_stage`; and with contact sheets, which are images named "samples", `sampled_calls_by_stage`.
"""

ALWAYS = registry.record.always
"""Trackers that every run has; a recipe's `[[trackers]]` come on top."""


def scalars(numbers: Numbers) -> Iterator[tuple[str, float]]:
    """The numbers that there are, one by one, for what knows no sequences: `loss`, `loss_by_stage/0`, ..."""
    for name, value in numbers.items():
        many = isinstance(value, Sequence)
        for index, number in enumerate(value if many else (value,)):
            if number is not None:
                yield f"{name}/{index}" if many else name, number


METRICS = "metrics.jsonl"
"""The truth of a run in its folder, a line of JSON for each step that is told: `iteration`, and the numbers."""


def told(run_dir: Path, until: int) -> Iterator[tuple[int, Numbers]]:
    """What a run has told of its steps up to `until`, by metrics.jsonl: step and numbers.

    Raises:
        RunError: The file is damaged.
    """
    if (run_dir / METRICS).is_file():
        for step, line in told_lines(run_dir / METRICS, until):
            numbers = json.loads(line)
            del numbers["iteration"]
            yield step, numbers


def told_lines(path: Path, until: int) -> Iterator[tuple[int, str]]:
    """The lines of a metrics.jsonl up to the step `until`. The last one may be one that a crash cut short.

    Raises:
        RunError: A line before the last one is no metrics of a step.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        step = _iteration(line)
        if step is None and number < len(lines):
            raise RunError(f"{path} is damaged: line {number} is no metrics of a step. Mend or remove it")
        if step is not None and step <= until:
            yield step, line.decode()


def _iteration(line: bytes) -> int | None:
    try:
        found = json.loads(line)["iteration"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if type(found) is int else None


class Log(abc.ABC):
    """A tracker of one run.

    What goes wrong in a tracker of a recipe ends no training: it is told once, and the tracker hears no more. What it
    lacks then, or where it was added to a run later, it finds in metrics.jsonl when the run goes on, see `told`.
    """

    @abc.abstractmethod
    def log(self, step: int, numbers: Numbers) -> None:
        """Takes the numbers after a step, steps in ascending order."""

    @abc.abstractmethod
    def image(self, name: str, step: int, image: "Tensor") -> None:
        """Takes an image after a step: uint8 [channels, height, width]. Trackers that show none leave it."""

    @abc.abstractmethod
    def rewind(self, step: int) -> None:
        """Forgets what was told after a step: a run that goes on from its checkpoint tells it again.

        metrics.jsonl ends at that step then, and may say more of the steps before than this tracker was told.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Writes what is still to be written. Nothing is told after it."""


class Tracker(abc.ABC):
    """Spec of a tracker. Concrete ones are frozen attrs classes."""

    @abc.abstractmethod
    def open(self, run_dir: Path, recipe: "Recipe") -> Log:
        """A tracker of a run. Nothing is written before the first number, as the folder may not be there yet.

        Raises:
            MsdkError: What it needs is missing; the message says how to get it.
        """
