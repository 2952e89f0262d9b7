"""Laws of averages of weights."""

from msdk.averages.base import Average
from msdk.testing.laws import COMMON, require

UPDATES = (1, 2, 3, 10, 100, 1000, 10**6)


def decays_are_shares(average: Average) -> None:
    """Between 0 and 1, from the first update on, whatever the batch; and something new is taken in now and then."""
    for batch in (1, 64, 4096):
        found = [average.decay(update, batch) for update in UPDATES]
        for update, decay in zip(UPDATES, found, strict=True):
            require(0 <= decay <= 1, f"the decay of update {update} with a batch of {batch} is {decay}")
        require(min(found) < 1, f"with a batch of {batch} no update takes anything in")


def updates_may_be_asked_in_any_order(average: Average) -> None:
    """A resumed run begins in the middle: the decay of an update is that of the update, whatever was asked before."""
    forward = [average.decay(update, 64) for update in UPDATES]
    backward = [average.decay(update, 64) for update in reversed(UPDATES)]
    require(forward == backward[::-1], "the decay of an update depends on which updates were asked for before")


LAWS = (*COMMON, decays_are_shares, updates_may_be_asked_in_any_order)
