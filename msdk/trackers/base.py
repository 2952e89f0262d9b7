"""Where a run tells how it goes: numbers and images by step, each step once, also where a killed run repeats some."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
`memory_peak_bytes`; on CUDA `cuda_peak_bytes`, in float16 `loss_scale`. Where held-out images are looked at,
`held_out_loss` and `held_out_loss_by_stage` at each look, and `held_out_images_by_stage`; where training stops by them
`frozen_by_stage`; and with contact sheets, which are images named "samples", `sampled_calls_by_stage`.
"""

ALWAYS = registry.record.always
"""Trackers that every run has; a recipe's `[[trackers]]` come on top."""


class Log(abc.ABC):
    """A tracker of one run."""

    @abc.abstractmethod
    def log(self, step: int, numbers: Numbers) -> None:
        """Takes the numbers after a step, steps in ascending order."""

    @abc.abstractmethod
    def image(self, name: str, step: int, image: "Tensor") -> None:
        """Takes an image after a step: uint8 [channels, height, width]. Trackers that show none leave it."""

    @abc.abstractmethod
    def rewind(self, step: int) -> None:
        """Forgets what was told after a step: a run that goes on from its checkpoint tells it again."""

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
