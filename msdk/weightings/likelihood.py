"""The loss that bounds the likelihood."""

import attrs

from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class Likelihood(Weighting):
    """g^2 / 2 on the error of the score: with even times the loss bounds the likelihood of the data.

    On the error of the clean image that is g^2 alpha^2 / (2 sigma^4), half the rate at which the SNR falls.
    Source: Song et al. 2021, arXiv 2101.09258, Theorem 1; SiT (Ma et al. 2024, arXiv 2401.08740) has it too.
    """

    def weight(self, schedule: Schedule, t: Time) -> Time:
        sigma, ratio = schedule.sigma(t), schedule.ratio(t)
        return schedule.g2(t) / (2 * sigma * sigma * ratio * ratio)
