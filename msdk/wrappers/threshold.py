"""Estimates within a range that each image sets for itself."""

from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import gt, le

from msdk.samplers.base import Denoise
from msdk.schedules.base import Schedule
from msdk.wrappers.base import Wrapper

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class DynamicThreshold(Wrapper):
    """min(max(x_0, -q), q) / q, where q is a quantile of the absolute values of each image.

    It keeps strongly guided images from saturating.
    Source: Saharia et al. 2022, arXiv 2205.11487, section 2.3.

    Args:
        ratio: Share of an image's values that the quantile lies above.
        least: The least q; images within it stay as they are, where it is 1.
    """

    pixels: ClassVar[bool] = True

    ratio: float = attrs.field(default=0.995, validator=[gt(0), le(1)])
    least: float = attrs.field(default=1.0, validator=gt(0))

    def around(self, denoise: Denoise, schedule: Schedule) -> Denoise:
        import torch

        def estimate(x_t: "Tensor", t: float) -> "Tensor":
            x_0 = denoise(x_t, t)
            q = torch.quantile(x_0.flatten(1).abs(), self.ratio, dim=1).clamp(min=self.least)
            q = q.view(-1, *[1] * (x_0.ndim - 1))
            return torch.minimum(torch.maximum(x_0, -q), q) / q

        return estimate
