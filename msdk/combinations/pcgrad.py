"""Gradients without their conflicts (PCGrad)."""

from typing import TYPE_CHECKING

import attrs

from msdk.combinations.base import Combination

if TYPE_CHECKING:
    from random import Random

    from torch import Tensor


@attrs.frozen(kw_only=True)
class PCGrad(Combination):
    """Sum of the gradients, each projected onto the normal plane of every other one that it conflicts with, in turn.

    g_i <- g_i - min(<g_i, g_j>, 0) / |g_j|^2 g_j over all j other than i in random order, g_j as they were.

    Source: Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", arXiv 2001.06782, Algorithm 1; over stages of
    noise: Go et al. 2023, arXiv 2306.00354.
    """

    def weights(self, gram: "Tensor", before: "Tensor", iteration: int, generator: "Random") -> "Tensor":
        import torch

        count = len(gram)
        # Row i has what g_i' is made of, and <g_i', g_j>: gradients themselves are not needed.
        made, inner = torch.eye(count, dtype=gram.dtype, device=gram.device), gram.clone()
        orders = [sorted(set(range(count)) - {own}, key=lambda _: generator.random()) for own in range(count)]
        squares = gram.diagonal().clamp(min=torch.finfo(gram.dtype).tiny)
        for others in torch.tensor(orders).reshape(count, count - 1).T.to(gram.device, non_blocking=True):
            share = inner.gather(1, others[:, None]).clamp(max=0.0) / squares.index_select(0, others)[:, None]
            made = made.scatter_add(1, others[:, None], -share)
            inner = inner - share * gram.index_select(0, others)
        return made.sum(0)
