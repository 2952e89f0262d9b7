"""The weight of a noise level in the training loss.

A weighting is stated for the squared error of the clean image, because that means the same under every
parameterisation; the loss multiplies it by `c_out^2` to apply it to the network's own output.
"""

import abc

from msdk.schedules.base import Schedule, Time


class Weighting(abc.ABC):
    """Loss weight by noise level. Concrete ones are frozen attrs classes."""

    @abc.abstractmethod
    def weight(self, schedule: Schedule, t: Time) -> Time:
        """Weight of `|x_0 estimate - x_0|^2`, per dimension, at a time of a schedule."""
