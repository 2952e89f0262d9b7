"""A decay by images instead of steps."""

import attrs
from attrs.validators import ge, gt

from msdk.averages.base import Average


@attrs.frozen(kw_only=True)
class HalfLife(Average):
    """Decay 0.5^(batch / h), with the half-life h = min(images, ramp x images seen before the step).

    Source: Karras et al. 2022, arXiv 2206.00364, appendix F.2.

    Args:
        images: After so many a weight counts half.
        ramp: Share of the images seen, which the half-life does not exceed; 0 does not ramp it up.
    """

    images: float = attrs.field(default=500_000.0, validator=gt(0))
    ramp: float = attrs.field(default=0.05, validator=ge(0))

    def decay(self, update: int, batch: int) -> float:
        life = min(self.images, self.ramp * (update - 1) * batch) if self.ramp else self.images
        return 0.5 ** (batch / life) if life else 0.0
