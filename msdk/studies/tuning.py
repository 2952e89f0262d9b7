"""Arms that are tuned: of each the setting with the best mean over seeds counts. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msdk.studies.fields import Range, Study
from msdk.studies.files import inline
from msdk.studies.results import ArmResult, TunedKey, Tuning

if TYPE_CHECKING:
    from msdk.studies.planning import Plan, Trial

EDGE = 0.05
"""Share of a range (of its logarithm, where it is drawn so) that counts as its end."""


def groups(plan: "Plan", arms: Sequence[ArmResult]) -> Mapping[str, Sequence[int]]:
    """Places of the arms that are one arm in several settings, by its name; the baseline's first."""
    found: dict[str, list[int]] = {}
    for place in range(len(arms)):
        found.setdefault(plan.variants[place].tuned, []).append(place)
    return found


def best_of(arms: Sequence[ArmResult]) -> ArmResult:
    """The one with the best mean over seeds; one of whose trials failed only where all have such."""

    def rank(arm: ArmResult) -> tuple[bool, float]:
        return any(trial.state == "failed" for trial in arm.trials), math.inf if arm.best is None else arm.best

    return min(arms, key=rank)


def tunings(plan: "Plan", arms: Sequence[ArmResult]) -> tuple[Tuning, ...]:
    """How each arm was tuned, and what was chosen; empty for a study that tunes nothing."""
    options = plan.study.study
    if options.search is None and not options.best_of:
        return ()
    found: list[Tuning] = []
    for name, places in groups(plan, arms).items():
        chosen = best_of([arms[place] for place in places])
        variant = next(plan.variants[place] for place in places if arms[place] is chosen)
        values = _searched(plan.study, variant.arm)
        keys = tuple(
            TunedKey(key, inline(value), _told(values[key]), at_end=at_end(value, values[key]))
            for key, value in variant.setting.items()
        )
        settings = sum(plan.variants[place].kept for place in places)
        by = "grid" if options.search is None else options.search.name
        found.append(Tuning(name, None if chosen.best is None else chosen.name, by, settings, keys))
    return tuple(found)


def counting(trials: "Sequence[Trial]", tuning: Sequence[Tuning]) -> "list[Trial]":
    """The trials of settings that count: all where nothing is tuned."""
    return [trial for trial in trials if not tuning or trial.variant.name in {each.chosen for each in tuning}]


def _searched(study: Study, arm: str) -> Mapping[str, Range | tuple[Any, ...]]:
    if study.study.search is not None:
        return study.space(arm)
    grid = {**study.study.over, **study.arms[arm].over}
    return {key: grid[key] for key in study.study.best_of}


def _told(values: Range | tuple[Any, ...]) -> str:
    if isinstance(values, Range):
        return f"{inline(values.low)} to {inline(values.high)}"
    return ", ".join(map(inline, values))


def at_end(value: Any, values: Range | tuple[Any, ...]) -> bool:
    """Whether a number is at an end of those that were tried, so that better ones may lie beyond."""
    if not isinstance(values, Range):
        numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values)
        return numbers and len(values) > 1 and value in (min(values), max(values))
    low, high, at = (math.log(each) if values.log else each for each in (values.low, values.high, value))
    return not EDGE < (at - low) / (high - low) < 1 - EDGE
