"""What a clustering strategy is: settings, and a function from a schedule and images to stage edges."""

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Found:
    """The result of a strategy.

    Attributes:
        edges_t: Interior edges, ascending, in the time of the schedule.
        curves: Name -> values, for plots: what the strategy looked at.
    """

    edges_t: tuple[float, ...]
    curves: Mapping[str, list[float]]


Images = Callable[[], "Tensor"]
"""Loads the training images, uint8 [n, c, h, w]; only strategies that look at data call it."""

Progress = Callable[[int, int], None]
"""Told (done, total) after each piece of work."""


class Clustering(abc.ABC):
    """A strategy. Concrete ones are frozen attrs classes whose fields are its settings.

    Attributes:
        stages: How many stages it makes.
        looks_at_data: Whether `find` needs images.
    """

    stages: int
    looks_at_data: ClassVar[bool]

    @abc.abstractmethod
    def find(self, schedule: Schedule, images: Images, *, seed: int, device: str, progress: Progress) -> Found:
        """Finds the edges.

        Raises:
            PartError: The settings allow no edges; the message says what would.
        """
