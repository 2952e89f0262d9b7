"""What the network is fed, and what its output means.

Every parameterisation is four numbers per noise level: the clean image is estimated as
`x_0 = c_skip x_t + c_out F(c_in x_t, c_noise)`. The training target of `F` and its loss scale follow from them.
"""

import abc
from typing import TYPE_CHECKING, Generic

import attrs

from msdk.schedules.base import Schedule, Time, functions

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Coefficients(Generic[Time]):
    """`x_0 = c_skip x_t + c_out F(c_in x_t, c_noise)`; all floats, or all tensors of the shape of `t`."""

    c_skip: Time
    c_out: Time
    c_in: Time
    c_noise: Time


class Parameterization(abc.ABC):
    """A preconditioning of the network. Concrete ones are frozen attrs classes."""

    @abc.abstractmethod
    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        """The four coefficients at a time of a schedule."""

    def target_weights(self, schedule: Schedule, t: "Tensor") -> "tuple[Tensor, Tensor]":
        """`(a, b)` of the network's regression target `a x_0 + b eps`.

        Solving `x_0 = c_skip (alpha x_0 + sigma eps) + c_out F` for F. The caller passes float64 times, so that the
        cancellation near the data (1 - c_skip alpha) does no harm.
        """
        c = self.coefficients(schedule, t)
        return (1 - c.c_skip * schedule.alpha(t)) / c.c_out, -c.c_skip * schedule.sigma(t) / c.c_out


def fed_time(t: Time, scale: float, offset: float) -> Time:
    """What networks are fed that take the time itself: `scale * t + offset`."""
    return scale * t + offset


def noise_of_unit_input(schedule: Schedule, t: Time, *, c_noise: Time) -> Coefficients[Time]:
    """EDM's preconditioning of networks that predict the noise from inputs of unit variance.

    x_0 = y - r F(y / sqrt(r^2 + 1), c_noise) with r = sigma / alpha and y = x_t / alpha.
    Source: Karras et al. 2022, arXiv 2206.00364, Table 1, columns VP and iDDPM.
    """
    ratio, alpha = schedule.ratio(t), schedule.alpha(t)
    c_in = 1 / (functions(t).sqrt(ratio * ratio + 1) * alpha)
    return Coefficients(c_skip=1 / alpha, c_out=-ratio, c_in=c_in, c_noise=c_noise)
