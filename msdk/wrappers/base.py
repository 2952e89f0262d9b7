"""What stands between a sampler and the network: any sampler takes a wrapped network in the place of a plain one.

A wrapper makes no network calls of its own, so it changes no budget.
"""

import abc
from collections.abc import Iterable
from typing import ClassVar

from msdk.samplers.base import Denoise
from msdk.schedules.base import Schedule


class Wrapper(abc.ABC):
    """A change of the estimate of x_0. Concrete ones are frozen attrs classes.

    Attributes:
        pixels: Whether it counts on pixels in [-1, 1], so that latents, or images in [0, 1], are none of its business.
    """

    pixels: ClassVar[bool] = False

    @abc.abstractmethod
    def around(self, denoise: Denoise, schedule: Schedule) -> Denoise:
        """An estimate that calls `denoise` once for each of its own calls, image by image independent of the batch."""


def wrapped(denoise: Denoise, schedule: Schedule, wrappers: Iterable[Wrapper]) -> Denoise:
    """The network with wrappers around it, each around those before it, so that the last has the last word."""
    for wrapper in wrappers:
        denoise = wrapper.around(denoise, schedule)
    return denoise
