"""Score prediction."""

from typing import Any, Literal

import attrs
from attrs.validators import gt

from msdk.parameterizations.base import Coefficients, Parameterization
from msdk.schedules.base import Schedule, Time


@attrs.frozen(kw_only=True)
class Score(Parameterization):
    """The network sees `x_t` as it is and predicts the score: x_0 = (x_t + sigma^2 F) / alpha.

    Source: Song et al. 2021, arXiv 2011.13456, appendix H; how score_sde trains its VE models.

    Args:
        feed: What the network is fed: "sigma", or "index", the number of the noise level in a descending series.
        steps: Length of that series.
    """

    feed: Literal["sigma", "index"] = "sigma"
    steps: int = attrs.field(default=1000, validator=gt(1))

    def coefficients(self, schedule: Schedule, t: Time) -> Coefficients[Time]:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        fed = sigma if self.feed == "sigma" else self._index(t)
        return Coefficients(c_skip=1 / alpha, c_out=sigma * sigma / alpha, c_in=alpha * 0 + 1, c_noise=fed)

    def _index(self, t: Any) -> Any:
        place = (1 - t) * (self.steps - 1)
        return float(round(place)) if isinstance(place, float) else place.round()
