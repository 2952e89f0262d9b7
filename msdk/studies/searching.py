"""A study whose settings a search chooses: what was tried is read from the run folders, and leads to what comes next.

Nothing is kept of a search itself. Whoever looks at the folder tells the sampler anew what its trials have found, in
the order in which their settings were proposed, so that processes that share them, and one that goes on after a kill,
come to the same settings.
"""

import itertools
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import attrs

from msdk.distributed import Group
from msdk.errors import MsdkError
from msdk.recipe.quantities import written
from msdk.studies.choosing import Setting, proposed
from msdk.studies.collecting import trial_result
from msdk.studies.files import inline
from msdk.studies.planning import Plan, Point, Trial, Variant, points_of, refuse_unlike


@attrs.define(eq=False)
class Searching:
    """The trials of a study as they become known.

    Args:
        whole: The study, priced; without a search its trials are known at once.
        folder: Of the study.
        group: The processes that train together, of which the first one looks.
    """

    whole: Plan
    folder: Path
    group: Group = attrs.field(factory=Group)
    plan: Plan = attrs.field(init=False, default=attrs.Factory(lambda self: self.whole, takes_self=True))
    """The study with the settings that the search had come to when trials were last asked for."""
    known: tuple[Trial, ...] = attrs.field(init=False, default=())
    """The trials that there were then."""
    _priced: dict[str, Variant | MsdkError] = attrs.field(init=False, factory=dict[str, "Variant | MsdkError"])
    _asked: dict[str, tuple[list[Setting], list[float | None]]] = attrs.field(
        init=False, factory=dict[str, "tuple[list[Setting], list[float | None]]"]
    )
    _worth: dict[str, float] = attrs.field(init=False, factory=dict[str, float])

    def trials(self) -> tuple[Trial, ...]:
        """All trials that are known by now: of a search, the first setting of all arms with all seeds, then the second.

        A trial has the same number however far the search is. All processes of the group call it.

        Raises:
            MsdkError: No setting of the baseline is within the budget, or none of an arm makes a good recipe.
        """
        if self.whole.study.study.search is None:
            self.known = self.group.agreed(self.whole.trials)
            return self.known
        first = self.group.rank.first
        told = self.group.agreed(lambda: [json.dumps([self._proposed(each) for each in self._points])] if first else [])
        settings: list[list[Setting]] = json.loads(self.group.union(told)[0])
        self.known = self.group.agreed(lambda: self._trials(settings))
        return self.known

    def _trials(self, settings: Sequence[Sequence[Setting]]) -> tuple[Trial, ...]:
        own = [self._variants(point, each) for point, each in zip(self._points, settings, strict=True)]
        if not any(each.kept for each in own[0]):
            cost = len(self.whole.study.study.seeds) * min(each.price.flops for each in own[0])
            raise MsdkError(
                f"the budget of {written(self.whole.budget or 0, 'FLOPs')}, shared by {len(own)} arms, is less than "
                f"the {written(cost, 'FLOPs')} that a setting of {self._points[0].name} takes with all seeds: raise "
                "it, or train less"
            )
        self.plan = attrs.evolve(self.whole, variants=tuple(itertools.chain.from_iterable(own)))
        refuse_unlike([(each.name, self.plan.pricing.digest(each.recipe)) for each in self.plan.kept])
        seeds = self.whole.study.study.seeds
        return tuple(
            self.plan.trial((place * len(own) + arm) * len(seeds) + at, variants[place], seed)
            for place in range(max(map(len, own)))
            for arm, variants in enumerate(own)
            if place < len(variants) and variants[place].kept
            for at, seed in enumerate(seeds)
        )

    def _variants(self, point: Point, settings: Sequence[Setting]) -> list[Variant]:
        tried = _Tried(self, point)
        for each in settings:
            tried.add(each)
        found = [each for each in tried.known.values() if each is not None]
        if not found:
            raise MsdkError(f"no setting of {point.name} that was proposed makes a good recipe: {tried.refused[0]}")
        return found

    @property
    def unknown(self) -> int:
        """Settings that are still to be proposed, at most."""
        if self.whole.study.study.search is None:
            return 0
        return sum(each.tries for each in self.whole.variants) - sum(len(self._proposed(each)) for each in self._points)

    @property
    def _points(self) -> Sequence[Point]:
        study = self.whole.study
        names = [study.baseline, *(name for name in study.arms if name != study.baseline)]
        return [point for name in names for point in points_of(study, name)]

    def _proposed(self, point: Point) -> list[Setting]:
        """The settings that the search has come to; the sampler is asked where a result is new."""
        search = self.whole.study.study.search
        assert search is not None
        settings, worths = self._asked.get(point.name, ([], []))
        tried = _Tried(self, point)
        if settings and [tried.worth(tried.add(each)) for each in settings] == worths:
            return settings
        tried, worths = _Tried(self, point), list[float | None]()

        def worth(setting: Setting) -> float | None:
            worths.append(tried.worth(tried.add(setting)))
            return worths[-1]

        settings = proposed(search, self.whole.study.space(point.arm), worth)
        self._asked[point.name] = settings, worths
        return settings

    def priced(self, point: Point) -> Variant | MsdkError:
        """The price of a setting, or why it makes no good recipe."""
        if point.name not in self._priced:
            try:
                self._priced[point.name] = self.whole.pricing.priced(point)
            except MsdkError as error:
                self._priced[point.name] = error
        return self._priced[point.name]

    def quality(self, variant: Variant) -> float | None:
        """The mean over seeds of the best quality: infinite where a trial failed, None while one is to be trained."""
        if variant.name in self._worth:
            return self._worth[variant.name]
        best: list[float] = []
        for seed in self.whole.study.study.seeds:
            trial = self.whole.trial(0, variant, seed)
            found = trial_result(self.folder, trial, self.whole.study.study.metrics[0])
            if found.state == "failed" or (found.state == "done" and not found.points):
                return math.inf
            if found.state != "done":
                return None
            best.append(min(point.value for point in found.points))
        self._worth[variant.name] = statistics.fmean(best)
        return self._worth[variant.name]


class _Tried:
    """The settings of an arm in the order of their proposals, each once, within the arm's share of the budget."""

    def __init__(self, searching: Searching, point: Point) -> None:
        whole = searching.whole
        self.searching, self.point = searching, point
        self.seeds = len(whole.study.study.seeds)
        self.left = math.inf if whole.budget is None else whole.budget / len(whole.variants)
        self.known: dict[str, Variant | None] = {}
        self.refused: list[str] = []

    def add(self, setting: Setting) -> Variant | None:
        """What a setting makes; None where that is no good recipe."""
        key = inline(dict(setting))
        if key not in self.known:
            made = self.searching.priced(self.point.at(setting))
            if isinstance(made, MsdkError):
                self.refused.append(str(made))
                self.known[key] = None
            else:
                cost = self.seeds * made.price.flops
                kept = cost <= self.left * (1 + 1e-9)
                self.left -= cost if kept else 0
                self.known[key] = attrs.evolve(made, kept=kept)
        return self.known[key]

    def worth(self, variant: Variant | None) -> float | None:
        """What the sampler is told: what cannot be trained is as bad as can be, so that it looks elsewhere."""
        return math.inf if variant is None or not variant.kept else self.searching.quality(variant)
