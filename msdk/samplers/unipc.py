"""UniPC: a predictor and a corrector that shares its call with the next step."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, le

from msdk.samplers.base import Denoise, Noise, OneCallSampler
from msdk.samplers.dpm_multistep import refuse_few_steps
from msdk.samplers.dpm_solver import Algorithm, Way, held
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Pending:
    """Memory of UniPC.

    Attributes:
        step: Number of the next step, from 1.
        steps: Steps in all.
        nodes: (time, estimate held) of earlier steps, the newest first.
        start: x at the newest node, from which the present x was predicted; None before the first step.
        order: Of that prediction.
    """

    step: int
    steps: int
    nodes: "tuple[tuple[float, Tensor], ...]" = ()
    start: "Tensor | None" = None
    order: int = 0


@attrs.frozen(kw_only=True)
class UniPC(OneCallSampler):
    """A step predicts x_s; the call at x_s then corrects it, and serves the next step: one call per step.

    With the earlier nodes k = 1 .. q - 1, H = lam_s - lam_t, r_k = (lam_k - lam_t) / H, D_k = (m_k - m_t) / r_k and
    B, e1 of `msdk.samplers.dpm_solver.Way`:
    predictor: x_s = first - B b(h) sum rho_k D_k;
    corrector: x_s = first - B b(h) (sum rho_k D_k + rho_q (m_s - m_t)),
    where b(h) = h (bh1) or e1 (bh2), and rho solves sum_k r_k^(j-1) rho_k = j! phi_(j+1)(h) h / b(h), with r_q = 1.
    Source: Zhao et al. 2023, arXiv 2302.04867, Algorithms 1 and 2, and appendix C for "vary".

    Args:
        order: Of the predictor; the corrector adds one.
        variant: b(h), or "vary" for coefficients that differ by order.
        algorithm: Whether the noise estimate is held over a step, or the data estimate ("dpmsolver++").
        lower_order_final: Whether the last steps have orders 2 and 1, which is steadier.
        as_published: With "vary", take the row of the corrector's matrix that the published program takes, which is one
            too early from order 2 on and leaves order 1.
    """

    order: int = attrs.field(default=3, validator=[ge(1), le(6)])  # pyright: ignore[reportIncompatibleVariableOverride]
    variant: Literal["bh1", "bh2", "vary"] = "bh2"
    algorithm: Algorithm = "dpmsolver++"
    lower_order_final: bool = True
    as_published: bool = False

    @property
    def convergence(self) -> int:
        # The corrector adds one; from order 3 on, the first steps leave 2 to 3.6, by schedule and number of steps.
        return min(self.order + 1, 3) if self.order < 3 else 2

    def check(self, schedule: Schedule, steps: int) -> None:
        refuse_few_steps(self.order, steps)

    def init(self, times: Sequence[float]) -> Pending:
        return Pending(1, sum(t > 0 for t in times) - 1)

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: Pending, noise: Noise
    ) -> "tuple[Tensor, Pending]":
        if s == 0:
            return denoise(x_t, t), memory
        m_t = held(self.algorithm, denoise, schedule)(x_t, t)
        if memory.start is not None:
            x_t = self._moved(schedule, memory.start, t, memory.nodes, memory.order, m_t)
        nodes = ((t, m_t), *memory.nodes)[: self.order]
        order = min(self.order, memory.step)
        if self.lower_order_final:
            order = min(order, memory.steps - memory.step + 1)
        x_s = self._moved(schedule, x_t, s, nodes, order, None)
        return x_s, Pending(memory.step + 1, memory.steps, nodes, x_t, order)

    def _moved(
        self,
        schedule: Schedule,
        x_t: "Tensor",
        s: float,
        nodes: "Sequence[tuple[float, Tensor]]",
        order: int,
        m_s: "Tensor | None",
    ) -> "Tensor":
        """x_s predicted from the newest node; with the estimate there it is corrected."""
        (t, m_t), *older = nodes[:order]
        lam, gap = schedule.lam(t), schedule.lam(s) - schedule.lam(t)
        way = Way.of(self.algorithm, schedule, t, s)
        x_s = way.first(x_t, m_t)
        shares = [(schedule.lam(u) - lam) / gap for u, _ in older]
        slopes = [(m_u - m_t) / share for (_, m_u), share in zip(older, shares, strict=True)]
        if m_s is not None:
            shares, slopes = [*shares, 1.0], [*slopes, m_s - m_t]
        weights = self._weights(way, shares, corrects=m_s is not None) if shares else ()
        for weight, slope in zip(weights, slopes, strict=True):
            x_s = x_s - way.scale * weight * slope
        return x_s

    def _weights(self, way: Way, shares: Sequence[float], *, corrects: bool) -> list[float]:
        """b(h) rho of each slope."""
        count, h = len(shares), way.h
        phi, value = list[float](), way.e1  # h phi_(j + 1) for j = 1 .. count
        for j in range(1, count + 1):
            value = value / h - 1 / math.factorial(j)
            phi.append(value)
        if self.variant == "vary":
            return self._varying(phi, shares, corrects=corrects)
        b = h if self.variant == "bh1" else way.e1
        if count == 1:  # the least that both equations have in common
            return [0.5 * b]
        import numpy as np

        matrix = np.array([[share**j for share in shares] for j in range(count)])
        wanted = np.array([math.factorial(j) * value for j, value in enumerate(phi, 1)])
        return [float(weight) for weight in np.linalg.solve(matrix, wanted)]

    def _varying(self, phi: Sequence[float], shares: Sequence[float], *, corrects: bool) -> list[float]:
        """Sum over orders j of h phi_(j + 1) times row j of the inverse of C, C_kj = r_k^(j - 1) / j!."""
        import numpy as np

        count = len(shares)
        matrix = np.array([[share**j / math.factorial(j + 1) for j in range(count)] for share in shares])
        inverse = np.linalg.inv(matrix)
        weights = [math.fsum(phi[j] * inverse[j, k] for j in range(count)) for k in range(count)]
        if not (corrects and self.as_published):
            return weights
        # The published sum over j stops one order early for the earlier nodes, and its weight of the new one is that of
        # the row before the last.
        earlier = [math.fsum(phi[j] * inverse[j, k] for j in range(count - 1)) for k in range(count - 1)]
        return [*earlier, phi[count - 1] * inverse[max(count - 2, 0), count - 1]]
