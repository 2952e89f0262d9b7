"""How long training takes on a card that is not at hand, and what that costs, from counts alone. Imports no torch."""

import math

from msdk.budgeting.cards import Card
from msdk.budgeting.costs import Budget
from msdk.budgeting.requested import Estimate, Precision
from msdk.errors import MsdkError

UTILISATION = 0.35
"""Share of a card's peak that training is taken to reach where nothing is said; `msdk budget --measure` finds it."""


def estimate(
    budget: Budget, card: Card, dtype: Precision, *, utilisation: float = UTILISATION, price: float | None = None
) -> Estimate | None:
    """Hours and money of the whole training on one card; None for a budget without training.

    hours = FLOPs / (peak x utilisation) / 3600. The FLOPs are all that the card computes: forward, backward, what is
    recomputed, and the encoding of latents.

    Args:
        budget: Of a recipe, in any convention: FLOPs of training are exact in all.
        card: See `msdk.budgeting.cards`.
        dtype: Of the training.
        utilisation: Share of the peak that is reached, in (0, 1].
        price: Of the card for an hour, in any currency.

    Raises:
        MsdkError: The card does not compute in `dtype`, or a number is out of range.
    """
    if not 0 < utilisation <= 1:
        raise MsdkError(f"a utilisation of {utilisation:g} is none: give the share of the peak, above 0 and at most 1")
    if price is not None and not 0 <= price < math.inf:
        raise MsdkError(f"a price of {price:g} is none: give what the card costs an hour, 0 or more")
    training = budget.training
    if training is None:
        return None
    rate = card.rate(dtype)
    per_hour = 3600 * utilisation * card.peak[rate]
    hours = (training.total_flops + training.autoencoder_flops) / per_hour
    return Estimate(
        gpu=card.name,
        title=card.title,
        dtype=dtype,
        rate=rate,
        peak_flops_per_second=card.peak[rate],
        memory=card.memory,
        source=card.source,
        utilisation=utilisation,
        hours=hours,
        hours_by_stage=tuple(
            (stage.forward_flops + stage.backward_flops + stage.recompute_flops) / per_hour for stage in training.stages
        ),
        price=price,
        cost=None if price is None else price * hours,
    )
