"""Variance-preserving schedules that are tables of steps, read between the steps too."""

import bisect
import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs.validators import ge, gt, lt, optional

from msdk.errors import PartError
from msdk.schedules.base import Schedule, Time, functions, refuse_falling_beta

if TYPE_CHECKING:
    from torch import Tensor


NOTHING_LEFT = 1e-10
"""Alpha of the last step of tables with a terminal SNR of zero: no image is left in any precision, and logarithms and
ratios stay finite."""


@functools.cache
def _rescaled(logs: tuple[float, ...]) -> tuple[float, ...]:
    """Log alphas moved and stretched so that the first stays and the last is that of `NOTHING_LEFT`."""
    first, last = math.exp(logs[0]), math.exp(logs[-1])
    stretched = ((math.exp(log) - last) * (first / (first - last)) for log in logs[:-1])
    return (*map(math.log, stretched), math.log(NOTHING_LEFT))


@functools.cache
def _log_alphas(steps: int, beta_min: float, beta_max: float, spacing: str) -> tuple[float, ...]:
    """Log alpha after each step; "cosine" has no use of the first beta, and caps all at the last."""
    if spacing == "cosine":

        def kept(share: float) -> float:
            return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

        shares = [i / steps for i in range(steps + 1)]
        betas = (min(1 - kept(after) / kept(before), beta_max) for before, after in itertools.pairwise(shares))
        return tuple(itertools.accumulate(math.log1p(-beta) / 2 for beta in betas))
    low, high = (beta_min, beta_max) if spacing == "linear" else (math.sqrt(beta_min), math.sqrt(beta_max))
    betas = (low + (high - low) * i / (steps - 1) for i in range(steps))
    logs = (math.log1p(-(beta if spacing == "linear" else beta * beta)) / 2 for beta in betas)
    return tuple(itertools.accumulate(logs))


@attrs.frozen(kw_only=True)
class VPDiscrete(Schedule):
    """DDPM's steps: step i = 0 .. steps - 1 is at t = (i + 1) / steps; log alpha is piecewise linear between them.

    Source: Ho et al. 2020, arXiv 2006.11239, section 4; the reading between steps is DPM-Solver's (Lu et al. 2022,
    arXiv 2206.00927, appendix D.4).

    Args:
        steps: Number of steps.
        beta_min: Variance that the first step adds.
        beta_max: Variance that the last step adds.
        spacing: Whether the betas ("linear") or their square roots ("scaled-linear") are evenly spaced; "cosine" is
            iDDPM's law (Nichol and Dhariwal 2021, arXiv 2102.09672, Eq. 17), see `vp-iddpm-cosine`.
        zero_terminal_snr: Whether the table is rescaled so that nothing is left of the image in the last step (Lin et
            al. 2023, arXiv 2305.08891, Algorithm 1). The network must not predict the noise then: use `v`, `x0` or
            `velocity`.
        clock: "steps" is the above. "held" is score_sde's: step i starts at t = i / (steps - 1) and holds until the
            next one starts, as its discrete checkpoints look their tables up.
        part_of: Steps of a table of which these are a part, evenly strided from its first step ("ddimN" of
            improved-diffusion): the law is that of the whole table. A whole number of strides must make it.
    """

    steps: int = attrs.field(default=1000, validator=ge(2))
    beta_min: float = attrs.field(default=1e-4, validator=[gt(0), lt(1)])
    beta_max: float = attrs.field(default=0.02, validator=[gt(0), lt(1)])
    spacing: Literal["linear", "scaled-linear", "cosine"] = "linear"
    clock: Literal["steps", "held"] = "steps"
    zero_terminal_snr: bool = False
    part_of: int | None = attrs.field(default=None, validator=optional(ge(2)))

    def __attrs_post_init__(self) -> None:
        if self.part_of is not None and self.part_of % self.steps:
            raise PartError(f"part_of = {self.part_of} is no multiple of steps = {self.steps}: no stride makes them")
        if self.spacing != "cosine":  # which has no use of beta_min
            refuse_falling_beta(self.beta_min, self.beta_max)

    @property
    def t_min(self) -> float:
        return 1 / self.steps if self.clock == "steps" else 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def prior_std(self) -> float:
        return 1.0

    @property
    def _table(self) -> tuple[float, ...]:
        whole = self.part_of or self.steps
        logs = _log_alphas(whole, self.beta_min, self.beta_max, self.spacing)[:: whole // self.steps]
        return _rescaled(logs) if self.zero_terminal_snr else logs

    def kinks(self, low: float, high: float) -> Sequence[float]:
        pace = self.steps if self.clock == "steps" else self.steps - 1
        times = (step / pace for step in range(math.floor(low * pace), math.ceil(high * pace) + 1))
        return [t for t in times if low < t < high]

    def log_alpha(self, t: Any) -> Any:
        """Between two steps on their straight line; outside them on that of the nearest two."""
        table, place = self._table, self._place(t)
        if isinstance(place, float):
            left = min(max(math.floor(place), 0), self.steps - 2)
            return table[left] + (place - left) * (table[left + 1] - table[left])
        values = _tensor(table, place)
        left = place.floor().clamp(0, self.steps - 2)
        index = left.long()
        return values[index] + (place - left) * (values[index + 1] - values[index])

    def _place(self, t: Any) -> Any:
        if self.clock == "steps":
            return t * self.steps - 1
        start = t * (self.steps - 1) + 1e-4  # so that a step's own time, which may be rounded down, is in it
        return float(math.floor(start)) if isinstance(start, float) else start.floor()

    def alpha(self, t: Time) -> Time:
        return functions(t).exp(self.log_alpha(t))

    def sigma(self, t: Time) -> Time:
        maths = functions(t)
        return maths.sqrt(-maths.expm1(2 * self.log_alpha(t)))

    def f(self, t: Any) -> Any:
        """The slope of log alpha between the two steps around t; of the earlier two at a step itself."""
        table, place = self._table, self._place(t)
        pace = self.steps if self.clock == "steps" else self.steps - 1
        if isinstance(place, float):
            left = min(max(math.ceil(place - 1e-9) - 1, 0), self.steps - 2)
            return pace * (table[left + 1] - table[left])
        values = _tensor(table, place)
        index = ((place - 1e-9).ceil() - 1).clamp(0, self.steps - 2).long()
        return pace * (values[index + 1] - values[index])

    def g2(self, t: Any) -> Any:
        return -2 * self.f(t)

    def t_of_ratio(self, ratio: Time) -> Time:
        table, maths = self._table, functions(ratio)
        wanted: Any = -maths.log1p(ratio * ratio) / 2
        place: Any
        if isinstance(wanted, float):
            left = min(max(bisect.bisect_left(table, -wanted, key=lambda log: -log) - 1, 0), self.steps - 2)
            place = left + (wanted - table[left]) / (table[left + 1] - table[left])
        else:
            values = _tensor(table, wanted)
            index = (maths.searchsorted(-values, -wanted) - 1).clamp(0, self.steps - 2)
            place = index + (wanted - values[index]) / (values[index + 1] - values[index])
        return (place + 1) / self.steps if self.clock == "steps" else place / (self.steps - 1)


@attrs.frozen(kw_only=True)
class VPScaledLinear(VPDiscrete):
    """Latent diffusion's steps: the square roots of the betas are evenly spaced; the defaults are its CelebA model's.

    Source: Rombach et al. 2022, arXiv 2112.10752.
    """

    beta_min: float = attrs.field(default=0.0015, validator=[gt(0), lt(1)])
    beta_max: float = attrs.field(default=0.0195, validator=[gt(0), lt(1)])
    spacing: Literal["linear", "scaled-linear", "cosine"] = "scaled-linear"


@attrs.frozen(kw_only=True)
class VPIDDPMCosine(VPDiscrete):
    """iDDPM's steps: alpha^2 falls as a squared cosine, no beta exceeds `beta_max`.

    Source: Nichol and Dhariwal 2021, arXiv 2102.09672, Eq. 17.
    """

    beta_max: float = attrs.field(default=0.999, validator=[gt(0), lt(1)])
    spacing: Literal["linear", "scaled-linear", "cosine"] = "cosine"


def _tensor(table: tuple[float, ...], like: Any) -> "Tensor":
    import torch

    return torch.tensor(table, dtype=like.dtype, device=like.device)
