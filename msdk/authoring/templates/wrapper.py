"""A wrapper: what stands between a sampler and the network."""

from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt

from msdk.samplers.base import Denoise
from msdk.schedules.base import Schedule
from msdk.wrappers.base import Wrapper

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class MyWrapper(Wrapper):
    """bound tanh(x_0 / bound): estimates bend towards a bound smoothly, where `clip` cuts them.

    Args:
        bound: That no value passes.
    """

    bound: float = attrs.field(default=1.5, validator=gt(0))

    def around(self, denoise: Denoise, schedule: Schedule) -> Denoise:
        def estimate(x_t: "Tensor", t: float) -> "Tensor":
            # One network call, whose answer is changed; what is fed may be changed too.
            return self.bound * (denoise(x_t, t) / self.bound).tanh()

        return estimate
