"""Recipes: strict, frozen data that names the parts of a model, its training and its sampling.

A recipe file is TOML. It may extend others, a command line may override single keys, and every mistake in the result
is reported at once with the file and the path it stands at. Nothing here imports torch: a recipe is checked, down to
whether features fit decoders, in a fraction of a second.
"""

import functools
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import cattrs
import tomli_w
from attrs.validators import deep_iterable, ge, gt, le, lt, min_len, optional
from cattrs.gen import make_dict_structure_fn, override

from msdk import (
    clusterings,
    datasets,
    decoders,
    encoders,
    noise_levels,
    parameterizations,
    samplers,
    schedules,
    weightings,
)
from msdk.clusterings.base import Clustering
from msdk.datasets.base import Dataset
from msdk.decoders.base import Decoder
from msdk.encoders.base import Encoder, Shape
from msdk.errors import MsdkError, PartError, Problem, RecipeError, nearest
from msdk.noise_levels.base import NoiseLevel, StageDraw
from msdk.parameterizations.base import Parameterization
from msdk.partition import Partition
from msdk.registry import Registry
from msdk.samplers.base import Sampler, steps_for
from msdk.schedules.base import Schedule
from msdk.weightings.base import Weighting

Convention = Literal["exact", "paper", "fvcore"]
"""How costs are counted, see `msdk.budgeting`."""

PARTS: Mapping[type, Registry[Any]] = {
    Dataset: datasets.registry,
    Schedule: schedules.registry,
    Parameterization: parameterizations.registry,
    Encoder: encoders.registry,
    Decoder: decoders.registry,
    Weighting: weightings.registry,
    NoiseLevel: noise_levels.registry,
    Sampler: samplers.registry,
    Clustering: clusterings.registry,
}
"""Base class of a kind -> the registry that a recipe's `name` is looked up in."""

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
        schedule: The schedule that `edges_t` refers to; the recipe's own when not given.
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
        noise: The law of training times.
        stage_draw: "natural" draws stages with the law's own shares, "uniform" draws each stage alike.
        mixed: Whether a batch mixes stages; false draws one stage per batch, as the paper's code does.
        lr: Learning rate of Adam.
        warmup: Steps over which the learning rate rises linearly from 0.
        betas: Decay of Adam's first and second moment.
        clip_norm: Largest norm of the whole gradient; 0 does not clip.
        ema_decay: Decay of the averaged weights, ramped up as min(decay, (1 + n) / (10 + n)); 0 keeps none.
        flip: Whether images are mirrored left to right with probability 1/2.
        precision: "bf16" runs the networks under autocast; weights and optimiser stay in float32.
        seed: Seed of the initial weights and of everything drawn in training.
        log_every: Steps between lines of metrics.jsonl.
        checkpoint_every: Steps between checkpoints; the last step always makes one.
        keep: Number of newest checkpoints kept.
    """

    iterations: int = attrs.field(default=100_000, validator=ge(1))
    batch_size: int = attrs.field(default=128, validator=ge(1))
    noise: NoiseLevel = _part(NoiseLevel, "uniform")
    stage_draw: StageDraw = "natural"
    mixed: bool = True
    lr: float = attrs.field(default=2e-4, validator=gt(0))
    warmup: int = attrs.field(default=0, validator=ge(0))
    betas: tuple[float, float] = attrs.field(default=(0.9, 0.999), validator=deep_iterable([ge(0), lt(1)]))
    clip_norm: float = attrs.field(default=1.0, validator=ge(0))
    ema_decay: float = attrs.field(default=0.9999, validator=[ge(0), lt(1)])
    flip: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = attrs.field(default=0, validator=ge(0))
    log_every: int = attrs.field(default=100, validator=ge(1))
    checkpoint_every: int = attrs.field(default=10_000, validator=ge(1))
    keep: int = attrs.field(default=2, validator=ge(1))


@attrs.frozen(kw_only=True)
class Sampling:
    """How images are drawn: `steps` intervals of the time grid, or `nfe` network calls, but not both.

    Args:
        steps: Intervals of the sampler's time grid.
        nfe: Network calls per image.
        images: Images that `msdk sample` draws, with seeds `seed`, `seed + 1`, ...
        seed: First seed.
        batch_size: Images per network call; changes no image.
    """

    steps: int | None = attrs.field(default=None, validator=optional([ge(1), le(10_000)]))
    nfe: int | None = attrs.field(default=None, validator=optional([ge(1), le(10_000)]))
    images: int = attrs.field(default=64, validator=[ge(1), le(1_000_000)])
    seed: int = attrs.field(default=0, validator=ge(0))
    batch_size: int = attrs.field(default=64, validator=ge(1))


DEFAULT_STEPS = 20


@attrs.frozen(kw_only=True)
class BudgetOptions:
    """How the budget is reported.

    Args:
        convention: "exact" counts every multiply-accumulate, "paper" as the paper's tool, "fvcore" as fvcore alone.
        compare: Other recipes that `msdk run` sets beside this one.
    """

    convention: Convention = "exact"
    compare: tuple[Path, ...] = ()


@attrs.frozen(kw_only=True)
class Recipe:
    """A whole model and what is done with it. See docs/recipes.md for every key."""

    title: str = ""
    data: Dataset
    schedule: Schedule = _part(Schedule, "vp-linear")
    parameterization: Parameterization = _part(Parameterization, "eps")
    stages: Stages = attrs.field(factory=Stages)
    encoder: Encoder
    decoders: tuple[Decoder, ...] = attrs.field(validator=min_len(1))
    sharing: Literal["shared", "separate", "unified"] = "shared"
    weighting: Weighting = _part(Weighting, "uniform")
    training: Training = attrs.field(factory=Training)
    sampler: Sampler = _part(Sampler, "dpmpp-2m")
    sampling: Sampling = attrs.field(factory=Sampling)
    budget: BudgetOptions = attrs.field(factory=BudgetOptions)

    @property
    def shape(self) -> Shape:
        """Channels, height and width of what the networks see."""
        return self.data.shape

    @property
    def steps(self) -> int:
        """Intervals of the sampler's time grid, whichever way they are given."""
        if self.sampling.nfe is not None:
            return steps_for(self.sampler, self.sampling.nfe)
        return self.sampling.steps or DEFAULT_STEPS

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
    merged = _Merged()
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
    recipe, problems = None, list(wrong)
    try:
        recipe = _converter().structure(data, Recipe)
    except Exception as error:
        problems += _problems(error, ())
    else:
        recipe = _rebased(recipe, sources)
        problems += _misfits(recipe)
    if recipe is None or problems:
        for problem in problems:
            problem.source = problem.source or _source_of(problem.path, sources)
        raise RecipeError(source, problems)
    return recipe


def to_data(value: Any) -> Any:
    """Recipe (or part of one) -> plain data that `structure` reads back to an equal recipe."""
    if attrs.has(type(value)):
        fields = {f.name.rstrip("_"): to_data(getattr(value, f.name)) for f in attrs.fields(type(value))}
        for base, registry in PARTS.items():
            if isinstance(value, base):
                fields = {"name": registry.name_of(type(value)), **fields}
        return {key: item for key, item in fields.items() if item is not None}
    if isinstance(value, tuple):
        return [to_data(item) for item in typing.cast("tuple[object, ...]", value)]
    return str(value) if isinstance(value, Path) else value


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe, every default written out."""
    return tomli_w.dumps(to_data(recipe))


# --- reading and merging ----------------------------------------------------------------------------------------------

Sources = dict[tuple[str, ...], str]
"""Path of a key -> the file (or `--set`) that set it last."""


class _Merged:
    """The data of a recipe file over those that it extends, and where each key came from."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.sources: Sources = {}

    def read(self, path: Path, above: tuple[Path, ...]) -> None:
        if path.resolve() in above:
            chain = " -> ".join(file.name for file in (*above, path))
            raise RecipeError(
                str(above[0]), [Problem("extends", f"a recipe cannot extend itself: {chain}", str(above[-1]))]
            )
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            problem = (
                Problem("extends", f"{path} cannot be read: {error.strerror}", str(above[-1]))
                if above
                else (Problem("", f"cannot be read: {error.strerror}"))
            )
            raise RecipeError(str(above[0] if above else path), [problem]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(str(path), [Problem("", f"is not valid TOML: {error}")]) from error
        bases = data.pop("extends", [])
        files = typing.cast("list[object]", bases if isinstance(bases, list) else [bases])
        for base in files:
            if not isinstance(base, str):
                raise RecipeError(
                    str(path), [Problem("extends", f"expected a file name or a list of them, got {bases!r}")]
                )
            self.read(path.parent / base, (*above, path.resolve()))
        _merge(self.data, data, (), str(path), self.sources)

    def override(self, text: str) -> Problem | None:
        key, equals, raw = text.partition("=")
        source = f"--set {text}"
        steps = key.strip().split(".")
        if not equals or not all(steps):
            return Problem(key, "write an override as key=value, for example training.lr=0.001", source)
        try:
            value = tomllib.loads(f"value = {raw}")["value"]
        except tomllib.TOMLDecodeError:
            value = raw  # a bare word: --set sampler.name=heun
        wrong = _set(self.data, steps, value, (), source, self.sources)
        return Problem(key, wrong, source) if wrong else None


def _set(target: Any, steps: list[str], value: object, path: tuple[str, ...], source: str, sources: Sources) -> str:
    """Sets one dotted key below a table or list; says what is wrong with the key, or nothing."""
    head, *rest = steps
    inner: Any = None
    if isinstance(target, list):
        count = len(typing.cast("list[object]", target))
        if not (head.isdecimal() and int(head) < count):
            return f"there is no entry {head}: the list has {count}, numbered from 0"
        inner = typing.cast("list[object]", target)[int(head)]
    else:
        inner = target.get(head)
    if rest and inner is not None:
        if not isinstance(inner, (dict, list)):
            return f"{'.'.join((*path, head))} is {inner!r}, which has no keys to set"
        return _set(inner, rest, value, (*path, head), source, sources)
    for step in reversed(rest):
        value = {step: value}
    if isinstance(target, list):
        target[int(head)] = value
        _note_sources(value, (*path, head), source, sources)
    else:
        _merge(target, {head: value}, path, source, sources)
    return ""


ALTERNATIVES = (("sampling", "steps", "nfe"), ("sampling", "nfe", "steps"))
"""(table, key, key that it replaces): an overlay that chooses one drops the other."""


def _merge(base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...], source: str, sources: Sources) -> None:
    """Tables merge, everything else replaces. A part with another name drops the old part's keys; so do `stages`."""
    replaces_part = "name" in over and base.get("name") not in (None, over["name"])
    replaces_stages = path == ("stages",) and set(over) - {"schedule"}
    if replaces_part or replaces_stages:
        base.clear()
    for table, key, other in ALTERNATIVES:
        if path == (table,) and key in over and other not in over:
            base.pop(other, None)
    for key, value in over.items():
        here = (*path, key)
        sources[here] = source
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], typing.cast("dict[str, Any]", value), here, source, sources)
        else:
            base[key] = value
            _note_sources(value, here, source, sources)


def _note_sources(value: object, path: tuple[str, ...], source: str, sources: Sources) -> None:
    sources[path] = source
    if isinstance(value, dict):
        items: Iterable[tuple[object, object]] = typing.cast("dict[object, object]", value).items()
    else:
        items = enumerate(typing.cast("list[object]", value)) if isinstance(value, list) else ()
    for key, item in items:
        _note_sources(item, (*path, str(key)), source, sources)


def _source_of(path: str, sources: Sources) -> str:
    steps = tuple(path.split("."))
    while steps and steps not in sources:
        steps = steps[:-1]
    return sources.get(steps, "")


# --- structuring ------------------------------------------------------------------------------------------------------


class _FieldError(ValueError):
    """A value that does not suit its field; the text says what is expected."""


@functools.cache
def _converter() -> cattrs.Converter:
    """cattrs, made strict: exact types, no unknown keys, parts by name, and every error collected."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for exact, words in ((bool, "true or false"), (int, "a whole number"), (str, "text")):
        converter.register_structure_hook(exact, _exact(exact, words))
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(Path, _path)
    converter.register_structure_hook_func(lambda kind: typing.get_origin(kind) is Literal, _literal)
    converter.register_structure_hook_func(
        lambda kind: typing.get_origin(kind) is tuple, lambda value, kind: _tuple(value, kind, converter)
    )
    converter.register_structure_hook_func(_is_optional, lambda value, kind: _optional(value, kind, converter))
    converter.register_structure_hook_factory(attrs.has, lambda kind: _attrs_hook(kind, converter))
    # Bound by identity: a hook on the base class would also catch its concrete subclasses and never end.
    converter.register_structure_hook_func(
        lambda kind: kind in PARTS, lambda value, kind: _structure_part(value, PARTS[kind], converter)
    )
    return converter


def _exact(exact: type[T], words: str) -> Callable[[object, object], T]:
    def hook(value: object, _: object) -> T:
        if type(value) is not exact:
            raise _FieldError(f"expected {words}, got {value!r}")
        return value

    return hook


def _float(value: object, _: object) -> float:
    if type(value) not in (int, float) or value != value or value in (float("inf"), -float("inf")):
        raise _FieldError(f"expected a finite number, got {value!r}")
    return float(typing.cast("float", value))


def _path(value: object, _: object) -> Path:
    try:
        name = Path(_exact(str, "a file name in quotes")(value, str)).expanduser()
    except RuntimeError as error:  # ~user
        raise _FieldError(f"there is no home folder for {value!r}") from error
    if "\0" in str(name):
        raise _FieldError(f"expected a file name, got {value!r}")
    return name


def _literal(value: object, kind: Any) -> object:
    allowed: list[str] = list(typing.get_args(kind))
    if value not in allowed or type(value) is not str:
        raise _FieldError(f"expected one of {', '.join(allowed)}, got {value!r}.{nearest(str(value), allowed)}")
    return value


def _is_optional(kind: object) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind)


def _optional(value: object, kind: object, converter: cattrs.Converter) -> object:
    (inner,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
    return converter.structure(value, inner)  # TOML has no null: an absent key is the only None


def _tuple(value: object, kind: object, converter: cattrs.Converter) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise _FieldError(f"expected a list, got {value!r}")
    items = typing.cast("list[object]", value)
    kinds = typing.get_args(kind)
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(items)
    elif len(kinds) != len(items):
        raise _FieldError(f"expected a list of {len(kinds)}, got {len(items)} entries")
    found, errors = list[object](), list[Exception]()
    for index, (item, item_kind) in enumerate(zip(items, kinds, strict=True)):
        try:
            found.append(converter.structure(item, item_kind))
        except Exception as error:
            note = cattrs.IterableValidationNote(f"entry {index}", index, item_kind)
            error.__notes__ = [*getattr(error, "__notes__", []), note]
            errors.append(error)
    if errors:
        # cattrs adds the class to ExceptionGroup's constructor, which type checkers do not see.
        raise cattrs.IterableValidationError("list", errors, tuple)  # pyright: ignore[reportCallIssue]
    return tuple(found)


def _attrs_hook(kind: type, converter: cattrs.Converter) -> Callable[[object, object], object]:
    """Cattrs' own structuring, with each field's validator run per field, so that all bad values are told at once."""
    attrs.resolve_types(kind)

    def checked(field: Any) -> Callable[[object, object], object]:
        def hook(value: object, field_kind: Any) -> object:
            found = converter.structure(value, field_kind)
            if field.validator is not None:
                field.validator(None, field, found)
            return found

        return hook

    fields: dict[str, Any] = {
        f.name: override(rename=f.name.rstrip("_"), struct_hook=checked(f)) for f in attrs.fields(kind)
    }
    generated = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **fields)

    def hook(value: object, _: object) -> object:
        if not isinstance(value, Mapping):
            raise _FieldError(f"expected a table, got {value!r}")
        return generated(typing.cast("Mapping[str, Any]", value), kind)

    return hook


def _structure_part(value: object, registry: Registry[Any], converter: cattrs.Converter) -> object:
    if not isinstance(value, Mapping) or type(typing.cast("Mapping[str, Any]", value).get("name")) is not str:
        known = ", ".join(registry.names())
        raise _FieldError(f'expected a table with a name, {{ name = "..." }}, got {value!r}. Names: {known}')
    rest = dict(typing.cast("Mapping[str, Any]", value))
    try:
        part = registry.get(rest.pop("name"))
    except MsdkError as error:
        error.__notes__ = [cattrs.AttributeValidationNote("name", "name", str)]
        raise cattrs.ClassValidationError("part", [error], dict) from error  # pyright: ignore[reportCallIssue]  as above
    return converter.structure(rest, part)


def _problems(error: BaseException, path: tuple[str, ...]) -> Iterable[Problem]:
    """Cattrs' tree of errors, flattened to one `Problem` per leaf."""
    if isinstance(error, cattrs.BaseValidationError):
        for inner in error.exceptions:
            step = ()
            for note in getattr(inner, "__notes__", []):
                if isinstance(note, cattrs.AttributeValidationNote):
                    step = (note.name.rstrip("_"),)
                elif isinstance(note, cattrs.IterableValidationNote):
                    step = (str(note.index),)
            yield from _problems(inner, (*path, *step))
    elif isinstance(error, cattrs.ForbiddenExtraKeysError):
        allowed = [f.name.rstrip("_") for f in attrs.fields(error.cl)]
        part = any(issubclass(error.cl, base) for base in PARTS)
        for key in sorted(error.extra_fields):
            known = ", ".join(["name", *allowed] if part else allowed)
            yield Problem(".".join((*path, key)), f"unknown key.{nearest(key, allowed)} Known: {known}.")
    elif isinstance(error, KeyError) and error.args == path[-1:]:
        yield Problem(".".join(path), "is missing")
    else:
        # attrs' validators put the field and its options behind their message.
        yield Problem(".".join(path), str(error.args[0] if isinstance(error, ValueError) and error.args else error))


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
    if isinstance(value, Path) and not value.is_absolute():
        source = _source_of(".".join(path), sources)
        folder = Path.cwd() if source.startswith("--set") or not source else Path(source).parent.resolve()
        return typing.cast("T", (folder / value).resolve())
    return value


def _misfits(recipe: Recipe) -> Iterable[Problem]:
    """What single fields cannot show: parts that do not fit each other."""
    ways = recipe.stages.ways()
    if len(ways) > 1:
        yield Problem("stages", f"give one of {', '.join(ways)}, not {len(ways)}")
    if recipe.stages.schedule is not None and recipe.stages.edges_t is None:
        yield Problem("stages.schedule", "says what edges_t refer to, but there are none")
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
    misfit = list(_failing("encoder", lambda: recipe.encoder.info(recipe.shape)))
    yield from misfit
    if not misfit:
        info = recipe.encoder.info(recipe.shape)
        for index, decoder in enumerate(recipe.decoders):
            yield from _failing(f"decoders.{index}", functools.partial(decoder.check, info))


def _failing(path: str, check: Callable[[], object]) -> Iterable[Problem]:
    try:
        check()
    except MsdkError as error:
        yield Problem(path, str(error))
    except (ArithmeticError, ValueError) as error:  # of floats: overflow, division by zero, roots of negative numbers
        yield Problem(path, f"leads to numbers that cannot be computed ({error.args[-1]}): use less extreme settings")


def _sampling_misfits(recipe: Recipe) -> Iterable[Problem]:
    if recipe.sampling.steps is not None and recipe.sampling.nfe is not None:
        yield Problem("sampling", "give steps (intervals of the time grid) or nfe (network calls), not both")
        return
    unreachable = list(_failing("sampling.nfe", lambda: recipe.steps))
    yield from unreachable
    if not unreachable:
        yield from _failing("sampler", lambda: recipe.sampler.times(recipe.schedule, recipe.steps))


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
        return _converter().structure(strategy["edges_ratio"], tuple[float, ...])
    except OSError as error:
        raise PartError(f"the clustering {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise PartError(f"{path} is not the clustering of one strategy, as `msdk cluster` writes it") from error
