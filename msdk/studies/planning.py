"""A study before it is trained: its arms at every point of their grids, what each costs, and its trials."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.budgeting import budget
from msdk.budgeting.cards import Card
from msdk.budgeting.planning import UTILISATION, estimate
from msdk.clustering import Clusters, with_edges
from msdk.errors import MsdkError, RecipeError
from msdk.recipe import Recipe, check_trainable, load_recipe
from msdk.recipe.quantities import quantity, written
from msdk.recipe.structuring import to_data
from msdk.studies.addresses import address, run_of, slug
from msdk.studies.choosing import ready_to_choose, tries
from msdk.studies.fields import Range, Study
from msdk.studies.files import inline
from msdk.studies.quality import HELD_OUT, OF_EVALUATIONS
from msdk.studies.results import Price

Counting = Callable[[str], None]


@attrs.frozen(eq=False)
class Variant:
    """An arm at one point of its grid.

    Attributes:
        arm: Of the study.
        name: The arm's, with what the grid sets.
        tuned: The same without what it is tuned by: of variants that have it in common, the best one counts.
        setting: What it is tuned by: key of recipes -> its value.
        file: Of its recipe.
        changes: What is set in it, as `--set` takes it, without the seed.
        recipe: The recipe with its edges; its seed is that of the first trial.
        clusters: What found the edges; None where the recipe says them.
        price: Of one trial.
        kept: Whether it is within the budget of the study.
        paper: What the paper says of it.
        tries: Settings that a search is to propose of it, of which this one costs most; 1 where it stands for itself.
    """

    arm: str
    name: str
    tuned: str
    setting: Mapping[str, Any]
    file: Path
    changes: tuple[str, ...]
    recipe: Recipe
    clusters: Clusters | None
    price: Price
    kept: bool
    paper: Mapping[str, float]
    tries: int = 1


@attrs.frozen(eq=False)
class Trial:
    """One run.

    Attributes:
        number: In the study, as `--trial` takes it.
        variant: Whose recipe it trains.
        seed: `training.seed`.
        name: Of its folder, where it is the first of its address; the address is its last twelve letters.
    """

    number: int
    variant: Variant
    seed: int
    name: str

    @property
    def recipe(self) -> Recipe:
        """What it trains."""
        return _seeded(self.variant.recipe, self.seed)

    def run(self, folder: Path) -> Path:
        """Its run folder, in that of the study."""
        return run_of(folder, self.name)

    def command(self, folder: Path) -> tuple[str, ...]:
        """The words after `msdk` that make it, on any machine with the same data and version.

        Args:
            folder: Of the study.
        """
        edges = self.variant.recipe.stages.edges_ratio
        changes = [*self.variant.changes, f"training.seed={self.seed}"]
        if self.variant.clusters is not None and edges:  # found here, so that nobody finds others
            changes.append(f"stages={inline({'edges_ratio': list(edges)})}")
        sets = itertools.chain.from_iterable(("--set", each) for each in changes)
        return ("train", str(self.variant.file), *sets, "--out", str(self.run(folder)), "--resume")


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    return attrs.evolve(recipe, training=attrs.evolve(recipe.training, seed=seed))


@attrs.frozen
class Point:
    """An arm at one point of its grid, before it is priced: see `Variant`."""

    arm: str
    name: str
    tuned: str
    changes: tuple[str, ...]
    setting: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    def at(self, setting: Mapping[str, Any]) -> "Point":
        """The same with a setting that a search proposes."""
        label = _label(self.name, setting)
        # What the study itself sets comes last, and is none of a setting's keys.
        return Point(self.arm, label, self.tuned, (*self.changes, *_assigned(setting)), setting)


@attrs.frozen(eq=False)
class Plan:
    """A study, priced.

    Attributes:
        study: What was read.
        variants: Arms at every point of their grids, the baseline first. Of a study with a search, each stands for all
            settings that are to be proposed, or (see `msdk.studies.searching`) is one of those that were.
        budget: Most training FLOPs of all trials; None where there is no limit.
        pricing: What priced them.
    """

    study: Study
    variants: tuple[Variant, ...]
    budget: float | None
    pricing: "Pricing"

    @property
    def kept(self) -> tuple[Variant, ...]:
        """Those within the budget."""
        return tuple(each for each in self.variants if each.kept)

    @property
    def flops(self) -> float:
        """Training FLOPs of all trials that are kept; of a search the most that they can be."""
        most = len(self.study.study.seeds) * sum(each.price.flops * each.tries for each in self.kept)
        searched = any(each.tries > 1 for each in self.kept)
        return min(most, self.budget) if searched and self.budget is not None else most

    def refuse_alone(self) -> None:
        """Refuses a budget for the baseline alone, with which nothing is compared.

        Raises:
            MsdkError: It is one.
        """
        if len(self.kept) == 1 < len(self.variants) and self.budget is not None:
            baseline, *others = (each.price.flops for each in self.variants)
            least = len(self.study.study.seeds) * (baseline + min(others))
            raise MsdkError(
                f"the budget of {written(self.budget, 'FLOPs')} leaves out all arms but {self.kept[0].name}, so "
                f"nothing would be compared; with the cheapest of them it takes {written(least, 'FLOPs')}"
            )

    def trials(self) -> tuple[Trial, ...]:
        """Every trial that is kept: all arms with the first seed, then all with the next one. Opens the data.

        Raises:
            DataError: The data cannot be read.
            MsdkError: Arms have different data.
        """
        refuse_unlike([(each.name, self.pricing.digest(each.recipe)) for each in self.kept])
        pairs = itertools.product(self.study.study.seeds, self.kept)
        return tuple(self.trial(number, each, seed) for number, (seed, each) in enumerate(pairs))

    def trial(self, number: int, variant: Variant, seed: int) -> Trial:
        """A trial of a variant.

        Raises:
            DataError: The data cannot be read.
        """
        where = address(_seeded(variant.recipe, seed), self.pricing.digest(variant.recipe))
        return Trial(number, variant, seed, f"{slug(variant.name)}-seed{seed}-{where}")


def plan(
    study: Study,
    *,
    card: Card | None = None,
    utilisation: float = UTILISATION,
    measured: bool = False,
    memory: bool = False,
    device: str | None = None,
    cache: bool = True,
    say: Counting = lambda text: None,
) -> Plan:
    """Prices a study, and leaves out what exceeds its budget.

    Args:
        study: What was read.
        card: Hours are of this card, where one is named.
        utilisation: Share of the card's peak that training is taken to reach.
        measured: Whether hours are measured here, on `device`.
        memory: Whether memory is simulated.
        device: Where edges are found, and hours measured.
        cache: Whether counts and edges of earlier calls are used.
        say: Told what is counted.

    Raises:
        MsdkError: A recipe is wrong, or the baseline alone exceeds the budget, or optuna is to choose and is not
            installed.
    """
    options = study.study
    pricing = Pricing(
        study, card=card, utilisation=utilisation, measured=measured, memory=memory, device=device, cache=cache, say=say
    )
    limit = None if options.budget is None else quantity(str(options.budget), "FLOPs")
    names = [study.baseline, *(name for name in study.arms if name != study.baseline)]
    points = [point for name in names for point in points_of(study, name)]
    if len({each.tuned for each in points if each.arm == study.baseline}) > 1:
        raise MsdkError(
            f"the baseline {study.baseline} has a grid itself: name one arm for each of its values, or the keys in "
            "best_of, so that of each arm the best value counts"
        )
    if options.search is None:
        found = [pricing.priced(each) for each in points]
        return Plan(study, tuple(_within(found, len(options.seeds), limit)), limit, pricing)
    ready_to_choose()
    if options.equal == "flops":
        pricing.priced(points[0])  # what the baseline costs as its recipe is, so that no setting of it decides that
    return Plan(study, tuple(_dearest(pricing, each) for each in points), limit, pricing)


@attrs.define(eq=False, kw_only=True)
class Pricing:
    """Prices arms at points of their grids, one after the other, as `plan` describes it.

    Attributes:
        per_trial: Training FLOPs that all arms are to have, once the first one is priced; of `equal = "flops"`.
        known: Recipes as they were read, each with its edges.
        found: What was priced.
        digests: Of data that were opened.
    """

    study: Study = attrs.field(kw_only=False)
    card: Card | None = None
    utilisation: float = UTILISATION
    measured: bool = False
    memory: bool = False
    device: str | None = None
    cache: bool = True
    say: Counting = lambda text: None
    per_trial: float | None = None
    known: list[tuple[Recipe, Recipe]] = attrs.field(factory=list[tuple[Recipe, Recipe]])
    found: list[Variant] = attrs.field(factory=list[Variant])
    digests: dict[str, str] = attrs.field(factory=dict[str, str])

    def digest(self, recipe: Recipe) -> str:
        """The digest of a recipe's data."""
        key = json.dumps(to_data(recipe.data), sort_keys=True)
        if key not in self.digests:
            self.digests[key] = recipe.data.open().digest
        return self.digests[key]

    def priced(self, point: Point) -> Variant:
        """The variant, with its edges and its price.

        Raises:
            MsdkError: The recipe is wrong.
        """
        options, arm, changes, label = self.study.study, self.study.arms[point.arm], point.changes, point.name
        self.say(f"counting {label}")
        try:
            loaded = load_recipe(arm.recipe, changes)
        except RecipeError as error:
            raise MsdkError(f"arm '{point.arm}': {error}") from error
        ready, clusters = with_edges(loaded, device=self.device, like=self.known, cache=self.cache)
        self.known.append((loaded, ready))
        if loaded.clustered and clusters is None:  # those of an arm before
            edges = ready.stages.edges_ratio
            clusters = next((each.clusters for each in self.found if each.recipe.stages.edges_ratio == edges), None)
        price = _price(ready, cache=self.cache)
        _refuse_unlooked(ready, options.checkpoints, label)
        if options.equal == "flops":
            wanted = self.per_trial = self.per_trial or price.flops
            iterations = _equal(ready.training.iterations * wanted / price.flops, options.checkpoints)
            changes = (*changes, f"training.iterations={iterations}")
            ready = attrs.evolve(ready, training=attrs.evolve(ready.training, iterations=iterations))
            price = _price(ready, cache=self.cache)
        check_trainable(ready)
        _refuse_unjudged(ready, options.metrics, label)
        if self.card is not None:
            whole = budget(ready, cache=self.cache)
            told = estimate(whole, self.card, ready.training.precision, utilisation=self.utilisation)
            price = attrs.evolve(price, hours=None if told is None else told.hours)
        if self.measured:
            from msdk.budgeting.measuring import measure

            self.say(f"measuring {label}")
            price = attrs.evolve(price, hours=measure(ready, device=self.device, seconds=0.5).hours)
        if self.memory:
            from msdk.budgeting.memory import memory as simulated

            self.say(f"simulating the memory of {label}")
            price = attrs.evolve(price, memory=simulated(ready).peak)
        variant = Variant(
            arm=point.arm,
            name=label,
            tuned=point.tuned,
            setting=point.setting,
            file=arm.recipe,
            changes=changes,
            recipe=ready,
            clusters=clusters,
            price=price,
            kept=True,
            paper=arm.paper,
        )
        self.found.append(variant)
        return variant


def _dearest(pricing: Pricing, point: Point) -> Variant:
    """The dearest setting of those at the ends of what is searched, key by key; each end is a recipe that works."""
    study, search = pricing.study, pricing.study.study.search
    space = study.space(point.arm)
    if search is None or not space:
        return pricing.priced(point)
    ends = {key: (values.low, values.high) if isinstance(values, Range) else values for key, values in space.items()}
    setting = {key: values[0] for key, values in ends.items()}
    best = pricing.priced(point.at(setting))
    for key, values in ends.items():
        for value in values[1:]:
            other = pricing.priced(point.at({**setting, key: value}))
            if other.price.flops > best.price.flops:
                setting, best = {**setting, key: value}, other
    return attrs.evolve(best, name=point.name, setting={}, tries=tries(search, space))


def _refuse_unlooked(recipe: Recipe, checkpoints: int, label: str) -> None:
    iterations = recipe.training.iterations
    if iterations < checkpoints:
        raise MsdkError(
            f"{label} is trained for {iterations:,} iterations, and looked at every {checkpoints:,}: "
            "lower `checkpoints`"
        )


def _refuse_unjudged(recipe: Recipe, wanted: Sequence[str], label: str) -> None:
    judged = [] if recipe.evaluation is None else [to_data(each)["name"] for each in recipe.evaluation.metrics]
    for name in wanted:
        of = OF_EVALUATIONS.get(name, name)
        if name != HELD_OUT and of not in judged:
            raise MsdkError(
                f"the metric {name} is of evaluations, and {label} has none of it: add it to the recipe or to `set`, "
                f'for example "evaluation.metrics" = [{{ name = "{of}" }}]'
            )


def refuse_unlike(arms: Sequence[tuple[str, str]]) -> None:
    """Refuses (name, digest of the data) that differ: qualities on different images are no comparison."""
    name, first = arms[0]
    for other, digest in arms[1:]:
        if digest != first:
            raise MsdkError(
                f"{name} and {other} have different data, SHA-256 {first[:12]} and {digest[:12]}: a study compares "
                "what is learned from the same images, so give all arms the same `data`"
            )


def _equal(iterations: float, checkpoints: int) -> int:
    """The nearest number of iterations that is looked at."""
    return max(round(iterations / checkpoints), 1) * checkpoints


def _within(variants: Sequence[Variant], seeds: int, limit: float | None) -> Iterator[Variant]:
    """Those that exceed what is left of the budget are not kept; an arm has all its seeds, or none."""
    left = float("inf") if limit is None else limit
    for place, each in enumerate(variants):
        cost = seeds * each.price.flops
        kept = cost <= left * (1 + 1e-9)
        if not place and not kept:
            raise MsdkError(
                f"the budget of {written(limit or 0, 'FLOPs')} is less than the {written(cost, 'FLOPs')} that "
                f"{each.name} takes alone, {seeds} times {written(each.price.flops, 'FLOPs')}: raise it, or train less"
            )
        left -= cost if kept else 0
        yield attrs.evolve(each, kept=kept)


def points_of(study: Study, name: str) -> Iterator[Point]:
    """An arm at every point of its grid."""
    options, arm = study.study, study.arms[name]
    grid = {**options.over, **arm.over}
    fixed = {**options.set, **arm.set}
    looks: dict[str, Any] = {"data.held_out": options.held_out, "training.validate_every": options.checkpoints}
    if any(each != HELD_OUT for each in options.metrics):
        looks["training.evaluate_every"] = options.evaluate_every or options.checkpoints
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        told, tuned = (
            _label(name, {key: value for key, value in point.items() if key not in without})
            for without in ((), options.best_of)
        )
        setting = {key: value for key, value in point.items() if key in options.best_of}
        yield Point(name, told, tuned, _assigned({**fixed, **point, **looks}), setting)


def _label(name: str, point: Mapping[str, Any]) -> str:
    """An arm with what is set in it; what a name has before is kept."""
    told = ", ".join(f"{key} = {inline(value)}" for key, value in point.items())
    return name + (", " if ": " in name else ": ") * bool(told) + told


def _assigned(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={inline(value)}" for key, value in values.items())


def _price(recipe: Recipe, *, cache: bool) -> Price:
    exact, paper = (budget(recipe, convention=how, cache=cache) for how in ("exact", "paper"))
    training = exact.training
    assert training is not None
    assert paper.training is not None
    options = recipe.training
    return Price(
        iterations=options.iterations,
        batch_size=options.batch_size,
        flops=training.total_flops + training.autoencoder_flops,
        macs_per_call=paper.means["sampling"] or 0.0,
        paper_macs=paper.training.paper_pflops * 1e15,
        parameters=exact.parameters.total,
        flops_per_image=tuple(float(each.forward + each.backward + each.recompute) for each in exact.image_flops),
        autoencoder_flops_per_image=training.autoencoder_flops / training.images,
        hours=None,
        memory=None,
    )
