"""What a study found, in sentences: each with its uncertainty, "no difference" and "worse" too. Imports no torch."""

import math
from collections.abc import Sequence

from msdk.recipe.quantities import written
from msdk.studies.crossing import Crossing
from msdk.studies.results import Account, Comparison, Verdict

SPENT = {"training": "training FLOPs", "paper": "MACs of the paper's account"}


NEARLY = 0.95
"""Share of the baseline's at which an arm has spent the same: arms of equal FLOPs are equal up to half a look."""


def judged(found: Crossing) -> Verdict:
    """Whether an arm is better than the baseline: by what it spends until it has the same quality.

    An arm that never has it, and ends where the baseline does, is worse where it is surely behind there. "unknown" is
    what was not trained for long enough to say: even the low end of the interval is "never".
    """
    if found.ratio.high < 1:
        return "better"
    behind = math.isinf(found.ratio.value) and found.at_least > NEARLY and found.difference.low > 0
    if found.at_least > 1 or behind:
        return "worse"
    if math.isinf(found.ratio.low):
        return "unknown"
    return "no difference"


def sentence(
    name: str, baseline: str, words: str, found: Crossing, account: Account, confidence: float, seeds: int
) -> str:
    """That in words.

    Args:
        name: Of the arm.
        baseline: Of the baseline.
        words: What quality is called.
        found: About both.
        account: What is spent.
        confidence: Of the intervals.
        seeds: How many both have.
    """
    verdict, spent = judged(found), SPENT[account]
    low, high = (_percent(value) for value in (found.ratio.low, found.ratio.high))
    sure = f"{100 * confidence:.0f} % interval"
    goal = f"{baseline}'s {words} of {found.target:.4f}"
    apart = found.difference
    side = "above" if apart.value > 0 else "below"
    gap = (
        f"where both have spent the same, it is {abs(apart.value):.4f} {side} ({sure} of the difference "
        f"{apart.low:+.4f} to {apart.high:+.4f})"
    )
    if verdict == "better":
        told = (
            f"{name} reaches {goal} with {_percent(found.ratio.value)} of the {spent} ({sure} {low} to {high}), "
            f"{written(found.crossing.value, 'FLOPs' if account == 'training' else 'MACs')}"
        )
    elif math.isfinite(found.ratio.value):
        needs = f"{_percent(found.ratio.value)} of the {spent} ({sure} {low} to {high})"
        told = (
            f"{name} is worse than {baseline}: it reaches {goal} with {needs}"
            if verdict == "worse"
            else f"No difference between {name} and {baseline} can be told: {name} reaches {goal} with {needs}"
        )
    elif verdict == "worse":
        told = f"{name} is worse than {baseline}: it does not reach {goal}; {gap}"
    elif verdict == "unknown":
        told = (
            f"Whether {name} needs less than {baseline} is not known: it was not trained until it reaches {goal}; {gap}"
        )
    else:
        told = (
            f"No difference between {name} and {baseline} can be told: the mean of {name} does not reach {goal}, but "
            f"{_percent(found.reached)} of the resamples do; {gap}"
        )
    return f"{told}; {seeds} paired seeds."


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "never"


def verdict_of(comparisons: Sequence[Comparison], baseline: str, pending: int, failed: int = 0) -> str:
    """One sentence on a whole study: of several arms, that of the one that needs least.

    Where none is ever as good as the baseline it is that of the nearest to it where both have spent the same.

    Args:
        comparisons: By training FLOPs.
        baseline: Name of the arm that others are compared with.
        pending: Trials that are still to be done.
        failed: Trials that failed.
    """
    many = "trials are" if pending > 1 else "trial is"
    rest = f" {pending} {many} still to be done." if pending else ""
    rest += f" {failed} {'trials' if failed > 1 else 'trial'} failed." if failed else ""
    if not comparisons:
        return f"Nothing can be compared with {baseline} yet.{rest}"
    first = min(comparisons, key=_order)
    if len(comparisons) == 1:
        return first.sentence + rest
    counts = {
        kind: sum(each.verdict == kind for each in comparisons)
        for kind in ("better", "no difference", "worse", "unknown")
    }
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    why = "is nearest" if first.ratio.estimate is None else "needs least"
    return (
        f"Of {len(comparisons)} arms against {baseline}: {told}. {first.sentence} Of the arms that one {why}; its "
        f"interval does not hold that it was chosen.{rest}"
    )


def _order(comparison: Comparison) -> tuple[float, float]:
    """What is told first: what an arm needs, and then how far it is from the baseline."""
    ratio, apart = comparison.ratio.estimate, comparison.difference.estimate
    return (math.inf if ratio is None else ratio, math.inf if apart is None else apart)
