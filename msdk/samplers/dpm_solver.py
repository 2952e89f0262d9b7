"""DPM-Solver and DPM-Solver++: one step of either, and the solvers that make every step anew (singlestep, adaptive)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, in_, le, optional

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Noise, Sampler
from msdk.samplers.grids import TO_CLEAN, Grid, spaced, then_clean, time_grid
from msdk.samplers.step_size import Past, StepSize
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

Algorithm = Literal["dpmsolver", "dpmsolver++"]
"""What is held constant over a step: the estimate of the noise (DPM-Solver), or of the data (DPM-Solver++)."""

SolverType = Literal["dpmsolver", "taylor"]

LAST_ORDERS = {1: [()], 2: [(), (1,)], 3: [(2, 1), (1,), (2,)]}
"""Orders of the last intervals by (order, calls modulo order), as the published program spends any number of calls."""


@attrs.frozen
class Way:
    """From t to s: x_s = decay x_t - scale (exp(h) - 1) m_t, and corrections, where m is the estimate that is held.

    DPM-Solver, m = eps: decay = alpha_s / alpha_t, scale = sigma_s, h = lam_s - lam_t. DPM-Solver++, m = x_0:
    decay = sigma_s / sigma_t, scale = alpha_s, h = lam_t - lam_s. So both are one formula.
    """

    decay: float
    scale: float
    h: float

    @classmethod
    def of(cls, algorithm: Algorithm, schedule: Schedule, t: float, s: float) -> "Way":
        gap = schedule.lam(s) - schedule.lam(t)
        if algorithm == "dpmsolver":
            return cls(schedule.alpha(s) / schedule.alpha(t), schedule.sigma(s), gap)
        return cls(schedule.sigma(s) / schedule.sigma(t), schedule.alpha(s), -gap)

    @property
    def e1(self) -> float:
        """exp(h) - 1."""
        return math.expm1(self.h)

    @property
    def e2(self) -> float:
        """(exp(h) - 1) / h - 1."""
        return self.e1 / self.h - 1

    @property
    def e3(self) -> float:
        """((exp(h) - 1) / h - 1) / h - 1/2."""
        return self.e2 / self.h - 0.5

    def first(self, x_t: "Tensor", m_t: "Tensor") -> "Tensor":
        """The step of order 1."""
        return self.decay * x_t - self.scale * self.e1 * m_t


def held(algorithm: Algorithm, denoise: Denoise, schedule: Schedule) -> Denoise:
    """The estimate that an algorithm holds constant, from one of x_0."""
    return lambda x, t: held_of(algorithm, schedule, x, denoise(x, t), t)


def held_of(algorithm: Algorithm, schedule: Schedule, x_t: "Tensor", x_0: "Tensor", t: float) -> "Tensor":
    """The estimate that an algorithm holds constant, from that of x_0: itself, or the noise in x_t."""
    return x_0 if algorithm == "dpmsolver++" else (x_t - schedule.alpha(t) * x_0) / schedule.sigma(t)


@attrs.frozen
class Single:
    """One step that starts anew, of order 1, 2 or 3, with inner times that are given.

    With d_i = m at u_i - m_t, r_i = (lam(u_i) - lam_t) / (lam_s - lam_t) and B = scale:
    order 2: x_s = first - B e1 / (2 r_1) d_1, where u_1 is reached by order 1 (taylor: B e2 / r_1);
    order 3: x_s = first - B e2 / r_2 d_2, where u_2 is reached by order 1 - (r_2 / r_1) B_2 e2_2 d_1 (taylor: first -
    B e2 D_1 - B e3 D_2 with the derivatives D_1 and D_2 of the parabola through both).
    """

    algorithm: Algorithm
    solver_type: SolverType
    schedule: Schedule
    estimate: Denoise

    def way(self, t: float, s: float) -> Way:
        return Way.of(self.algorithm, self.schedule, t, s)

    def share(self, t: float, u: float, s: float) -> float:
        """r: how far u lies on the way from t to s, in lam."""
        lam = self.schedule.lam
        return (lam(u) - lam(t)) / (lam(s) - lam(t))

    def second(
        self, x_t: "Tensor", t: float, s: float, u: float, m_t: "Tensor", d_1: "Tensor | None" = None
    ) -> "tuple[Tensor, Tensor]":
        """x_s and d_1, which may be known."""
        way, r = self.way(t, s), self.share(t, u, s)
        if d_1 is None:
            d_1 = self.estimate(self.way(t, u).first(x_t, m_t), u) - m_t
        weight = way.e1 / (2 * r) if self.solver_type == "dpmsolver" else way.e2 / r
        return way.first(x_t, m_t) - way.scale * weight * d_1, d_1

    def third(
        self,
        x_t: "Tensor",
        t: float,
        s: float,
        inner: tuple[float, float],
        m_t: "Tensor",
        d_1: "Tensor | None" = None,
    ) -> "Tensor":
        way, to_2 = self.way(t, s), self.way(t, inner[1])
        r_1, r_2 = (self.share(t, u, s) for u in inner)
        if d_1 is None:
            d_1 = self.estimate(self.way(t, inner[0]).first(x_t, m_t), inner[0]) - m_t
        x_2 = to_2.first(x_t, m_t) - r_2 / r_1 * to_2.scale * to_2.e2 * d_1
        d_2 = self.estimate(x_2, inner[1]) - m_t
        if self.solver_type == "dpmsolver":
            return way.first(x_t, m_t) - way.scale * way.e2 / r_2 * d_2
        slope = (r_2 / r_1 * d_1 - r_1 / r_2 * d_2) / (r_2 - r_1)
        bend = 2 * (d_2 / r_2 - d_1 / r_1) / (r_2 - r_1)
        return way.first(x_t, m_t) - way.scale * way.e2 * slope - way.scale * way.e3 * bend


@attrs.frozen(kw_only=True)
class DPMSolver(Sampler):
    """Singlestep DPM-Solver: an interval of order n makes n calls, at its start and at n - 1 times inside it.

    Formulas: `msdk.samplers.dpm_solver.Single`. The inner times are spaced as the grid is, so r_i = i / n on the
    "uniform-lam" grid alone; on the others the measured order drops to about 2, as in the published program.
    Source: Lu et al. 2022, arXiv 2206.00927, Algorithms 1 and 2 and appendix D; ++: arXiv 2211.01095, Algorithm 1.

    Args:
        order: Order of all intervals but the last ones.
        algorithm: Whether the noise estimate is held over a step, or the data estimate ("dpmsolver++").
        solver_type: How derivatives are taken: "dpmsolver" or "taylor".
        last_orders: Orders of the last intervals, which let any number of calls be spent: `sampling.nfe` sets them as
            the published program does (order 3: [2, 1], [1] or [2]) where those given cannot make that many calls.
            When not given: [2] for order 3, otherwise none.
        grid: How the times are spaced, see `msdk.samplers.grids`.
        rho: Exponent of the "rho" grid.
        t_end: Last time of the grid; the schedule's `t_min` if that is larger.
        final_denoise: Whether one more call at `t_end` replaces the sample by its estimate of x_0.
    """

    order: int = attrs.field(default=3, validator=[ge(1), le(3)])  # pyright: ignore[reportIncompatibleMethodOverride]
    algorithm: Algorithm = "dpmsolver"
    solver_type: SolverType = "dpmsolver"
    last_orders: tuple[int, ...] | None = attrs.field(default=None, validator=optional(deep_iterable([ge(1), le(3)])))
    grid: Grid = "uniform-lam"
    rho: float = attrs.field(default=7.0, validator=gt(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))
    final_denoise: bool = False

    def orders(self, steps: int) -> tuple[int, ...]:
        """The order of each interval of the grid; 1 of one that lands on the clean image."""
        return (*self._above(steps - 1), 1) if self.grid in TO_CLEAN else self._above(steps)

    def _above(self, steps: int) -> tuple[int, ...]:
        """The orders of so many intervals that end above the clean image."""
        last = self._last()[max(len(self._last()) - steps, 0) :]
        return (self.order,) * (steps - len(last)) + last

    def _last(self) -> tuple[int, ...]:
        if self.last_orders is None:
            return (2,) if self.order == 3 else ()
        return self.last_orders

    def spending(self, nfe: int) -> "DPMSolver":
        calls = nfe - (self.final_denoise or self.grid in TO_CLEAN)
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
            if len(fine) != sum(orders) + 1:
                raise PartError(
                    f"the grid {self.grid} makes {len(fine) - 1} intervals of {sum(orders)} calls, so they cannot be "
                    "dealt out: use another number of steps, or another grid"
                )
            nodes = [fine[sum(orders[:index])] for index in range(steps + 1)]
        return then_clean(nodes, self.grid) if self.final_denoise else nodes

    def calls(self, steps: int) -> list[int]:
        return [*self.orders(steps), *[1] * self.final_denoise]

    def init(self, times: Sequence[float]) -> tuple[int, ...]:
        return self._above(sum(t > 0 for t in times) - 1)

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
        solver = Single(self.algorithm, self.solver_type, schedule, held(self.algorithm, denoise, schedule))
        m_t = solver.estimate(x_t, t)
        if order == 1:
            return solver.way(t, s).first(x_t, m_t), later
        _, *inner, _ = spaced(self.grid, schedule, t, s, order, self.rho)
        if order == 2:
            return solver.second(x_t, t, s, inner[0], m_t)[0], later
        return solver.third(x_t, t, s, (inner[0], inner[1]), m_t), later


@attrs.frozen(kw_only=True)
class DPMAdaptive(Sampler):
    """DPM-Solver with steps chosen by the difference of two orders.

    A step of log-SNR h is made by orders n - 1 and n, which share their calls. Where the difference is small,
    E = max over images of rms((high - low) / max(atol, rtol max(|low|, |previous low|))) <= 1, the higher order is
    taken. Either way the next h is min(safety h E^(-1/n), what is left). `steps` does not matter.
    Source: Lu et al. 2022, arXiv 2206.00927, Algorithm 3 and appendix C.

    Args:
        order: 2 or 3, of the solution that is taken.
        algorithm: As in `dpm-solver`.
        atol: Absolute tolerance.
        rtol: Relative tolerance.
        control: "published" is the above. "arctan" is k-diffusion's: E = rms over all images, h is multiplied by
            f = 1 + atan(E^(-1/n) - 1) whatever happens, and the step is taken where f >= 0.81.
        first: First step, in log-SNR.
        safety: Factor of the next step, in "published".
        integral: I of the controller, see `msdk.samplers.step_size`.
        proportional: P of the controller, which damps changes of the step.
        derivative: D of the controller.
        t_end: Last time; the schedule's `t_min` if that is larger.
        final_denoise: Whether one more call at `t_end` replaces the sample by its estimate of x_0.
    """

    adaptive: ClassVar[bool] = True
    order: int = attrs.field(default=3, validator=in_([2, 3]))  # pyright: ignore[reportIncompatibleMethodOverride]
    algorithm: Algorithm = "dpmsolver"
    atol: float = attrs.field(default=0.0078, validator=gt(0))
    rtol: float = attrs.field(default=0.05, validator=gt(0))
    control: Literal["published", "arctan"] = "published"
    first: float = attrs.field(default=0.05, validator=gt(0))
    safety: float = attrs.field(default=0.9, validator=[gt(0), le(1)])
    integral: float = attrs.field(default=1.0, validator=gt(0))
    proportional: float = attrs.field(default=0.0, validator=ge(0))
    derivative: float = attrs.field(default=0.0, validator=ge(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))
    final_denoise: bool = False

    @property
    def step_size(self) -> StepSize:
        """How the steps are chosen."""
        published = self.control == "published"
        return StepSize(
            order=self.order,
            atol=self.atol,
            rtol=self.rtol,
            norm="image" if published else "batch",
            safety=self.safety,
            integral=self.integral,
            proportional=self.proportional,
            derivative=self.derivative,
            limiter="clip" if published else "arctan",
        )

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        nodes = time_grid("uniform-lam", schedule, 1, self.t_end, 1.0)
        return [*nodes, 0.0] if self.final_denoise else nodes

    def calls(self, steps: int) -> list[int]:
        return [self.order, *[1] * self.final_denoise]

    def init(self, times: Sequence[float]) -> None:
        return None

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        if s == 0:
            return denoise(x_t, t), None
        solver = Single(self.algorithm, "dpmsolver", schedule, held(self.algorithm, denoise, schedule))
        control, past = self.step_size, Past()
        h, end, before = self.first, schedule.lam(s), x_t
        shares, tries = [0.5] if self.order == 2 else [1 / 3, 2 / 3], 0
        while abs(t - s) > 1e-5:
            control.went_on(tries := tries + 1, t)
            lam = schedule.lam(t)
            u = schedule.t_of_lam(lam + h)
            inner = [schedule.t_of_lam(lam + share * h) for share in shares]
            m_t = solver.estimate(x_t, t)
            if self.order == 2:
                low = solver.way(t, u).first(x_t, m_t)
                high, _ = solver.second(x_t, t, u, inner[0], m_t)
            else:
                low, d_1 = solver.second(x_t, t, u, inner[0], m_t)
                high = solver.third(x_t, t, u, (inner[0], inner[1]), m_t, d_1)
            error = control.error(high - low, control.allowed(low, before))
            taken, factor, past = control.judge(error, past)
            if taken:
                x_t, before, t = high, low, u
            h = min(h * factor, end - schedule.lam(t))
        return x_t, None
