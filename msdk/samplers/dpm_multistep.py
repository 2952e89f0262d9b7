"""Multistep DPM-Solver and DPM-Solver++: one call per step, with the derivatives of earlier ones."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, le

from msdk.samplers.dpm_solver import Algorithm, SolverType, Way, held_of
from msdk.samplers.multistep import History, OneCallMultistep
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class DPMMultistep(OneCallMultistep):
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

    order: int = attrs.field(default=2, validator=[ge(1), le(3)])
    algorithm: Algorithm = "dpmsolver++"
    solver_type: SolverType = "dpmsolver"
    lower_order_final: bool = True

    def estimate(self, schedule: Schedule, x_t: "Tensor", x_0: "Tensor", t: float, memory: History) -> "Tensor":
        return held_of(self.algorithm, schedule, x_t, x_0, t)

    def advance(self, schedule: Schedule, x_t: "Tensor", s: float, past: History) -> "Tensor":
        lowered = self.lower_order_final and past.steps < 10
        (t, m_t), *older = past.nodes[: past.left] if lowered else past.nodes
        way = Way.of(self.algorithm, schedule, t, s)
        x_s = way.first(x_t, m_t)
        if not older:
            return x_s
        lam, gap = schedule.lam(t), schedule.lam(s) - schedule.lam(t)
        (t_1, m_1), *older = older
        r_0 = (lam - schedule.lam(t_1)) / gap
        d_0 = (m_t - m_1) / r_0
        if not older:
            return x_s - way.scale * (way.e1 / 2 if self.solver_type == "dpmsolver" else way.e2) * d_0
        t_2, m_2 = older[0]
        r_1 = (schedule.lam(t_1) - schedule.lam(t_2)) / gap
        change = (d_0 - (m_1 - m_2) / r_1) / (r_0 + r_1)
        return x_s - way.scale * way.e2 * (d_0 + r_0 * change) - way.scale * way.e3 * change


@attrs.frozen(kw_only=True)
class DPMpp2M(DPMMultistep):
    """`dpm-multistep` of order 2, holding the data estimate: DPM-Solver++(2M)."""


@attrs.frozen(kw_only=True)
class DPMpp3M(DPMMultistep):
    """`dpm-multistep` of order 3, holding the data estimate: DPM-Solver++(3M)."""

    order: int = attrs.field(default=3, validator=[ge(1), le(3)])
