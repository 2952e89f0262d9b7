"""Running a network block by block, so that training may keep the inputs of its blocks instead of all they compute."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Blockwise(nn.Module):
    """A module that runs its blocks through `block`.

    Attributes:
        recompute: Whether a backward pass computes the activations of each block again, from the block's inputs,
            instead of finding them in memory: the same numbers, dropout included. Without gradients it makes no
            difference. Source: Chen et al. 2016, arXiv 1604.06174.
    """

    recompute: bool = False

    def block(self, run: Callable[..., Tensor], *inputs: object) -> Tensor:
        """`run(*inputs)`. Bind what changes in a loop, as `run` may be called again when the loop is over."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(run, *inputs, use_reentrant=False)
        return run(*inputs)
