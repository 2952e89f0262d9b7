"""Multistep DPM-Solver and DPM-Solver++: one call per step, with the derivatives of earlier ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, le

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Noise, OneCallSampler
from msdk.samplers.dpm_solver import Algorithm, SolverType, Way, held
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class History:
    """Memory of a multistep method.

    Attributes:
        step: Number of the next step, from 1.
        steps: Steps in all.
        nodes: (time, estimate held) of earlier steps, the newest first.
    """

    step: int
    steps: int
    nodes: "tuple[tuple[float, Tensor], ...]" = ()

    def after(self, t: float, m_t: "Tensor", keep: int) -> "History":
        return History(self.step + 1, self.steps, ((t, m_t), *self.nodes)[:keep])


@attrs.frozen(kw_only=True)
class DPMMultistep(OneCallSampler):
    """Adams-Bashforth in log-SNR, exact in the linear part of the ODE.

    With the earlier nodes t' and t'', H = lam_s - lam_t, r_0 = (lam_t - lam_t') / H, r_1 = (lam_t' - lam_t'') / H,
    d_0 = (m_t - m_t') / r_0, d_1 = (m_t' - m_t'') / r_1 and B, e1, e2, e3 of `msdk.samplers.dpm_solver.Way`:
    order 2: x_s = first - B e1 / 2 d_0 (taylor: B e2 d_0);
    order 3: x_s = first - B e2 D_1 - B e3 D_2 with D_2 = (d_0 - d_1) / (r_0 + r_1) and D_1 = d_0 + r_0 D_2.
    Step i has at most order i, so the first step limits the measured order of order 3 to about 2 on even grids.
    Source: Lu et al. 2022, arXiv 2211.01095, Algorithm 2 and appendix B; arXiv 2206.00927.

    Args:
        order: 1, 2 or 3.
        algorithm: Whether the noise estimate is held over a step, or the data estimate ("dpmsolver++").
        solver_type: How order 2 takes its derivative: "dpmsolver" or "taylor".
        lower_order_final: With fewer than 10 steps, lower the order of the last ones, which is steadier.
    """

    order: int = attrs.field(default=2, validator=[ge(1), le(3)])  # pyright: ignore[reportIncompatibleVariableOverride]
    algorithm: Algorithm = "dpmsolver++"
    solver_type: SolverType = "dpmsolver"
    lower_order_final: bool = True

    @property
    def convergence(self) -> int:
        return min(self.order, 2)

    def check(self, schedule: Schedule, steps: int) -> None:
        refuse_few_steps(self.order, steps)

    def init(self, times: Sequence[float]) -> History:
        return History(1, sum(t > 0 for t in times) - 1)

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: History, noise: Noise
    ) -> "tuple[Tensor, History]":
        if s == 0:
            return denoise(x_t, t), memory
        m_t = held(self.algorithm, denoise, schedule)(x_t, t)
        order = min(self.order, memory.step)
        if self.lower_order_final and memory.steps < 10:
            order = min(order, memory.steps - memory.step + 1)
        way = Way.of(self.algorithm, schedule, t, s)
        x_s, later = way.first(x_t, m_t), memory.after(t, m_t, self.order - 1)
        if order == 1:
            return x_s, later
        lam, gap = schedule.lam(t), schedule.lam(s) - schedule.lam(t)
        (t_1, m_1), *older = memory.nodes
        r_0 = (lam - schedule.lam(t_1)) / gap
        d_0 = (m_t - m_1) / r_0
        if order == 2:
            return x_s - way.scale * (way.e1 / 2 if self.solver_type == "dpmsolver" else way.e2) * d_0, later
        t_2, m_2 = older[0]
        r_1 = (schedule.lam(t_1) - schedule.lam(t_2)) / gap
        change = (d_0 - (m_1 - m_2) / r_1) / (r_0 + r_1)
        return x_s - way.scale * way.e2 * (d_0 + r_0 * change) - way.scale * way.e3 * change, later


def refuse_few_steps(order: int, steps: int) -> None:
    """Raises `PartError` for a multistep method that would never reach its order."""
    if steps < order:
        raise PartError(f"{steps} steps are below the order {order}: use at least {order} steps, or a lower order")


@attrs.frozen(kw_only=True)
class DPMpp2M(DPMMultistep):
    """`dpm-multistep` of order 2, holding the data estimate: DPM-Solver++(2M)."""


@attrs.frozen(kw_only=True)
class DPMpp3M(DPMMultistep):
    """`dpm-multistep` of order 3, holding the data estimate: DPM-Solver++(3M)."""

    order: int = attrs.field(default=3, validator=[ge(1), le(3)])  # pyright: ignore[reportIncompatibleVariableOverride]
