"""Gradients weighted by a bargain between stages (Nash-MTL)."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge

from msdk.combinations.base import Combination

if TYPE_CHECKING:
    from random import Random

    from torch import Tensor

STEPS = 64
"""Of Newton's method. As near to each other as gradients get, (cosine + 1) = 1e-12, it has converged after 50."""


@attrs.frozen(kw_only=True)
class NashMTL(Combination):
    """Positive weights with (M w)_i = 1 / w_i, M = <g_i, g_j> over its Frobenius norm: all stages gain alike.

    Source: Navon et al. 2022, "Multi-Task Learning as a Bargaining Game", arXiv 2202.01017, Claim 3.1; M is divided as
    in their program. They solve it by a sequence of convex programs to 1e-3; here w is the minimum of the convex
    w M w / 2 - sum_i log w_i, by damped Newton steps on the device, to rounding. Over stages of noise: Go et al. 2023,
    arXiv 2306.00354, who find weights anew every 25 steps.

    Args:
        every: Steps after which weights are found anew; in between they stay.
        largest: Largest norm of the combined gradient, to which it is scaled down; 0 does not.
    """

    every: int = attrs.field(default=25, validator=ge(1))
    largest: float = attrs.field(default=1.0, validator=ge(0))

    def weights(self, gram: "Tensor", before: "Tensor", iteration: int, generator: "Random") -> "Tensor":
        return before if iteration % self.every else solution(gram, before)


def solution(gram: "Tensor", before: "Tensor") -> "Tensor":
    """The weights of inner products; those of before for gradients of 0, and where any is not finite.

    With w_i = b_i / |g_i| the equation is (C b)_i = 1 / b_i for the cosines C, whatever the lengths are. -log is
    self-concordant, so steps of 1 / (1 + decrement) converge from anywhere (Nesterov and Nemirovskii 1994).
    """
    import torch

    lengths = gram.diagonal().clamp(min=0.0).sqrt()
    there = lengths > 0
    safe = torch.where(there, lengths, 1.0)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    both = there[:, None] & there[None, :]
    cosines = torch.where(both, gram / (safe[:, None] * safe[None, :]), eye)
    finite = torch.isfinite(cosines).all()
    # What is exactly opposite has no weights: a little more of the diagonal keeps them below 1e7.
    cosines = torch.where(finite, cosines, eye) + 1e-14 * eye
    found = torch.ones_like(lengths)
    for _ in range(STEPS):
        gradient = cosines @ found - 1 / found
        step, _ = torch.linalg.solve_ex(cosines + torch.diag(found**-2), gradient)
        decrement = (gradient * step).sum().clamp(min=0.0).sqrt()
        found = found - step * torch.where(decrement < 0.25, 1.0, 1 / (1 + decrement))
    found = found / safe * torch.linalg.matrix_norm(gram).sqrt()
    return torch.where(there & torch.isfinite(found), found, before)
