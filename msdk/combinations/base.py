"""What a combination of gradients is: a weight for each stage's gradient, from their inner products alone."""

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from torch import Tensor


class Combination(abc.ABC):
    """The gradient sum_k w_k g_k of what stages share, g_k that of stage k; with weights of 1 it is that of the loss.

    Of each step, g_k is the gradient of stage k's part of the loss (the sum over its images, divided by the images of
    the whole batch), summed over processes, of the stages that have images in it. Inner products of gradients are sums
    over weights, so processes that keep rows of them have the same weights w. Concrete ones are frozen attrs classes,
    which keep nothing between steps: what is kept is given and taken.
    """

    largest: float = 0.0
    """Norm beyond which the combined gradient is scaled down to it; 0 scales nothing."""

    @abc.abstractmethod
    def weights(self, gram: "Tensor", before: "Tensor", iteration: int, generator: "Random") -> "Tensor":
        """The weights w of a step, float [stages], on the device of the inner products, which is not waited for.

        Args:
            gram: Float [stages, stages]: inner products <g_i, g_j> of the gradients of the stages with images. Float64
                where the device has it. A gradient may be 0, and not finite where a step overflows.
            before: What this gave each of these stages when it last had images, [stages]; 1 at first.
            iteration: Steps done before this one.
            generator: Random numbers of this step, the same in all processes.
        """
