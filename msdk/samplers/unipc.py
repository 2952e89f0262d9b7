"""UniPC: a predictor and a corrector that shares its call with the next step."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, le

from msdk.samplers.dpm_solver import Algorithm, Way, held_of
from msdk.samplers.multistep import History, OneCallMultistep
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Corrected:
    """What UniPC keeps of a node.

    Attributes:
        m: The estimate held.
        x: The corrected state, from which the next one is predicted.
    """

    m: "Tensor"
    x: "Tensor"


@attrs.frozen(kw_only=True)
class UniPC(OneCallMultistep):
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

    order: int = attrs.field(default=3, validator=[ge(1), le(6)])
    variant: Literal["bh1", "bh2", "vary"] = "bh2"
    algorithm: Algorithm = "dpmsolver++"
    lower_order_final: bool = True
    as_published: bool = False

    @property
    def convergence(self) -> int:
        # The corrector adds one. The last step has none, which leaves 2; more is measured where that step is small.
        return 1 if self.as_published and self.variant == "vary" and self.order > 1 else 2

    def estimate(self, schedule: Schedule, x_t: "Tensor", x_0: "Tensor", t: float, memory: History) -> Corrected:
        m_t = held_of(self.algorithm, schedule, x_t, x_0, t)
        return Corrected(m_t, self._moved(schedule, memory, t, m_t) if memory.nodes else x_t)

    def advance(self, schedule: Schedule, x_t: "Tensor", s: float, past: History) -> "Tensor":
        return self._moved(schedule, past, s, None)

    def _moved(self, schedule: Schedule, past: History, s: float, m_s: "Tensor | None") -> "Tensor":
        """x_s predicted from the newest node; with the estimate there it is corrected."""
        nodes: Sequence[tuple[float, Corrected]] = past.nodes[: past.left] if self.lower_order_final else past.nodes
        (t, newest), *older = nodes
        m_t = newest.m
        lam, gap = schedule.lam(t), schedule.lam(s) - schedule.lam(t)
        way = Way.of(self.algorithm, schedule, t, s)
        x_s = way.first(newest.x, m_t)
        shares = [(schedule.lam(u) - lam) / gap for u, _ in older]
        slopes = [(node.m - m_t) / share for (_, node), share in zip(older, shares, strict=True)]
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
