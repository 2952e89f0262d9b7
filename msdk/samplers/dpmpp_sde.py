"""DPM-Solver++ for the reverse SDE, and with ancestral noise."""

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
from attrs.validators import ge

from msdk.samplers.multistep import History, Multistep
from msdk.samplers.ratio_space import Draw, Estimate, RatioSampler, ancestral

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class _Noisy(RatioSampler):
    """With fresh noise.

    Args:
        eta: Share of the noise that is renewed; 1 is the reverse SDE, 0 the ODE.
        scale: Factor of the noise.
    """

    stochastic: ClassVar[bool] = True
    eta: float = attrs.field(default=1.0, validator=ge(0))
    scale: float = attrs.field(default=1.0, validator=ge(0))


def held_data(y: "Tensor", x_0: "Tensor", a: float, b: float) -> "Tensor":
    """A step that holds x_0: DPM-Solver++ of order 1, b / a y + (1 - b / a) x_0."""
    return b / a * y + (1 - b / a) * x_0


@attrs.frozen(kw_only=True)
class DPMpp2SAncestral(_Noisy):
    """Singlestep DPM-Solver++ of order 2 down to sqrt(b^2 - up^2), then noise of standard deviation up.

    Source: Lu et al. 2022, arXiv 2211.01095, Algorithm 1, in the form of k-diffusion.
    """

    @property
    def order(self) -> int:
        return 2

    def calls(self, steps: int) -> list[int]:
        return [2] * (steps - 1) + [1]

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: Any, draw: Draw
    ) -> "tuple[Tensor, Any]":
        x_0 = estimate(y, a)
        down, up = ancestral(a, b, self.eta)
        if down == 0:
            y = x_0
        else:
            m = math.sqrt(a * down)
            y = held_data(y, estimate(held_data(y, x_0, a, m), m), a, down)
        return (y + self.scale * up * draw(y, a, b) if up else y), memory


@attrs.frozen(kw_only=True)
class DPMppSDE(_Noisy):
    """Two ancestral steps from a with one estimate each: to sqrt(a b), and with the estimate there to b.

    Source: Lu et al. 2022, arXiv 2211.01095, section 5, in the form of k-diffusion (its r = 1/2).
    """

    @property
    def order(self) -> int:
        return 2 if self.eta == 0 else 1  # of the ODE, and of the SDE

    def calls(self, steps: int) -> list[int]:
        return [2] * (steps - 1) + [1]

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: Any, draw: Draw
    ) -> "tuple[Tensor, Any]":
        x_0 = estimate(y, a)
        if b == 0:
            return x_0, memory

        def noisy(x_0: "Tensor", last: float) -> "Tensor":
            down, up = ancestral(a, last, self.eta)
            return held_data(y, x_0, a, down) + self.scale * up * draw(y, a, last)

        m = math.sqrt(a * b)
        return noisy(estimate(noisy(x_0, m), m), b), memory


@attrs.frozen(kw_only=True)
class DPMpp2MSDE(Multistep, _Noisy):
    """Multistep DPM-Solver++ of order 2 for the reverse SDE.

    With h = log(a / b), k = h (1 + eta) and the earlier estimate x_0' at h' before:
    y_b = exp(-k) y_a + (1 - exp(-k)) x_0 + c (x_0 - x_0') h / h' + b sqrt(1 - exp(-2 eta h)) z,
    where c = (1 - exp(-k)) / 2 ("midpoint") or 1 - (1 - exp(-k)) / k ("heun").
    Source: Lu et al. 2022, arXiv 2211.01095, appendix B, in the form of k-diffusion.

    Args:
        derivative: c.
    """

    derivative: Literal["midpoint", "heun"] = "midpoint"

    @property
    def order(self) -> int:
        return 2

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: History, draw: Draw
    ) -> "tuple[Tensor, History]":
        x_0 = estimate(y, a)
        if b == 0:
            return x_0, memory
        h = math.log(a / b)
        k = h * (1 + self.eta)
        grown = -math.expm1(-k)
        moved = math.exp(-k) * y + grown * x_0
        past = memory.after(math.log(a), x_0, self.order)
        if len(past.nodes) == 2:
            slope = divided(*past.nodes, h)
            moved = moved + (grown / 2 if self.derivative == "midpoint" else 1 - grown / k) * slope
        return add_noise(moved, y, a, b, self.eta, self.scale, draw), past


@attrs.frozen(kw_only=True)
class DPMpp3MSDE(Multistep, _Noisy):
    """Multistep DPM-Solver++ of order 3 for the reverse SDE.

    With k = h (1 + eta), q_2 = 1 - (1 - exp(-k)) / k, q_3 = q_2 / k - 1/2 and the divided differences D_1, D_2 of the
    last three estimates in log r: y_b = exp(-k) y_a + (1 - exp(-k)) x_0 + q_2 D_1 - q_3 D_2 + noise, as in
    `dpmpp-2m-sde`.
    Source: k-diffusion, after Lu et al. 2022, arXiv 2211.01095.
    """

    @property
    def order(self) -> int:
        return 3

    def move(
        self, estimate: Estimate, y: "Tensor", a: float, b: float, memory: History, draw: Draw
    ) -> "tuple[Tensor, History]":
        x_0 = estimate(y, a)
        if b == 0:
            return x_0, memory
        h = math.log(a / b)
        k = h * (1 + self.eta)
        moved = math.exp(-k) * y - math.expm1(-k) * x_0
        q_2 = math.expm1(-k) / k + 1
        past = memory.after(math.log(a), x_0, self.order)
        nodes = past.nodes
        if len(nodes) == 2:
            moved = moved + q_2 * divided(nodes[0], nodes[1], h)
        elif len(nodes) == 3:
            d_0, d_1 = divided(nodes[0], nodes[1], h), divided(nodes[1], nodes[2], h)
            r_0, r_1 = (nodes[1][0] - nodes[0][0]) / h, (nodes[2][0] - nodes[1][0]) / h
            change = (d_0 - d_1) / (r_0 + r_1)
            moved = moved + q_2 * (d_0 + r_0 * change) - (q_2 / k - 0.5) * change
        return add_noise(moved, y, a, b, self.eta, self.scale, draw), past


def divided(new: "tuple[float, Tensor]", old: "tuple[float, Tensor]", h: float) -> "Tensor":
    """The change of an estimate over a step of h in log r, at the pace between two nodes."""
    return (new[1] - old[1]) * (h / (old[0] - new[0]))


def add_noise(moved: "Tensor", y: "Tensor", a: float, b: float, eta: float, scale: float, draw: Draw) -> "Tensor":
    """What the reverse SDE adds between ratios a and b: standard deviation b sqrt(1 - (b / a)^(2 eta))."""
    up = b * math.sqrt(-math.expm1(-2 * eta * math.log(a / b)))
    return moved + scale * up * draw(y, a, b) if up else moved
