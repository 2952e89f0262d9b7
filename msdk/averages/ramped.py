"""A constant decay, ramped up."""

import attrs
from attrs.validators import ge, lt

from msdk.averages.base import Average


@attrs.frozen(kw_only=True)
class Ramped(Average):
    """Decay min(value, (1 + n) / (10 + n)) at update n.

    Source: score_sde (Song et al. 2021, arXiv 2011.13456), whose ramp is TensorFlow's.

    Args:
        value: The decay that it ends with; 0 keeps the last weights.
    """

    value: float = attrs.field(default=0.9999, validator=[ge(0), lt(1)])

    def decay(self, update: int, batch: int) -> float:
        return min(self.value, (1 + update) / (10 + update))
