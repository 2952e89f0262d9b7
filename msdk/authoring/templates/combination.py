"""How the gradients of stages become one gradient of the encoder that they share."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, le

from msdk.combinations.base import Combination

if TYPE_CHECKING:
    from random import Random

    from torch import Tensor


@attrs.frozen(kw_only=True)
class MyCombination(Combination):
    """Gradients drawn out or in towards their mean length: w_i = (mean of |g| / |g_i|)^share.

    Source: yours.

    Args:
        share: 0 leaves lengths as they are, 1 makes them all alike.
    """

    share: float = attrs.field(default=1.0, validator=[ge(0), le(1)])

    def weights(self, gram: "Tensor", before: "Tensor", iteration: int, generator: "Random") -> "Tensor":
        # Inner products say all that there is to know; a gradient may be 0, and nothing here looks at a number.
        lengths = gram.diagonal().sqrt()
        smallest = 1e-12 * lengths.max()
        ratio = lengths.mean() / lengths.clamp(min=smallest)
        return ratio.nan_to_num(nan=1.0, posinf=1.0) ** self.share
