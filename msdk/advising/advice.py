"""What is advised, as it stands in advice.json. Imports no torch."""

from typing import Any, Literal

import attrs

from msdk.recipe.results import to_json


@attrs.frozen
class Range:
    """An estimate with its interval; None where it is infinite."""

    estimate: float | None
    low: float | None
    high: float | None


@attrs.frozen(kw_only=True)
class FittedLaw:
    """The loss of a network, or of a stage of one, against training FLOPs F spent on it: a + b (F / unit)^-c.

    Attributes:
        stage: 0 has the least noise; None is of the unified network.
        width: Channels of its decoder.
        a: With its interval, as b and c.
        b: Likewise.
        c: Likewise.
        unit: FLOPs.
        flops_per_image: Of training on one image.
        error: Root of the mean square of what the law misses the looks by.
    """

    stage: int | None
    width: int
    a: Range
    b: Range
    c: Range
    unit: float
    flops_per_image: float
    error: float


@attrs.frozen(kw_only=True)
class StageAdvice:
    """A stage of the network that is proposed.

    Attributes:
        low: Where it begins, in ratio.
        high: Where it ends; None where it has no end.
        drawn: Its share of the images that training draws.
        floor: The loss of the optimal denoiser of the data there, which no network gets below on what it has learned.
        width: Channels of its decoder.
    """

    low: float
    high: float | None
    drawn: float
    floor: float
    width: int


@attrs.frozen(kw_only=True)
class Advice:
    """The content of advice.json.

    Attributes:
        recipe: Its file.
        budget: Training FLOPs.
        verdict: What to do.
        sentence: That in words, with its uncertainty.
        edges_ratio: Interior edges of the stages, in ratio.
        edges_by: What found them: a strategy, or "the recipe".
        stages: The proposal, least noise first.
        iterations: Of the staged network for the budget.
        unified_width: Channels of the unified decoder.
        unified_iterations: Of the unified network for the budget.
        staged_loss: Predicted held-out loss for the budget.
        unified_loss: Likewise.
        saving: Share of the budget that the staged network saves until it is as good as the unified one; below 0 it
            needs more, and None is without end.
        confidence: Of all intervals.
        laws: What was fitted.
        foresight: Loss by which laws miss, for one doubling of what is spent, unsigned: fitted to what is known at half
            of the probes, and asked for their end, of the difference of staged networks, whose decoders all have one
            width, from the unified one; the root of the mean square over widths. The interval of `saving` holds as much
            again for each doubling from the probes on.
        probed_flops: Spent on probes.
        beyond: How many times more than on its largest probe the budget spends.
        seeds: Of the probes.
    """

    recipe: str
    budget: float
    verdict: Literal["stages", "stay unified"]
    sentence: str
    edges_ratio: tuple[float, ...]
    edges_by: str
    stages: tuple[StageAdvice, ...]
    iterations: int
    unified_width: int
    unified_iterations: int
    staged_loss: Range
    unified_loss: Range
    saving: Range
    confidence: float
    laws: tuple[FittedLaw, ...]
    foresight: float
    probed_flops: float
    beyond: float
    seeds: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """The object of advice.json."""
        return to_json(self)
