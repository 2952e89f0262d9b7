"""What single fields of a recipe cannot show: parts that do not fit each other."""

import contextlib
import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import attrs

from msdk.autoencoders.base import Autoencoder
from msdk.batch import Shape
from msdk.decoders.base import Decoder
from msdk.encoders.base import Encoder, FeatureInfo
from msdk.errors import PartError, PluginFaultError, Problem, quoted
from msdk.noise_levels.base import NoiseLevel
from msdk.objectives.base import Objective
from msdk.parameterizations.base import Parameterization
from msdk.recipe.drawing_checks import (
    drawn_stages,
    gradients_misfits,
    micro_batches,
    stage_count,
    stage_draw_misfits,
    stage_groups_misfits,
    trained_stages,
)
from msdk.recipe.encoder_checks import encoder_misfits, encoders_by_key, unlike_conditions, unlike_ranges
from msdk.recipe.fields import Recipe, Stages
from msdk.recipe.guides import guide_misfits
from msdk.recipe.salvaging import UNKNOWN, NotKnown, failing, known, stated
from msdk.recipe.trainings import AUGMENT_LABELS
from msdk.recipe.watching import watching_misfits
from msdk.registry import registry_for
from msdk.registry.describing import in_words
from msdk.registry.faults import whose
from msdk.samplers.base import Sampler
from msdk.schedules.base import Schedule
from msdk.trackers.base import ALWAYS, Tracker
from msdk.wrappers.base import Wrapper

Check = Callable[[Recipe], Iterable[Problem]]
"""Tells what is wrong with a recipe."""


def misfits(recipe: Recipe) -> Iterable[Problem]:
    """What single fields cannot show: parts that do not fit each other.

    A check that asks for what is not known of the recipe (see `msdk.recipe.salvaging`) tells nothing; the others do.
    """
    found = _found((_size_misfits, _float_misfits), recipe)
    yield from found
    if found:
        return  # the checks that follow would compute with what is too large
    found = _found((encoder_misfits,), recipe)
    yield from found
    if found:
        recipe = copy.copy(recipe)  # nobody can say which encoder is meant
        object.__setattr__(recipe, "encoder", UNKNOWN)
        object.__setattr__(recipe, "encoders", None)
    found = _found((_schedule_misfits,), recipe)
    yield from found
    if found:
        recipe = copy.copy(recipe)  # what counts on the schedule would only tell the same again
        object.__setattr__(recipe, "schedule", UNKNOWN)
    yield from _found(CHECKS, recipe)


def _found(checks: Iterable[Check], recipe: Recipe) -> list[Problem]:
    unanswered = NotKnown if known(recipe) else Exception  # whatever a part makes of what is not known
    found: list[Problem] = []
    for check in checks:
        with contextlib.suppress(unanswered):
            found += check(recipe)
    return found


def _ways(stages: Stages) -> list[str]:
    for key in ("edges_ratio", "edges_t", "clustering", "from_"):
        stated(stages, key)
    return stages.ways()


def _stages_given_twice(recipe: Recipe) -> Iterable[Problem]:
    ways = _ways(recipe.stages)
    if len(ways) > 1:
        yield Problem("stages", f"give one of {', '.join(ways)}, not {len(ways)}")
    elif len(ways) == 1 and not recipe.clustered:
        yield from failing(f"stages.{ways[0]}", recipe.partition)


def _schedule_of_nothing(recipe: Recipe) -> Iterable[Problem]:
    if recipe.stages.schedule is not None and recipe.stages.edges_t is None and not recipe.clustered:
        yield Problem("stages.schedule", "says what edges_t or a clustering refer to, but there is neither")


def _decoders_for_stages(recipe: Recipe) -> Iterable[Problem]:
    count = stage_count(recipe)
    if len(_ways(recipe.stages)) < 2 and count != len(recipe.decoders):
        stages = f"{count} stage" + ("s" if count > 1 else "")
        yield Problem(
            "decoders", f"{stages} need as many decoders, least noise first; there are {len(recipe.decoders)}"
        )


def _one_decoder(recipe: Recipe) -> Iterable[Problem]:
    if recipe.sharing == "unified" and len(recipe.decoders) > 1:
        yield Problem(
            "sharing", f"unified means one decoder for all noise levels, but there are {len(recipe.decoders)}"
        )


def _noise_for_encoder(recipe: Recipe) -> Iterable[Problem]:
    fed = noise_range(recipe.parameterization, recipe.schedule)
    if fed is not None:
        for key, encoder in encoders_by_key(recipe).items():
            yield from failing(key, lambda encoder=encoder: encoder.check_noise(*fed))


def _range_of_latents(recipe: Recipe) -> Iterable[Problem]:
    for key, encoder in encoders_by_key(recipe).items():
        if stated(recipe, "autoencoder") and encoder.unit_range:
            told = "is for images in [0, 1], but with an autoencoder the network sees latents"
            yield Problem(f"{key}.unit_range", told)


def _augmented_axes(recipe: Recipe) -> Iterable[Problem]:
    shape = recipe.data.shape
    if len(shape) >= 2 and min(shape) >= 1 and recipe.training.augment and len(shape) != 3:
        yield Problem("training.augment", f"bends pictures [channels, height, width], but the data are {list(shape)}")
    if recipe.training.flip and len(shape) == 2:
        yield Problem("training.flip", f"mirrors pictures left to right, but the data are signals, {list(shape)}")


def _features(recipe: Recipe) -> Iterable[Problem]:
    """From the data's shape to the features of the last decoder; each counts on those before it."""
    misfit = list(_axes_misfits(recipe))
    misfit = misfit or list(failing("autoencoder", lambda: recipe.shape))
    encoders = encoders_by_key(recipe)
    for key, encoder in encoders.items() if not misfit else ():
        misfit += failing(key, functools.partial(encoder.info, recipe.shape))
    yield from misfit
    if misfit:
        return
    infos = {key: _promised(encoder, recipe.shape) for key, encoder in encoders.items()}
    yield from unlike_conditions(infos)
    yield from _conditions(recipe, next(iter(infos.values())))
    if recipe.adapter is not None:
        for info in infos.values():
            misfit = misfit or list(failing("adapter", functools.partial(recipe.adapter.info, info)))
        yield from misfit
        if misfit:
            return
        infos = {key: recipe.adapter.info(info) for key, info in infos.items()}
    for index, decoder in enumerate(recipe.decoders):
        info = infos.get(f"encoders.{index}") or infos["encoder"]
        yield from failing(f"decoders.{index}", functools.partial(decoder.check, info))


def _promised(encoder: Encoder, shape: Shape) -> FeatureInfo:
    info = cast("object", encoder.info(shape))
    if not isinstance(info, FeatureInfo):
        told = f"`info` of {in_words(encoder)} returns {type(info).__name__}, and must return FeatureInfo"
        raise PluginFaultError(told, whose(type(encoder)) or "msdk")
    return info


def trainable(recipe: Recipe) -> bool:
    """Whether training draws the noise that networks of the recipe's schedule see."""
    schedule = recipe.schedule
    if schedule.trainable:
        return True
    return registry_for(Objective).name_of(type(recipe.training.loss)).removeprefix("msdk:") == schedule.objective


def check_trainable(recipe: Recipe) -> None:
    """Raises `PartError` where a recipe that is good for sampling cannot be trained."""
    if not trainable(recipe):
        name, own = registry_for(Schedule).name_of(type(recipe.schedule)), recipe.schedule.objective
        raise PartError(
            f'the schedule {name} has noise of its own: set training.objective to "{own}", which draws it'
            if own
            else f"the schedule {name} is for sampling only: its networks are trained with noise that msdk does not "
            "draw. Train under another schedule"
        )
    recipe.training.loss.check(recipe)
    told = [*drawn_stages(recipe), *stage_draw_misfits(recipe)]  # once more, now that the edges are known
    if told:
        raise PartError(f"{told[0].path}: {told[0].message}")


def check_axes(part: Encoder | Decoder | Autoencoder, shape: Shape) -> None:
    """Raises `PartError` where a part is for images of another number of axes."""
    if part.axes not in (None, len(shape) - 1):
        raise PartError(
            f"is for images of {part.axes} axes beside their channels, but here they are {list(shape)}: use a part for "
            "such shapes, of your own or of a plugin"
        )


def _axes_misfits(recipe: Recipe) -> Iterable[Problem]:
    """Parts, and augmentation, that are for images of another number of axes than the data have."""
    shape = recipe.data.shape
    if len(shape) < 2 or min(shape) < 1:
        yield Problem("data", f"the shape {list(shape)} needs channels and at least one axis, each of at least 1")
        return
    named = {"autoencoder": recipe.autoencoder} if recipe.autoencoder is not None else encoders_by_key(recipe)
    for path, part in named.items():
        yield from failing(path, functools.partial(check_axes, part, shape))
    for index, decoder in enumerate(recipe.decoders if recipe.autoencoder is None else ()):
        yield from failing(f"decoders.{index}", functools.partial(check_axes, decoder, shape))


def _conditions(recipe: Recipe, info: FeatureInfo) -> Iterable[Problem]:
    for check in (_unconditional, _class_beyond, _augment_labels):
        try:
            yield from check(recipe, info)
        except NotKnown:
            continue


def _unconditional(recipe: Recipe, info: FeatureInfo) -> Iterable[Problem]:
    options = recipe.sampling
    conditional = {
        "label": lambda: stated(options, "label"),
        "guidance": lambda: options.guidance != 1,
        "guidance_interval": lambda: stated(options, "guidance_interval"),
    }

    if stated(options, "guide"):  # another run guides, with or without classes
        del conditional["guidance"], conditional["guidance_interval"]

    def judge(given: Callable[[], bool]) -> None:
        if given() and not info.classes:
            raise PartError("needs a class-conditional model: set encoder.classes, or leave this key out")

    for key, given in conditional.items():
        yield from failing(f"sampling.{key}", functools.partial(judge, given))


def _class_beyond(recipe: Recipe, info: FeatureInfo) -> Iterable[Problem]:
    label, classes = recipe.sampling.label, info.classes
    if classes and label is not None and label >= classes:
        yield Problem(
            "sampling.label", f"there is no class {label}: encoder.classes is {classes}, so use 0 .. {classes - 1}"
        )


def _augment_labels(recipe: Recipe, info: FeatureInfo) -> Iterable[Problem]:
    if recipe.training.augment and info.augment not in (0, AUGMENT_LABELS):
        yield Problem(
            "encoder.augment",
            f"training.augment gives {AUGMENT_LABELS} labels per image, not {info.augment}: use {AUGMENT_LABELS}, or 0 "
            "to feed none",
        )


LARGEST = 2**24
"""Of whole numbers in the settings of networks, and a hidden layer: beyond, no memory would do."""

MOST = 1e30
"""Of the size of numbers that meet tensors."""

DEEPEST = 1000
"""Blocks in a row."""


def _size_misfits(recipe: Recipe) -> Iterable[Problem]:
    """Whole numbers in the settings of networks that are beyond any network."""
    networks: dict[str, object] = {**encoders_by_key(recipe), "adapter": recipe.adapter}
    networks |= {"autoencoder": recipe.autoencoder, "training.objective": recipe.training.objective}
    if recipe.decoders is not UNKNOWN:
        networks |= {f"decoders.{index}": decoder for index, decoder in enumerate(recipe.decoders)}
    for path, part in networks.items():
        for field in attrs.fields(type(part)) if attrs.has(type(part)) else ():
            value, most = getattr(part, field.name), DEEPEST if field.name in ("blocks", "depth") else LARGEST
            numbers: tuple[object, ...] = value if isinstance(value, tuple) else (value,)
            if any(type(each) is int and each > most for each in numbers):
                yield Problem(
                    f"{path}.{field.name}", f"must be at most {most:,}: {quoted(value)} is beyond any network"
                )


def _float_misfits(recipe: Recipe) -> Iterable[Problem]:
    """Numbers in what computes with tensors of float32, whose own numbers end at 3e38."""
    parts: dict[str, object] = {"sampler": recipe.sampler}
    parts |= {f"samplers.{index}": each for index, each in enumerate(recipe.samplers)}
    parts |= {f"sampling.wrap.{index}": each for index, each in enumerate(recipe.sampling.wrap)}
    for path, part in parts.items():
        for field in attrs.fields(type(part)) if attrs.has(type(part)) else ():
            value = getattr(part, field.name)
            if isinstance(value, float) and abs(value) > MOST:
                yield Problem(f"{path}.{field.name}", f"must be between -{MOST:g} and {MOST:g}, got {value:g}")


def _times(schedule: Schedule) -> list[float]:
    """Some between its ends."""
    first = schedule.t_min + 1e-6 * (schedule.t_max - schedule.t_min)  # at the end itself some logarithms are infinite
    return [first + (schedule.t_max - first) * share for share in (0.0, 1e-3, 0.1, 0.5, 0.9, 1.0)]


def _schedule_misfits(recipe: Recipe) -> Iterable[Problem]:
    """Settings with which the schedule's ratios are no numbers, or do not rise."""
    schedule, times = recipe.schedule, _times(recipe.schedule)
    told = list(failing("schedule", lambda: _refuse_infinite(schedule, schedule.ratio, times)))
    yield from told or failing("schedule", lambda: _refuse_still(schedule, times))


def _number_misfits(recipe: Recipe) -> Iterable[Problem]:
    """Settings with which what else is computed of a time alone is no number, somewhere between the schedule's ends."""
    schedule, times = recipe.schedule, _times(recipe.schedule)
    parameterization, weighting, noise = recipe.parameterization, recipe.weighting, recipe.training.noise

    def coefficients(t: float) -> float:
        found = parameterization.coefficients(schedule, t)
        return sum(float(each) for each in (found.c_skip, found.c_out, found.c_in, found.c_noise))

    yield from failing("parameterization", lambda: _refuse_infinite(parameterization, coefficients, times))
    yield from failing("weighting", lambda: _refuse_infinite(weighting, lambda t: weighting.weight(schedule, t), times))
    yield from failing("training.noise", lambda: _refuse_nowhere(noise, schedule))
    rates, last = recipe.training.lr_schedule, recipe.training.iterations
    if rates is not None:
        steps = sorted({*range(min(last, 3)), last // 2, last - 1})

        def factor(step: float) -> float:
            return rates.factor(int(step), last)

        yield from failing("training.lr_schedule", lambda: _refuse_infinite(rates, factor, steps))


def _refuse_infinite(part: object, function: Callable[[float], float], places: Iterable[float]) -> None:
    suspect = f". If that is not it, look at {in_words(part)}" if whose(type(part)) else ""
    for place in places:
        if not math.isfinite(function(place)):
            raise PartError(f"leads to {function(place)} at {place:g}: use less extreme settings{suspect}")


def _refuse_still(schedule: Schedule, times: Sequence[float]) -> None:
    ratios = [schedule.ratio(t) for t in times]
    falls = any(low > high for low, high in itertools.pairwise(ratios))  # tables may hold a step
    if falls or ratios[0] >= ratios[-1]:
        raise PartError(
            f"its ratio of noise to image does not rise from t = {times[0]:g} to {times[-1]:g}: it runs from "
            f"{ratios[0]:.4g} to {ratios[-1]:.4g}, so use less extreme settings"
        )


def _refuse_nowhere(noise: NoiseLevel, schedule: Schedule) -> None:
    below, all_of_it = noise.cdf(schedule, schedule.t_min), noise.cdf(schedule, schedule.t_max)
    if not 0 <= below < all_of_it <= 1 + 1e-9:
        raise PartError(
            f"draws no time between the schedule's t_min = {schedule.t_min:g} and t_max = {schedule.t_max:g}: move "
            "the law"
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


def _optimizer_twice(recipe: Recipe) -> Iterable[Problem]:
    options = recipe.training
    if stated(options, "optimizer") and (options.betas != (0.9, 0.999) or options.weight_decay):
        yield Problem("training.optimizer", "has settings of its own: leave out training.betas and weight_decay")


def _objective(recipe: Recipe) -> Iterable[Problem]:
    # Unnamed, it is no mistake of a recipe that only samples; `msdk train` asks for it.
    if recipe.training.objective is not None:
        yield from failing("training.objective", functools.partial(recipe.training.objective.check, recipe))


def _trackers(recipe: Recipe) -> Iterable[Problem]:
    for index, tracker in enumerate(recipe.trackers):
        if tracker is UNKNOWN:
            continue
        name = registry_for(Tracker).name_of(type(tracker))
        if name.removeprefix("msdk:") in ALWAYS:
            yield Problem(f"trackers.{index}", f"every run has the tracker '{name}': leave it out")


def _wrappers(recipe: Recipe) -> Iterable[Problem]:
    def judge(wrapper: Wrapper) -> None:
        latents = stated(recipe, "autoencoder")
        if wrapper.pixels and (latents or recipe.encoder_of(0).unit_range):
            seen = "latents" if latents else "pixels in [0, 1]"
            raise PartError(f"is for pixels in [-1, 1], but the network sees {seen}")

    for index, wrapper in enumerate(recipe.sampling.wrap):
        yield from failing(f"sampling.wrap.{index}", functools.partial(judge, wrapper))


def _sampler_runs(recipe: Recipe) -> None:
    # Where edges are still to be found, only the number of stages is known.
    solver = recipe.sampler if stated(recipe.stages, "clustering") else recipe.solver
    solver.check(recipe.schedule, recipe.steps)
    for sampler in recipe.samplers or (recipe.sampler,):
        if sampler.feeds != recipe.schedule.feeds:
            given, name = registry_for(Sampler), registry_for(Schedule).name_of(type(recipe.schedule))
            two = recipe.schedule.feeds == 2
            told = f"{given.name_of(type(sampler))} does not draw what networks of the schedule {name} are fed, "
            raise PartError(told + ("image and velocity: use gddim" if two else "the image alone: use another sampler"))
    solver.times(recipe.schedule, recipe.steps)


def _sampling(recipe: Recipe) -> Iterable[Problem]:
    options = recipe.sampling
    values = {key: getattr(options, key) for key in ("steps", "nfe", "steps_per_stage")}
    ways = [key for key, value in values.items() if value is not None and value is not UNKNOWN]
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
    if options.steps_per_stage is not None:
        stages = stage_count(recipe)
        for path, given in (("sampling.steps_per_stage", options.steps_per_stage), ("samplers", recipe.samplers)):
            if given and len(given) != stages:
                words = f"has {len(given)} entries for {stages} stages: give one for each, least noise first"
                yield Problem(path, words)
                return
    unreachable = list(failing("sampling.nfe", lambda: recipe.steps))
    yield from unreachable
    if not unreachable:
        yield from failing("sampler", lambda: _sampler_runs(recipe))


def _snapshots(recipe: Recipe) -> Iterable[Problem]:
    options = recipe.training
    if options.snapshot_every and not options.averaged:
        yield Problem("training.snapshot_every", "is of averages, and training keeps none: name training.averages")


def _init(recipe: Recipe) -> Iterable[Problem]:
    if not stated(recipe, "init"):
        return
    stages = recipe.init.stages if recipe.init is not None else "copy"
    if stages != "copy" and len(stages) != len(recipe.decoders):
        count = len(recipe.decoders)
        yield Problem("init.stages", f'has {len(stages)} entries for {count} stages: give one for each, or "copy"')


def _evaluations(recipe: Recipe) -> Iterable[Problem]:
    every = recipe.training.evaluate_every
    if every and not stated(recipe, "evaluation"):
        yield Problem("training.evaluate_every", "evaluates as [evaluation] says, which is not there: add it")
    if stated(recipe, "evaluation"):
        options = recipe.evaluation
        if options is not None and options.split != "all" and not (options.reference or recipe.data).held_out:
            yield Problem("evaluation.split", f"is '{options.split}', but no image is held out: set data.held_out")


CHECKS: tuple[Check, ...] = (
    _init,
    _snapshots,
    _evaluations,
    watching_misfits,
    _stages_given_twice,
    _schedule_of_nothing,
    _decoders_for_stages,
    _one_decoder,
    _number_misfits,
    _sampling,
    _wrappers,
    micro_batches,
    stage_groups_misfits,
    trained_stages,
    drawn_stages,
    stage_draw_misfits,
    gradients_misfits,
    guide_misfits,
    _optimizer_twice,
    _objective,
    _trackers,
    _noise_for_encoder,
    _range_of_latents,
    unlike_ranges,
    _augmented_axes,
    _features,
)
"""Each can be answered without the others, so that what one does not know hides nothing of the rest."""
