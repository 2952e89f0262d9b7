"""The trackers that a recipe adds, none of which ends a training."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from msdk.errors import cut
from msdk.registry.describing import in_words
from msdk.trackers.base import METRICS, Log, Numbers, Tracker

if TYPE_CHECKING:
    from torch import Tensor


@attrs.define
class Shielded(Log):
    """A tracker that hears no more once it has failed, which is told once.

    Servers go away and disks of others fill up in the middle of a training that takes days; metrics.jsonl has all.
    """

    spec: Tracker
    behind: Log
    warn: Callable[[str], None]
    failed: bool = False

    def log(self, step: int, numbers: Numbers) -> None:
        self._try(f"at iteration {step}", lambda: self.behind.log(step, numbers))

    def image(self, name: str, step: int, image: "Tensor") -> None:
        self._try(f"at iteration {step}", lambda: self.behind.image(name, step, image))

    def rewind(self, step: int) -> None:
        self._try(f"where the run goes on from iteration {step}", lambda: self.behind.rewind(step))

    def close(self) -> None:
        was, self.failed = self.failed, False  # what it holds is given back in any case
        self._try("" if was else "at the end", self.behind.close)
        self.failed = was or self.failed

    def _try(self, when: str, tell: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            tell()
        except Exception as error:
            self.failed = True
            if when:
                what = cut(f"{type(error).__name__}: {error}", 300)
                self.warn(
                    f"{in_words(self.spec)} failed {when} and is told no more: {what}. Training goes on, and {METRICS} "
                    "has every step"
                )
