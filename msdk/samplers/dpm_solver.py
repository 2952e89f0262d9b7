"""DPM-Solver: singlestep solvers of order 1 to 3 in the noise prediction."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from attrs.validators import deep_iterable, ge, gt, le, optional

from msdk.samplers.base import Denoise, Noise, Sampler
from msdk.samplers.grids import Grid, spaced, time_grid
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

LAST_ORDERS = {1: [()], 2: [(), (1,)], 3: [(2, 1), (1,), (2,)]}
"""Orders of the last intervals by (order, calls modulo order), as the published program spends any number of calls."""


@attrs.frozen(kw_only=True)
class DPMSolver(Sampler):
    """Singlestep DPM-Solver: an interval of order n makes n calls, at its start and at n - 1 times inside it.

    With h = lam_s - lam_t, inner times u_i at lam_t + r_i h, e = eps at t, d_i = eps at u_i - e and
    first(u) = alpha_u / alpha_t x_t - sigma_u (exp(lam_u - lam_t) - 1) e:
    order 1: x_s = first(s);
    order 2: x_s = first(s) - sigma_s (exp(h) - 1) / (2 r_1) d_1, where u_1 is reached by order 1;
    order 3: x_s = first(s) - sigma_s ((exp(h) - 1) / h - 1) / r_2 d_2, where u_2 is reached by
    first(u_2) - r_2 / r_1 sigma_u ((exp(r_2 h) - 1) / (r_2 h) - 1) d_1.
    The inner times are spaced as the grid is, so r_i = i / n on the "uniform-lam" grid alone; on the others the
    measured order drops to about 2, as in the published program.
    Source: Lu et al. 2022, arXiv 2206.00927, Algorithms 1 and 2 and appendix D.

    Args:
        order: Order of all intervals but the last ones.
        last_orders: Orders of the last intervals, which let any number of calls be spent: `sampling.nfe` sets them as
            the published program does (order 3: [2, 1], [1] or [2]) where those given cannot make that many calls.
            When not given: [2] for order 3, otherwise none.
        grid: How the times are spaced, see `msdk.samplers.grids`.
        rho: Exponent of the "rho" grid.
        t_end: Last time of the grid; the schedule's `t_min` if that is larger.
        final_denoise: Whether one more call at `t_end` replaces the sample by its estimate of x_0.
    """

    # The base declares a constant of the class, because every other solver has one order.
    order: int = attrs.field(default=3, validator=[ge(1), le(3)])  # pyright: ignore[reportIncompatibleVariableOverride]
    last_orders: tuple[int, ...] | None = attrs.field(default=None, validator=optional(deep_iterable([ge(1), le(3)])))
    grid: Grid = "uniform-lam"
    rho: float = attrs.field(default=7.0, validator=gt(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))
    final_denoise: bool = False

    def orders(self, steps: int) -> tuple[int, ...]:
        """The order of each interval of the grid."""
        last = self._last()[max(len(self._last()) - steps, 0) :]
        return (self.order,) * (steps - len(last)) + last

    def _last(self) -> tuple[int, ...]:
        if self.last_orders is None:
            return (2,) if self.order == 3 else ()
        return self.last_orders

    def spending(self, nfe: int) -> "DPMSolver":
        calls = nfe - self.final_denoise
        rest = calls - sum(self._last())
        if rest >= 0 and rest % self.order == 0:
            return self
        return attrs.evolve(self, last_orders=LAST_ORDERS[self.order][calls % self.order])

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        orders = self.orders(steps)
        if self.grid == "uniform-lam":
            nodes = time_grid(self.grid, schedule, steps, self.t_end, self.rho)
        else:  # intervals as long as the calls that they get
            fine = time_grid(self.grid, schedule, sum(orders), self.t_end, self.rho)
            nodes = [fine[sum(orders[:index])] for index in range(steps + 1)]
        return [*nodes, 0.0] if self.final_denoise else nodes

    def calls(self, steps: int) -> list[int]:
        return [*self.orders(steps), *[1] * self.final_denoise]

    def init(self, times: Sequence[float]) -> tuple[int, ...]:
        return self.orders(sum(t > 0 for t in times) - 1)

    def step(
        self,
        denoise: Denoise,
        schedule: Schedule,
        x_t: "Tensor",
        t: float,
        s: float,
        memory: tuple[int, ...],
        noise: Noise,
    ) -> "tuple[Tensor, tuple[int, ...]]":
        if s == 0:
            return denoise(x_t, t), memory
        order, later = memory[0], memory[1:]

        def eps(x_u: "Tensor", u: float) -> "Tensor":
            return (x_u - schedule.alpha(u) * denoise(x_u, u)) / schedule.sigma(u)

        def first(u: float) -> "Tensor":
            decay = schedule.alpha(u) / schedule.alpha(t)
            return decay * x_t - schedule.sigma(u) * math.expm1(schedule.lam(u) - schedule.lam(t)) * eps_t

        eps_t = eps(x_t, t)
        if order == 1:
            return first(s), later
        _, *inner, _ = spaced(self.grid, schedule, t, s, order, self.rho)
        h = schedule.lam(s) - schedule.lam(t)
        r = [(schedule.lam(u) - schedule.lam(t)) / h for u in inner]
        d_1 = eps(first(inner[0]), inner[0]) - eps_t
        if order == 2:
            return first(s) - schedule.sigma(s) * math.expm1(h) / (2 * r[0]) * d_1, later
        x_2 = first(inner[1]) - r[1] / r[0] * schedule.sigma(inner[1]) * _excess(r[1] * h) * d_1
        d_2 = eps(x_2, inner[1]) - eps_t
        return first(s) - schedule.sigma(s) * _excess(h) / r[1] * d_2, later


def _excess(h: float) -> float:
    """(exp(h) - 1) / h - 1."""
    return math.expm1(h) / h - 1
