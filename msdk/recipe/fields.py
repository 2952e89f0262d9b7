"""Recipes as data: every key that a recipe may have, its type, its default and what it means. Imports no torch."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import deep_iterable, ge, le, min_len, optional

from msdk.autoencoders.base import Autoencoder
from msdk.clusterings.base import Clustering
from msdk.datasets.base import Dataset
from msdk.decoders.base import Decoder
from msdk.encoders.adapter import Adapter
from msdk.encoders.base import Encoder, Shape
from msdk.errors import MsdkError, PartError, cut, printable
from msdk.noise_levels.base import NoiseLevel
from msdk.parameterizations.base import Parameterization
from msdk.partition import Partition
from msdk.recipe.evaluations import Evaluation
from msdk.recipe.files import Artefact, File
from msdk.recipe.guides import Guide
from msdk.recipe.quantities import quantity
from msdk.recipe.stage_draws import StageDraw, normalised
from msdk.recipe.starts import Init
from msdk.recipe.structuring import strict_converter
from msdk.recipe.trainings import Training
from msdk.registry import registry_for, registry_of_part
from msdk.samplers.base import Sampler, steps_for
from msdk.samplers.guidance import Guidance
from msdk.samplers.staged import Staged
from msdk.samplers.tracing import Call, explain
from msdk.schedules.base import Schedule
from msdk.trackers.base import Tracker
from msdk.weightings.base import Weighting
from msdk.wrappers.base import Wrapper

Convention = Literal["exact", "paper", "fvcore"]
"""How costs are counted, see `msdk.budgeting`."""


def _part(base: type, name: str) -> Any:
    def default() -> Any:
        registry = registry_for(base)
        # Nobody wrote this name, so nobody need be told that a plugin also owns it.
        return registry.get(f"msdk:{name}" if "msdk" in registry.owners(name) else name)()

    return attrs.field(factory=default)


@attrs.frozen(kw_only=True)
class Stages:
    """How time is cut; exactly one of the four ways, or none for one stage. And which of the stages are trained.

    Args:
        edges_ratio: Interior edges in ratio = sigma / alpha, ascending.
        edges_t: Interior edges in the time of a schedule, ascending.
        schedule: The schedule that `edges_t` refers to, or whose time is clustered; the recipe's own when not given.
        clustering: A strategy that finds the edges from the data.
        from_: `from` in TOML: the file of an earlier clustering. Its edges, read with the recipe, become `edges_ratio`;
            where they came from is remembered, but is no part of the value.
        train: The stages that are trained, 0 has the least noise; all of them when not given. The decoders of the
            others, and their encoders where `sharing = "separate"`, stay as they are, and no time is drawn in them.
        train_encoder: Whether the encoder is trained, and the adapter behind it.
    """

    edges_ratio: tuple[float, ...] | None = None
    edges_t: tuple[float, ...] | None = None
    schedule: Schedule | None = None
    clustering: Clustering | None = None
    from_: Artefact | None = attrs.field(default=None, eq=False)
    train: tuple[int, ...] | None = None
    train_encoder: bool = True

    def __attrs_post_init__(self) -> None:
        if self.from_ is not None and self.ways() == ["from"]:
            object.__setattr__(self, "edges_ratio", self.from_.edges_ratio)

    def ways(self) -> list[str]:
        """The keys that say where the edges come from."""
        read = self.from_ is not None and self.edges_ratio == self.from_.edges_ratio
        given = {
            "edges_ratio": None if read else self.edges_ratio,
            "edges_t": self.edges_t,
            "clustering": self.clustering,
            # Edges that were put in the place of those it holds are what counts; see `msdk.recipe.loading` for files.
            "from": self.from_ if read or self.edges_ratio is None else None,
        }
        return [key for key, value in given.items() if value is not None]


def _ascending(_: object, field: object, value: tuple[float, float]) -> None:
    if not 0 <= value[0] < value[1]:
        raise ValueError(f"expected [low, high] in ratio with 0 <= low < high, got {list(value)}")


@attrs.frozen(kw_only=True)
class Sampling:
    """How images are drawn: `steps` intervals of the time grid, `nfe` network calls, or `steps_per_stage`: one of them.

    Args:
        steps: Intervals of the sampler's time grid; 20 when none of the three is given.
        nfe: Network calls per image, a guided one counted once.
        steps_per_stage: Intervals in each stage, least noise first; each stage's time is then spaced for itself.
        images: Images that `msdk sample` draws, with seeds `seed`, `seed + 1`, ...
        seed: First seed.
        batch_size: Images per network call, twice as many where it is guided; changes no image.
        label: The class of every image, -1 for no class; when not given, that of seed s is s modulo the classes.
        guidance: Weight of classifier-free guidance; 1 is the plain conditional model. Meant for models that were
            trained with `label_dropout`. See `msdk.samplers.guidance`.
        guidance_interval: Guided where low < ratio <= high, plain conditional elsewhere; everywhere when not given.
        guide: A trained run whose estimate stands for that without a class, which then needs none; no run when not
            given.
        noise: Of stochastic samplers: "fresh" draws, or the increments of one "brownian" path for each image, which
            stays the same on a finer grid.
        wrap: What changes the network's estimates, each around the one before: `[{ name = "clip" }]`.
    """

    steps: int | None = attrs.field(default=None, validator=optional([ge(1), le(10_000)]))
    nfe: int | None = attrs.field(default=None, validator=optional([ge(1), le(10_000)]))
    steps_per_stage: tuple[int, ...] | None = attrs.field(
        default=None, validator=optional(deep_iterable([ge(1), le(10_000)]))
    )
    images: int = attrs.field(default=64, validator=[ge(1), le(1_000_000)])
    seed: int = attrs.field(default=0, validator=ge(0))
    batch_size: int = attrs.field(default=64, validator=ge(1))
    label: int | None = attrs.field(default=None, validator=optional(ge(-1)))
    guidance: float = attrs.field(default=1.0, validator=ge(0))
    guidance_interval: tuple[float, float] | None = attrs.field(default=None, validator=optional(_ascending))
    guide: Guide | None = None
    noise: Literal["fresh", "brownian"] = "fresh"
    wrap: tuple[Wrapper, ...] = ()


DEFAULT_STEPS = 20


LIMITS = {"params": "params", "macs": "MACs", "flops": "FLOPs", "memory": "B", "hours": "h", "cost": "money"}
"""Key of `[budget]` that limits something -> its unit, see `msdk.recipe.quantities`."""


def _amount(_: object, field: Any, value: float | str) -> None:
    quantity(str(value), LIMITS[field.name])


@attrs.frozen(kw_only=True)
class BudgetOptions:
    """How the budget is reported, and what it may not exceed: `msdk budget --check` says no then.

    Args:
        convention: "exact" counts every multiply-accumulate, "paper" as the paper's tool, "fvcore" as fvcore alone.
        compare: Other recipes that `msdk run` sets beside this one.
        params: Most parameters in all, "250M" for example.
        macs: Most MACs of a mean network call of the sampler, in the convention: "20G", or 20, which is in G too.
        flops: Most FLOPs of the whole training, forward and backward: "3.5E".
        memory: Most bytes at the peak of a training step, by estimate: "24GiB".
        hours: Most hours of the whole training, as `--measure` or, without it, `--gpu` finds them: 100.
        cost: Most money for the whole training, in the currency of `--price`: 500.
    """

    convention: Convention = "exact"
    compare: tuple[Path, ...] = ()
    params: float | str | None = attrs.field(default=None, validator=optional(_amount))
    macs: float | str | None = attrs.field(default=None, validator=optional(_amount))
    flops: float | str | None = attrs.field(default=None, validator=optional(_amount))
    memory: float | str | None = attrs.field(default=None, validator=optional(_amount))
    hours: float | str | None = attrs.field(default=None, validator=optional(_amount))
    cost: float | str | None = attrs.field(default=None, validator=optional(_amount))


def suited_noise(schedule: Schedule) -> NoiseLevel:
    """The law of training times that suits a schedule, `Schedule.default_noise`."""
    return strict_converter().structure(schedule.default_noise, NoiseLevel)


def _called(part: object) -> str:
    """What a recipe calls a part, or its class where it is not registered."""
    registry = registry_of_part(type(part))
    try:
        return type(part).__name__ if registry is None else registry.name_of(type(part))
    except MsdkError:
        return type(part).__name__


def _several(parts: Sequence[object]) -> str:
    return f"{', '.join(map(_called, parts[:8]))}{', ...' if len(parts) > 8 else ''}"


@attrs.frozen(kw_only=True)
class Recipe:
    """A whole model and what is done with it; docs/recipes.md has the rules.

    Args:
        title: One line for tables.
        use: Python files that register parts; they run only with `--allow-code`.
        data: The data set.
        autoencoder: First stage of latent diffusion; the networks then see latents.
        schedule: The noise schedule.
        parameterization: What the network is fed and predicts.
        stages: How time is cut; one stage when not given.
        encoder: The encoder, one kind and size for all stages; None where `encoders` has one for each.
        encoders: One for each stage, least noise first, each of its own kind and size, in the place of `encoder`: with
            `sharing = "separate"`.
        adapter: 1x1 convolutions behind the encoder, to one width for each level; none when not given.
        decoders: One for each stage, least noise first.
        sharing: "shared" has one encoder for all stages, "separate" one for each; "unified" is one stage.
        weighting: Weight of the loss by noise level.
        init: A trained run that the weights start from; random ones when not given.
        training: How the networks are trained.
        sampler: What draws images.
        samplers: A sampler for each stage, least noise first, with `sampling.steps_per_stage`.
        sampling: How images are drawn.
        evaluation: How images are judged, at the end of `msdk run` and by `msdk evaluate`; when not given, at the end
            they are not.
        budget: How costs are counted, and what they may not exceed.
        trackers: Where a run tells how it goes, beside metrics.jsonl and ledger.json; a resumed run may have others.
    """

    title: str = ""
    use: tuple[File, ...] = ()
    data: Dataset
    autoencoder: Autoencoder | None = None
    schedule: Schedule = _part(Schedule, "vp-linear")
    parameterization: Parameterization = _part(Parameterization, "eps")
    stages: Stages = attrs.field(factory=Stages)
    encoder: Encoder | None = None
    encoders: tuple[Encoder, ...] | None = None
    adapter: Adapter | None = None
    decoders: tuple[Decoder, ...] = attrs.field(validator=min_len(1))
    sharing: Literal["shared", "separate", "unified"] = "shared"
    weighting: Weighting = _part(Weighting, "uniform")
    init: Init | None = None
    training: Training = attrs.field(factory=Training)
    sampler: Sampler = _part(Sampler, "dpmpp-2m")
    samplers: tuple[Sampler, ...] = ()
    sampling: Sampling = attrs.field(factory=Sampling)
    evaluation: Evaluation | None = None
    budget: BudgetOptions = attrs.field(factory=BudgetOptions)
    trackers: tuple[Tracker, ...] = ()

    def __attrs_post_init__(self) -> None:
        # What is left to the schedule is written out, so that a recipe means the same in a later version.
        for key, filled in LEFT_TO_THE_SCHEDULE.items():
            object.__setattr__(self, key, filled(self))

    def __repr__(self) -> str:
        decoders, stages, training = self.decoders, self.stages, self.training
        count = f"{len(decoders)} decoders" if len(decoders) > 1 else "1 decoder"
        front = f"encoder {_called(self.encoder)}" if self.encoders is None else f"encoders {_several(self.encoders)}"
        edges = stages.edges_ratio or stages.edges_t or ()
        found = "" if stages.clustering is None else f"; stages by {_called(stages.clustering)}"
        unit = "ratio" if stages.edges_ratio else "t"
        found = f"; edges in {unit} {', '.join(f'{edge:.4g}' for edge in edges[:8])}" if edges else found
        return "\n".join(
            [
                f"Recipe: {printable(cut(self.title, 200)) or 'without a title'}",
                f"  data {_called(self.data)}, shape {' x '.join(map(str, self.data.shape))}; "
                f"schedule {_called(self.schedule)}; parameterization {_called(self.parameterization)}",
                f"  {front}, {self.sharing}; {count}: {_several(decoders)}{found}",
                f"  training {training.iterations:,} iterations of {training.batch_size:,} images; sampler "
                f"{_called(self.sampler)}. Every key: print(msdk.recipe.to_toml(recipe))",
            ]
        )

    @property
    def shape(self) -> Shape:
        """Channels and axes of what the networks see: images, or their latents behind an autoencoder."""
        return self.data.shape if self.autoencoder is None else self.autoencoder.latent_shape(self.data.shape)

    @property
    def fed(self) -> Shape:
        """Channels and axes of what the networks are fed: of images, and of their velocities where there are any."""
        return (self.shape[0] * self.schedule.feeds, *self.shape[1:])

    @property
    def built_encoders(self) -> tuple[Encoder, ...]:
        """Those that are built: one for all stages, or with `sharing = "separate"` one for each, least noise first."""
        if self.encoders is not None:
            return self.encoders
        assert self.encoder is not None  # the checks of a recipe say so
        return (self.encoder,) * (len(self.decoders) if self.sharing == "separate" else 1)

    def encoder_of(self, stage: int) -> Encoder:
        """The encoder of a stage. What images and conditions it takes is alike in all stages."""
        found = self.built_encoders
        return found[stage if len(found) > 1 else 0]

    @property
    def steps(self) -> int:
        """Intervals of the sampler's time grid, whichever way they are given."""
        if self.sampling.nfe is not None:
            return steps_for(self.sampler, self.sampling.nfe, self.schedule)
        if self.sampling.steps_per_stage is not None:
            return sum(self.sampling.steps_per_stage)
        return self.sampling.steps or DEFAULT_STEPS

    @property
    def solver(self) -> Sampler:
        """What draws images: the sampler, or with `steps_per_stage` the one that deals steps out to the stages.

        Raises:
            PartError: Steps are per stage, and the edges are not known yet.
        """
        steps = self.sampling.steps_per_stage
        if steps is None:
            return self.sampler
        return Staged(
            samplers=self.samplers or (self.sampler,), steps=steps, partition=self.partition(), schedule=self.schedule
        )

    @property
    def classes(self) -> int:
        """Classes of the labels that the encoder takes; 0 for an unconditional model."""
        return self.encoder_of(0).info(self.shape).classes

    @property
    def guidance(self) -> Guidance:
        """How sampling is guided."""
        options = self.sampling
        return Guidance(weight=options.guidance, interval=options.guidance_interval, another=options.guide is not None)

    @property
    def trained(self) -> tuple[int, ...]:
        """The stages that are trained, in ascending order."""
        return tuple(range(len(self.decoders))) if self.stages.train is None else tuple(sorted(self.stages.train))

    def freezes(self, kind: str, index: int) -> bool:
        """Whether training leaves a part as it is: the encoder, adapter or decoder of that number in the network."""
        of_one_stage = kind == "decoder" or self.sharing == "separate"
        frozen_encoder = kind != "decoder" and not self.stages.train_encoder
        return frozen_encoder or (of_one_stage and index not in self.trained)

    @property
    def stage_draw(self) -> StageDraw:
        """How training picks stages, with nothing left open."""
        return self.training.stage_draw.settled(self.training.iterations, len(self.decoders))

    def natural_shares(self, partition: Partition | None = None) -> list[float]:
        """The share of each stage under the law of training times, 0 for stages that are not trained.

        Args:
            partition: The stages; the recipe's own when not given.
        """
        shares = self.training.noise.shares(self.schedule, self.partition() if partition is None else partition)
        if len(self.trained) == len(shares):
            return shares
        return normalised([share if stage in self.trained else 0.0 for stage, share in enumerate(shares)])

    def training_shares(self, iterations: int | None = None) -> list[float]:
        """The share of each stage in the images that training draws; the stage edges are known.

        Args:
            iterations: In the first so many steps; in all of them when not given.
        """
        return self.stage_draw.mean(iterations or self.training.iterations, self.natural_shares())

    def training_images(self, iterations: int) -> list[float]:
        """How many images of each stage the first so many steps are expected to have."""
        images = iterations * self.training.batch_size
        return [images * share for share in self.training_shares(iterations)]

    def stage_updates(self) -> list[float]:
        """In how many steps of the training each decoder is expected to be updated; the stage edges are known."""
        options = self.training
        return self.stage_draw.steps(options.iterations, self.natural_shares(), options.groups(options.batch_size))

    def calls(self, partition: Partition | None = None, times: Sequence[Sequence[float]] | None = None) -> list[Call]:
        """Every network call that makes an image as this recipe says, in order, with its stage.

        Args:
            partition: The stages; the recipe's own when not given.
            times: Of the calls, where they are known, see `msdk.samplers.tracing.explain`: without, torch is imported.

        Raises:
            PartError: The stage edges are not known yet.
        """
        stages = self.partition() if partition is None else partition
        return explain(stages, self.schedule, self.solver, self.steps, self.guidance, times)

    @property
    def clustered(self) -> bool:
        """Whether the stage edges are still to be found by a clustering."""
        return self.stages.clustering is not None

    def partition(self) -> Partition:
        """The stages.

        Raises:
            PartError: The edges are not known yet, do not ascend, or lie outside the schedule.
        """
        stages = self.stages
        if stages.clustering is not None:
            raise PartError("the stage edges are still to be found: run `msdk cluster` (or msdk.cluster) first")
        if stages.edges_t is not None:
            partition = Partition.of_times(stages.edges_t, stages.schedule or self.schedule)
        else:
            partition = Partition(stages.edges_ratio or ())
        partition.check_within(self.schedule)
        return partition

    def with_partition(self, partition: Partition) -> "Recipe":
        """The same recipe with its edges written out; where they came from is remembered while they are the same."""
        origin = self.stages.from_
        kept = origin if origin is not None and origin.edges_ratio == partition.edges else None
        stages = Stages(
            edges_ratio=partition.edges or None,
            from_=kept,
            train=self.stages.train,
            train_encoder=self.stages.train_encoder,
        )
        return attrs.evolve(self, stages=stages)


def _with_noise(recipe: Recipe) -> Training:
    if recipe.training.noise is not None:  # pyright: ignore[reportUnnecessaryComparison]  until here
        return recipe.training
    training = copy.copy(recipe.training)
    object.__setattr__(training, "noise", suited_noise(recipe.schedule))
    return training


LEFT_TO_THE_SCHEDULE: Mapping[str, Callable[[Recipe], Any]] = {
    "training": _with_noise,
    "sampler": lambda recipe: recipe.sampler.on(recipe.schedule),
    "samplers": lambda recipe: tuple(sampler.on(recipe.schedule) for sampler in recipe.samplers),
}
"""Key of a recipe -> its value, once what it leaves to the schedule is filled in."""
