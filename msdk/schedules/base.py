"""What a noise schedule is: two functions of time and one inverse.

The forward kernel is `x_t = alpha(t) x_0 + sigma(t) eps`, with `eps ~ N(0, I)`. Everything a stage, a loss weight or a
deterministic sampler needs follows from `ratio = sigma / alpha`, which grows with `t`.
"""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import Tensor

Time = TypeVar("Time", float, "Tensor")
"""A time (or ratio) is a Python float, for one value known on the host, or a tensor of any shape."""


NO_DRIFT = "has no drift f and diffusion g2, which samplers over time itself and velocities need"
"""What is said of a schedule that does not say how x_t moves."""


def functions(t: "float | Tensor") -> Any:
    """`math` for a float and `torch` for a tensor: exp, log, sqrt, expm1, log1p have one name in both.

    A float never touches torch, so a sampler's step and a recipe check cost microseconds and no import.
    """
    if isinstance(t, (int, float)):
        return math
    import torch

    return torch


class Schedule(abc.ABC):
    """A noise schedule. Concrete schedules are frozen attrs classes; all methods take a float or a tensor.

    Attributes:
        t_min: Smallest time, nearest the data.
        t_max: Largest time, where the prior is.
        prior_std: Standard deviation of the prior that samplers start from.
        diffuses: Whether it is a diffusion, dx = f x dt + g dw, that SDE samplers can run; a flow is none.
        trainable: Whether noise of its own kernel is what its networks are trained with. Schedules whose networks see
            another noise say no: an objective of their own trains those, or samplers alone know them.
        objective: Name of the objective that draws the noise of a schedule that is not trainable; "" where none does.
        feeds: Times the image's channels that its networks are fed; 2 where the state has velocities as well.
        default_grid: The grid of `msdk.samplers.grids` that suits its time: of samplers that leave `grid` to the
            schedule, and the clock on which clusterings look at time. Even in t unless it says otherwise, which is
            wrong where t is a noise level itself: nearly all of its range is noise.
        default_noise: The law of training times that suits it, as a recipe would name it: of recipes that leave
            `training.noise` out. Even in t unless it says otherwise.
    """

    diffuses: ClassVar[bool] = True
    trainable: ClassVar[bool] = True
    objective: ClassVar[str] = ""
    feeds: ClassVar[int] = 1
    default_grid: ClassVar[str] = "uniform-t"
    default_noise: ClassVar[Mapping[str, Any]] = {"name": "msdk:uniform"}

    @property
    @abc.abstractmethod
    def t_min(self) -> float: ...

    @property
    @abc.abstractmethod
    def t_max(self) -> float: ...

    @property
    @abc.abstractmethod
    def prior_std(self) -> float: ...

    @abc.abstractmethod
    def alpha(self, t: Time) -> Time:
        """Scale of the clean image in `x_t`."""

    @abc.abstractmethod
    def sigma(self, t: Time) -> Time:
        """Standard deviation of the noise in `x_t`."""

    @abc.abstractmethod
    def t_of_ratio(self, ratio: Time) -> Time:
        """The inverse of `ratio`."""

    def f(self, t: Time) -> Time:
        """Drift: d log alpha / dt.

        Raises:
            PartError: The schedule does not say; only samplers that integrate over time itself need it.
        """
        raise PartError(f"{type(self).__name__} {NO_DRIFT}")

    def g2(self, t: Time) -> Time:
        """Squared diffusion: d sigma^2 / dt - 2 f sigma^2. Raises as `f` does."""
        raise PartError(f"{type(self).__name__} {NO_DRIFT}")

    @property
    def seen(self) -> "Schedule":
        """What parameterisations look at: itself, unless networks see more of the image than x_t."""
        return self

    def weights(self, t: Time) -> tuple[Any, ...]:
        """What each part of a network's input counts in the one that it is said to see: x_t alone, as a rule."""
        return (t * 0 + 1,)

    def slopes(self, t: Time) -> tuple[Time, Time]:
        """D alpha / dt and d sigma / dt, along which x_t moves; from `f` and `g2` unless a schedule says it better.

        Raises:
            PartError: The schedule does not say; only what predicts velocities needs it.
        """
        sigma, f = self.sigma(t), self.f(t)
        return f * self.alpha(t), (self.g2(t) + 2 * f * sigma * sigma) / (2 * sigma)

    def kinks(self, low: float, high: float) -> Sequence[float]:
        """Times between two others at which `f` and `g2` jump: none, but for schedules that are tables."""
        return ()

    def ratio(self, t: Time) -> Time:
        """`sigma / alpha`: the paper's sigma_t and EDM's sigma. Stage edges live here."""
        return self.sigma(t) / self.alpha(t)

    def lam(self, t: Time) -> Time:
        """`log(alpha / sigma)`, half the log signal-to-noise ratio."""
        return -functions(t).log(self.ratio(t))

    def t_of_lam(self, lam: Time) -> Time:
        """The inverse of `lam`."""
        return self.t_of_ratio(functions(lam).exp(-lam))


def refuse_falling_beta(beta_min: float, beta_max: float) -> None:
    """Raises `PartError` where noise would come ever slower: nearly always both were swapped."""
    if beta_min > beta_max:
        raise PartError(f"beta_min = {beta_min} must not be above beta_max = {beta_max}")


def linear_beta_time(excess: Time, beta_min: float, beta_max: float) -> Time:
    """The time at which the linear-beta diffusion has -2 log alpha = `excess`, for VP log(1 + ratio^2).

    It is a quadratic in t; this form of its root does not cancel near the data.
    """
    maths = functions(excess)
    slope = beta_max - beta_min
    return 2 * excess / (maths.sqrt(beta_min**2 + 2 * slope * excess) + beta_min)
