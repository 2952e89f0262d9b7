"""How adaptive samplers choose their steps: by the error of a step, whether to take it and how long the next one is."""

import math
from typing import TYPE_CHECKING, Literal

import attrs

from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import Tensor


MOST_TRIES = 10_000
"""Steps, taken or not, after which a solver gives up."""


@attrs.frozen
class Past:
    """Memory of a `StepSize`.

    Attributes:
        rejected: Whether the last step was.
        errors: Of the last two steps that were taken, the newest first; empty before the first step.
    """

    rejected: bool = False
    errors: tuple[float, ...] = ()


@attrs.frozen(kw_only=True)
class StepSize:
    """A PID controller: factor = safety e^(-(I + P + D) / k) e'^((P + 2 D) / k) e''^(-D / k), between two limits.

    e is the error of a step in units of what is allowed, e' and e'' are those of the steps taken before. I alone, the
    usual rule, makes the next error about safety^k. A step is taken where e <= 1.
    Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.4; Soderlind 2003, Digital filters
    in adaptive time-stepping; in the form of k-diffusion.

    Args:
        order: k, of the error: it is proportional to the k-th power of the step.
        atol: Absolute tolerance.
        rtol: Relative tolerance.
        scale: Whether an error may be as large as the "greater" of both tolerances, or their "sum".
        norm: Whether the error is that of the worst "image", or of the "batch" as a whole.
        safety: Factor of the next step.
        least: Smallest factor.
        most: Largest factor.
        grows_after_rejection: Whether the step after a rejected one may be longer than that.
        integral: I.
        proportional: P.
        derivative: D.
        limiter: "clip" is the above. "arctan" is k-diffusion's: the factor is 1 + atan(factor - 1) without safety and
            limits, and a step is taken where that is at least 0.81.
    """

    order: int
    atol: float
    rtol: float
    scale: Literal["greater", "sum"] = "greater"
    norm: Literal["image", "batch"] = "image"
    safety: float = 0.9
    least: float = 0.0
    most: float = math.inf
    grows_after_rejection: bool = True
    integral: float = 1.0
    proportional: float = 0.0
    derivative: float = 0.0
    limiter: Literal["clip", "arctan"] = "clip"

    def allowed(self, *states: "Tensor") -> "Tensor":
        """How large an error may be, value by value, for the largest of some states [batch, ...]."""
        import torch

        size = states[0].abs()
        for state in states[1:]:
            size = torch.maximum(size, state.abs())
        return self.atol + self.rtol * size if self.scale == "sum" else (self.rtol * size).clamp(min=self.atol)

    def error(self, difference: "Tensor", allowed: "Tensor") -> float:
        """Root mean square of a difference [batch, ...] in units of what is allowed; it decides the next step."""
        squares = (difference / allowed).square().flatten(1).mean(1)
        return float((squares.max() if self.norm == "image" else squares.mean()).sqrt())

    def went_on(self, tries: int, t: float) -> None:
        """Raises `PartError` where a solver has tried so many steps that it will never end."""
        if tries > MOST_TRIES:
            raise PartError(
                f"{MOST_TRIES:,} adaptive steps have only come to t = {t:.6g}: raise the tolerances, or set integral, "
                "proportional and derivative as they are by default"
            )

    def judge(self, error: float, past: Past) -> tuple[bool, float, Past]:
        """Whether a step of that error is taken, the factor of its length for the next one, and the memory."""
        before = past.errors or (error, error)
        total = (self.integral + self.proportional + self.derivative) / self.order
        weights = (total, -(self.proportional + 2 * self.derivative) / self.order, self.derivative / self.order)
        pairs = list(zip((error, *before), weights, strict=True))
        if self.limiter == "arctan":
            factor = 1 + math.atan(math.prod((1 / (e + 1e-8)) ** weight for e, weight in pairs) - 1)
            taken = factor >= 0.81
        else:
            factor = self.safety * math.prod(max(e, 1e-30) ** -weight for e, weight in pairs)
            factor, taken = max(self.least, min(self.most, factor)), error <= 1
        if taken and past.rejected and not self.grows_after_rejection:
            factor = min(1.0, factor)
        return taken, factor, Past(not taken, (error, before[0]) if taken else before)
