"""Recipes: strict, frozen data that names the parts of a model, its training and its sampling.

A recipe file is TOML. It may extend others, a command line may override single keys, and every mistake in the result
is reported at once with the file and the path it stands at. Nothing here imports torch: a recipe is checked, down to
whether features fit decoders, in a fraction of a second.
"""

import functools
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import cattrs
import tomli_w
from attrs.validators import deep_iterable, ge, gt, le, lt, min_len, optional

from msdk import optimizers
from msdk.autoencoders.base import Autoencoder
from msdk.clusterings.base import Clustering
from msdk.datasets.base import Dataset
from msdk.decoders.base import Decoder
from msdk.encoders.adapter import Adapter
from msdk.encoders.base import Encoder, FeatureInfo, Shape
from msdk.errors import MsdkError, PartError, Problem, RecipeError
from msdk.guidance import Guidance
from msdk.local_code import run_file
from msdk.lr_schedules.base import LRSchedule
from msdk.merging import Merged, Sources, source_of
from msdk.noise_levels.base import NoiseLevel, StageDraw
from msdk.optimizers.base import Optimizer
from msdk.parameterizations.base import Parameterization
from msdk.partition import Partition
from msdk.quantities import quantity
from msdk.samplers.base import Sampler, steps_for
from msdk.samplers.staged import Staged
from msdk.schedules.base import Schedule
from msdk.structuring import PARTS, flattened_errors, strict_converter, to_data
from msdk.weightings.base import Weighting
from msdk.wrappers.base import Wrapper

Convention = Literal["exact", "paper", "fvcore"]
"""How costs are counted, see `msdk.budgeting`."""

AUGMENT_LABELS = 9
"""Labels that say what `training.augment` did to an image, see `msdk.training.augmentation`."""

T = TypeVar("T")


def _part(kind: Any, name: str) -> Any:
    def default() -> Any:
        registry = PARTS[kind]
        # Nobody wrote this name, so a plugin that also owns it cannot make it doubtful.
        return registry.get(name if name in registry.names() else f"msdk:{name}")()

    return attrs.field(factory=default)


@attrs.frozen(kw_only=True)
class Stages:
    """How time is cut; exactly one of the four ways, or none for one stage.

    Args:
        edges_ratio: Interior edges in ratio = sigma / alpha, ascending.
        edges_t: Interior edges in the time of a schedule, ascending.
        schedule: The schedule that `edges_t` refers to, or whose time is clustered; the recipe's own when not given.
        clustering: A strategy that finds the edges from the data.
        from_: `from` in TOML: the file of an earlier clustering.
    """

    edges_ratio: tuple[float, ...] | None = None
    edges_t: tuple[float, ...] | None = None
    schedule: Schedule | None = None
    clustering: Clustering | None = None
    from_: Path | None = None

    def ways(self) -> list[str]:
        """The keys that say where the edges come from."""
        given = {
            "edges_ratio": self.edges_ratio,
            "edges_t": self.edges_t,
            "clustering": self.clustering,
            "from": self.from_,
        }
        return [key for key, value in given.items() if value is not None]


@attrs.frozen(kw_only=True)
class Training:
    """How the networks are trained.

    Args:
        iterations: Optimiser steps.
        batch_size: Images per step.
        accumulation: Micro-batches that a step is made of; each has `batch_size / accumulation` images, and only one is
            in memory at a time. What is drawn for a step, dropout excepted, does not depend on it.
        recompute: Whether activations are computed again in the backward pass, block by block, instead of being kept:
            a third more to compute, for a fraction of the memory.
        noise: The law of training times.
        stage_draw: "natural" draws stages with the law's own shares, "uniform" draws each stage alike.
        mixed: Whether a batch mixes stages; false draws one stage per batch, as the paper's code does.
        lr: Learning rate.
        warmup: Steps over which the learning rate rises linearly from 0.
        lr_schedule: A factor on the learning rate; none when not given.
        optimizer: AdamW with `betas` and `weight_decay` when not given.
        betas: Decay of Adam's first and second moment.
        weight_decay: Decoupled weight decay (AdamW, Loshchilov and Hutter 2019, arXiv 1711.05101); 0 is Adam.
        sanitize: Whether gradients that are not finite are replaced before clipping: NaN by 0, infinities by +-1e5
            (EDM). The loss is left as it is.
        clip_norm: Largest norm of the whole gradient; 0 does not clip.
        ema_decay: Decay of the averaged weights, ramped up as min(decay, (1 + n) / (10 + n)); 0 keeps none.
        ema_half_life: Images after which a weight counts half in the average (EDM); 0 means `ema_decay` rules instead.
        ema_ramp: The half-life is at most this share of the images seen so far; 0 does not ramp it up.
        flip: Whether images are mirrored left to right with probability 1/2, without telling the network.
        augment: Probability of each geometric change of EDM's augmentation; 0 changes nothing. Its labels are fed to
            an encoder with `augment = 9`. See `msdk.training.augmentation`.
        label_dropout: Probability that an image's class is withheld, which guidance needs (Ho and Salimans 2022).
        precision: "bf16" runs the networks under autocast; weights and optimiser stay in float32.
        seed: Seed of the initial weights and of everything drawn in training.
        log_every: Steps between lines of metrics.jsonl.
        checkpoint_every: Steps between checkpoints; the last step always makes one.
        keep: Number of newest checkpoints kept.
    """

    iterations: int = attrs.field(default=100_000, validator=ge(1))
    batch_size: int = attrs.field(default=128, validator=ge(1))
    accumulation: int = attrs.field(default=1, validator=ge(1))
    recompute: bool = False
    noise: NoiseLevel = _part(NoiseLevel, "uniform")
    stage_draw: StageDraw = "natural"
    mixed: bool = True
    lr: float = attrs.field(default=2e-4, validator=gt(0))
    warmup: int = attrs.field(default=0, validator=ge(0))
    lr_schedule: LRSchedule | None = None
    optimizer: Optimizer | None = None
    betas: tuple[float, float] = attrs.field(default=(0.9, 0.999), validator=deep_iterable([ge(0), lt(1)]))
    weight_decay: float = attrs.field(default=0.0, validator=ge(0))
    sanitize: bool = False
    clip_norm: float = attrs.field(default=1.0, validator=ge(0))
    ema_decay: float = attrs.field(default=0.9999, validator=[ge(0), lt(1)])
    ema_half_life: float = attrs.field(default=0.0, validator=ge(0))
    ema_ramp: float = attrs.field(default=0.05, validator=ge(0))
    flip: bool = False
    augment: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    label_dropout: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = attrs.field(default=0, validator=ge(0))
    log_every: int = attrs.field(default=100, validator=ge(1))
    checkpoint_every: int = attrs.field(default=10_000, validator=ge(1))
    keep: int = attrs.field(default=2, validator=ge(1))

    @property
    def rule(self) -> Optimizer:
        """The optimiser, whichever way it is given."""
        if self.optimizer is not None:
            return self.optimizer
        adam: Any = optimizers.get("msdk:adamw")
        return adam(betas=self.betas, weight_decay=self.weight_decay)


def _ascending(_: object, field: object, value: tuple[float, float]) -> None:
    if not 0 <= value[0] < value[1]:
        raise ValueError(f"expected [low, high] in ratio with 0 <= low < high, got {list(value)}")


@attrs.frozen(kw_only=True)
class Sampling:
    """How images are drawn: `steps` intervals of the time grid, `nfe` network calls, or `steps_per_stage`: one of them.

    Args:
        steps: Intervals of the sampler's time grid.
        nfe: Network calls per image, a guided one counted once.
        steps_per_stage: Intervals in each stage, least noise first; each stage's time is then spaced for itself.
        images: Images that `msdk sample` draws, with seeds `seed`, `seed + 1`, ...
        seed: First seed.
        batch_size: Images per network call, twice as many where it is guided; changes no image.
        label: The class of every image, -1 for no class; when not given, that of seed s is s modulo the classes.
        guidance: Weight of classifier-free guidance; 1 is the plain conditional model. Meant for models that were
            trained with `label_dropout`. See `msdk.guidance`.
        guidance_interval: Guided where low < ratio <= high, plain conditional elsewhere; everywhere when not given.
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
    noise: Literal["fresh", "brownian"] = "fresh"
    wrap: tuple[Wrapper, ...] = ()


DEFAULT_STEPS = 20


LIMITS = {"params": "params", "macs": "MACs", "flops": "FLOPs", "memory": "B"}
"""Key of `[budget]` that limits something -> its unit, see `msdk.quantities`."""


def _amount(_: object, field: Any, value: float | str) -> None:
    quantity(str(value), LIMITS[field.name])


@attrs.frozen(kw_only=True)
class BudgetOptions:
    """How the budget is reported, and what it may not exceed: `msdk budget --check` says no then.

    Args:
        convention: "exact" counts every multiply-accumulate, "paper" as the paper's tool, "fvcore" as fvcore alone.
        compare: Other recipes that `msdk run` sets beside this one.
        params: Most parameters in all, "250M" for example.
        macs: Most MACs of a mean network call of the sampler, in the convention: "20G".
        flops: Most FLOPs of the whole training, forward and backward: "3.5E".
        memory: Most bytes at the peak of a training step, by estimate: "24GiB".
    """

    convention: Convention = "exact"
    compare: tuple[Path, ...] = ()
    params: float | str | None = attrs.field(default=None, validator=optional(_amount))
    macs: float | str | None = attrs.field(default=None, validator=optional(_amount))
    flops: float | str | None = attrs.field(default=None, validator=optional(_amount))
    memory: float | str | None = attrs.field(default=None, validator=optional(_amount))


@attrs.frozen(kw_only=True)
class Recipe:
    """A whole model and what is done with it. See docs/recipes.md for every key."""

    title: str = ""
    use: tuple[Path, ...] = ()
    data: Dataset
    autoencoder: Autoencoder | None = None
    schedule: Schedule = _part(Schedule, "vp-linear")
    parameterization: Parameterization = _part(Parameterization, "eps")
    stages: Stages = attrs.field(factory=Stages)
    encoder: Encoder
    adapter: Adapter | None = None
    decoders: tuple[Decoder, ...] = attrs.field(validator=min_len(1))
    sharing: Literal["shared", "separate", "unified"] = "shared"
    weighting: Weighting = _part(Weighting, "uniform")
    training: Training = attrs.field(factory=Training)
    sampler: Sampler = _part(Sampler, "dpmpp-2m")
    samplers: tuple[Sampler, ...] = ()
    sampling: Sampling = attrs.field(factory=Sampling)
    budget: BudgetOptions = attrs.field(factory=BudgetOptions)

    @property
    def shape(self) -> Shape:
        """Channels, height and width of what the networks see: images, or their latents behind an autoencoder."""
        return self.data.shape if self.autoencoder is None else self.autoencoder.latent_shape(self.data.shape)

    @property
    def steps(self) -> int:
        """Intervals of the sampler's time grid, whichever way they are given."""
        if self.sampling.nfe is not None:
            return steps_for(self.sampler, self.sampling.nfe)
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
        return self.encoder.info(self.shape).classes

    @property
    def guidance(self) -> Guidance:
        """How sampling is guided."""
        return Guidance(weight=self.sampling.guidance, interval=self.sampling.guidance_interval)

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
        elif stages.from_ is not None:
            partition = Partition(_edges_of_artefact(stages.from_))
        else:
            partition = Partition(stages.edges_ratio or ())
        partition.check_within(self.schedule)
        return partition

    def with_partition(self, partition: Partition) -> "Recipe":
        """The same recipe with its edges written out."""
        return attrs.evolve(self, stages=Stages(edges_ratio=partition.edges) if partition.edges else Stages())


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads, merges and checks a recipe file.

    Args:
        path: A TOML file.
        overrides: `"dotted.key=value"`, applied last; the value is TOML, or a bare word. `decoders.0.channels=64`
            reaches into a list.

    Raises:
        RecipeError: Every mistake at once, with file and path.
    """
    path = Path(path)
    merged = Merged()
    merged.read(path, ())
    wrong = [problem for text in overrides if (problem := merged.override(text))]
    return structure(merged.data, str(path), merged.sources, wrong)


def structure(
    data: Mapping[str, Any], source: str, sources: "Sources | None" = None, wrong: Sequence[Problem] = ()
) -> Recipe:
    """Plain data -> Recipe, with all checks; problems that are already known are told with the rest.

    Raises:
        RecipeError: Every mistake at once.
    """
    sources = sources or {}
    recipe, unused = None, list(_used(data, sources))
    problems = [*wrong, *unused]
    if not unused:  # names of parts would seem unknown
        try:
            recipe = strict_converter().structure(data, Recipe)
        except Exception as error:
            problems += flattened_errors(error)
        else:
            recipe = _spending(_rebased(recipe, sources))
            problems += _misfits(recipe)
    if recipe is None or problems:
        for problem in problems:
            problem.source = problem.source or source_of(problem.path, sources)
        raise RecipeError(source, problems)
    return recipe


def _used(data: Mapping[str, Any], sources: Sources) -> Iterable[Problem]:
    """Runs the files that `use` names, so that their parts are registered before names are looked up."""
    files = data.get("use")
    for index, text in enumerate(typing.cast("list[object]", files) if isinstance(files, list) else ()):
        if isinstance(text, str):  # anything else is told as a wrong type
            place = _from_its_folder(Path(text), ("use", str(index)), sources)
            yield from _failing(f"use.{index}", functools.partial(run_file, place))


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe, every default written out."""
    return tomli_w.dumps(to_data(recipe))


def _spending(recipe: Recipe) -> Recipe:
    """The recipe, its sampler set for the wanted number of network calls."""
    nfe = recipe.sampling.nfe
    return recipe if nfe is None else attrs.evolve(recipe, sampler=recipe.sampler.spending(nfe))


# --- checks between parts ---------------------------------------------------------------------------------------------


def _rebased(value: T, sources: Sources, path: tuple[str, ...] = ()) -> T:
    """Relative files are meant from the folder of the recipe file that names them."""
    if attrs.has(type(value)):
        changes: dict[str, Any] = {}
        for field in attrs.fields(type(value)):
            old = getattr(value, field.name)
            new = _rebased(old, sources, (*path, field.name.rstrip("_")))
            if new is not old:
                changes[field.alias] = new
        return attrs.evolve(typing.cast("Any", value), **changes) if changes else value
    if isinstance(value, tuple):
        items = typing.cast("tuple[Any, ...]", value)
        rebased = tuple(_rebased(item, sources, (*path, str(index))) for index, item in enumerate(items))
        changed = any(new is not old for new, old in zip(rebased, items, strict=True))
        return typing.cast("T", rebased) if changed else value
    return typing.cast("T", _from_its_folder(value, path, sources)) if isinstance(value, Path) else value


def _from_its_folder(file: Path, path: tuple[str, ...], sources: Sources) -> Path:
    if file.is_absolute():
        return file
    source = source_of(".".join(path), sources)
    folder = Path.cwd() if source.startswith("--set") or not source else Path(source).parent.resolve()
    return (folder / file).resolve()


def _misfits(recipe: Recipe) -> Iterable[Problem]:
    """What single fields cannot show: parts that do not fit each other."""
    ways = recipe.stages.ways()
    if len(ways) > 1:
        yield Problem("stages", f"give one of {', '.join(ways)}, not {len(ways)}")
    if recipe.stages.schedule is not None and recipe.stages.edges_t is None and not recipe.clustered:
        yield Problem("stages.schedule", "says what edges_t or a clustering refer to, but there is neither")
    count = _stage_count(recipe)
    if len(ways) == 1 and not recipe.clustered:
        yield from _failing(f"stages.{ways[0]}", recipe.partition)
    if count is not None and len(ways) < 2 and count != len(recipe.decoders):
        stages = f"{count} stage" + ("s" if count > 1 else "")
        yield Problem(
            "decoders", f"{stages} need as many decoders, least noise first; there are {len(recipe.decoders)}"
        )
    if recipe.sharing == "unified" and len(recipe.decoders) > 1:
        yield Problem(
            "sharing", f"unified means one decoder for all noise levels, but there are {len(recipe.decoders)}"
        )
    yield from _sampling_misfits(recipe)
    yield from _training_misfits(recipe.training)
    fed = noise_range(recipe.parameterization, recipe.schedule)
    if fed is not None:
        yield from _failing("encoder", lambda: recipe.encoder.check_noise(*fed))
    if recipe.autoencoder is not None and recipe.encoder.unit_range:
        yield Problem("encoder.unit_range", "is for images in [0, 1], but with an autoencoder the network sees latents")
    misfit = list(_failing("autoencoder", lambda: recipe.shape))
    misfit = misfit or list(_failing("encoder", lambda: recipe.encoder.info(recipe.shape)))
    yield from misfit
    if not misfit:
        info = recipe.encoder.info(recipe.shape)
        yield from _label_misfits(recipe, info)
        if recipe.adapter is not None:
            misfit = list(_failing("adapter", functools.partial(recipe.adapter.info, info)))
            yield from misfit
            if misfit:
                return
            info = recipe.adapter.info(info)
        for index, decoder in enumerate(recipe.decoders):
            yield from _failing(f"decoders.{index}", functools.partial(decoder.check, info))


def _label_misfits(recipe: Recipe, info: FeatureInfo) -> Iterable[Problem]:
    """Class and augmentation labels that the encoder does not take."""
    options, classes = recipe.sampling, info.classes
    conditional = {
        "label": options.label is not None,
        "guidance": options.guidance != 1,
        "guidance_interval": options.guidance_interval is not None,
    }
    for key in [key for key, given in conditional.items() if given and not classes]:
        yield Problem(f"sampling.{key}", "needs a class-conditional model: set encoder.classes, or leave this key out")
    if classes and options.label is not None and options.label >= classes:
        yield Problem(
            "sampling.label",
            f"there is no class {options.label}: encoder.classes is {classes}, so use 0 .. {classes - 1}",
        )
    if recipe.training.augment and info.augment not in (0, AUGMENT_LABELS):
        yield Problem(
            "encoder.augment",
            f"training.augment gives {AUGMENT_LABELS} labels per image, not {info.augment}: use {AUGMENT_LABELS}, or 0 "
            "to feed none",
        )


def noise_range(parameterization: Parameterization, schedule: Schedule) -> tuple[float, float] | None:
    """The lowest and highest value that networks are fed as noise level, over the times of a schedule.

    None where settings are too extreme for floats, which is told of the parts that they stand in.
    """
    first = schedule.t_min + 1e-6 * (schedule.t_max - schedule.t_min)  # at the end itself some logarithms are infinite
    try:
        fed = [parameterization.coefficients(schedule, t).c_noise for t in (first, schedule.t_max)]
    except (ArithmeticError, ValueError):
        return None
    return min(fed), max(fed)


def _failing(path: str, check: Callable[[], object]) -> Iterable[Problem]:
    try:
        check()
    except MsdkError as error:
        yield Problem(path, str(error))
    except (ArithmeticError, ValueError) as error:  # of floats: overflow, division by zero, roots of negative numbers
        yield Problem(path, f"leads to numbers that cannot be computed ({error.args[-1]}): use less extreme settings")


def _training_misfits(options: Training) -> Iterable[Problem]:
    batch, parts = options.batch_size, options.accumulation
    if batch % parts:
        fitting = max(divisor for divisor in range(1, min(parts, batch) + 1) if batch % divisor == 0)
        yield Problem(
            "training.accumulation",
            f"a batch_size of {batch} cannot be cut into {parts} micro-batches of one size: use {fitting}, or another "
            "divisor of it, or another batch_size",
        )
    if options.optimizer is not None and (options.betas != (0.9, 0.999) or options.weight_decay):
        yield Problem("training.optimizer", "has settings of its own: leave out training.betas and weight_decay")


def _sampler_runs(recipe: Recipe) -> None:
    # Where edges are still to be found, only the number of stages is known.
    solver = recipe.sampler if recipe.clustered else recipe.solver
    solver.check(recipe.schedule, recipe.steps)
    solver.times(recipe.schedule, recipe.steps)


def _sampling_misfits(recipe: Recipe) -> Iterable[Problem]:
    options, stages = recipe.sampling, _stage_count(recipe)
    ways = [key for key in ("steps", "nfe", "steps_per_stage") if getattr(options, key) is not None]
    if len(ways) > 1:
        yield Problem(
            "sampling",
            "give one of steps (intervals of the time grid), nfe (network calls) and steps_per_stage, not "
            + " and ".join(ways),
        )
        return
    if recipe.samplers and options.steps_per_stage is None:
        yield Problem("samplers", "one sampler for each stage needs sampling.steps_per_stage")
        return
    for path, given in (("sampling.steps_per_stage", options.steps_per_stage), ("samplers", recipe.samplers)):
        if given and stages is not None and len(given) != stages:
            yield Problem(path, f"has {len(given)} entries for {stages} stages: give one for each, least noise first")
            return
    unreachable = list(_failing("sampling.nfe", lambda: recipe.steps))
    yield from unreachable
    if not unreachable:
        yield from _failing("sampler", lambda: _sampler_runs(recipe))


def _stage_count(recipe: Recipe) -> int | None:
    """Number of stages, where it is known before the edges are."""
    stages = recipe.stages
    if stages.clustering is not None:
        return stages.clustering.stages
    edges = stages.edges_ratio if stages.edges_ratio is not None else stages.edges_t
    if stages.from_ is not None:
        try:
            edges = _edges_of_artefact(stages.from_)
        except MsdkError:
            return None  # told as a problem of stages.from
    return len(edges or ()) + 1


def _edges_of_artefact(path: Path) -> tuple[float, ...]:
    import json

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        (strategy,) = found["strategies"]
        return strict_converter().structure(strategy["edges_ratio"], tuple[float, ...])
    except OSError as error:
        raise PartError(f"the clustering {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise PartError(f"{path} is not the clustering of one strategy, as `msdk cluster` writes it") from error
