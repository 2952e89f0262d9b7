"""The same learning rate throughout."""

import attrs

from msdk.lr_schedules.base import LRSchedule


@attrs.frozen(kw_only=True)
class Constant(LRSchedule):
    """Factor 1 at every step, as DDPM and EDM train. Source: Ho et al. 2020, arXiv 2006.11239, appendix B."""

    def factor(self, iteration: int, iterations: int) -> float:
        return 1.0
