"""What a recipe may do, but hardly means: sentences that commands say as warnings. Nothing here is refused."""

from collections.abc import Iterable, Sequence

from msdk.recipe.checks import check_trainable, trainable
from msdk.recipe.encoder_checks import encoders_by_key
from msdk.recipe.fields import Recipe
from msdk.recipe.salvaging import failing
from msdk.samplers.tracing import Call, explain

LEAST = 0.01
"""Share of training below which a stage is as good as untrained."""


def cautions(recipe: Recipe) -> list[str]:
    """Everything of a checked recipe that its author should know before training, a sentence each.

    Imports torch only where a stage seems to have no network call.
    """
    found = list(_training(recipe))
    if not recipe.clustered:
        found += [*undertrained(recipe), *uncalled(recipe)]
    return found


def uncalled(recipe: Recipe, calls: Sequence[Call] | None = None) -> list[str]:
    """Stages in which the recipe's sampler makes no network call, a sentence each.

    Args:
        recipe: Its stage edges are known.
        calls: What `explain` says of the recipe, where that is known. Without it, torch is imported where a stage has
            no time of the sampler's grid.
    """
    partition, schedule, solver = recipe.partition(), recipe.schedule, recipe.solver
    if calls is None:
        # Samplers call the network at the start of their intervals, and where else only they know.
        nodes = solver.times(schedule, recipe.steps)[:-1]
        if {partition.at(t, schedule) for t in nodes} == set(range(len(partition))):
            return []
        calls = explain(partition, schedule, solver, recipe.steps)
    called = {call.stage for call in calls}
    grid = getattr(recipe.sampler, "grid", None)
    return [
        f"sampling never calls {_named(recipe, index)}: none of its {len(calls)} network calls lies there. Take more "
        f"sampling.steps, sampling.steps_per_stage, or another sampler{'.grid' if grid else ''}"
        + (f" than {grid}" if grid else "")
        for index in range(len(partition))
        if index not in called
    ]


def undertrained(recipe: Recipe) -> list[str]:
    """Stages that get less than 1 % of the training images, a sentence each; the stage edges are known."""
    if not trainable(recipe):
        return []
    return [
        f"{_named(recipe, index)} gets {_percent(share)} of the training images: {_remedy(recipe)}, training.noise to "
        "a law that draws there, or other edges"
        for index, share in enumerate(recipe.training_shares())
        if share < LEAST and index in recipe.trained
    ]


def unseen(recipe: Recipe, images_by_stage: Sequence[int]) -> list[str]:
    """Stages that saw no image when training ended, a sentence each."""
    return [
        f"{_named(recipe, index)} saw no image in training, so its decoder is as it began: train longer, or "
        f"{_remedy(recipe)}"
        for index, images in enumerate(images_by_stage)
        if not images and index in recipe.trained
    ]


def _remedy(recipe: Recipe) -> str:
    """What gives a stage more images under the law that its recipe has."""
    draw = recipe.training.stage_draw
    if draw.name == "curriculum":
        return "set training.stage_draw.every to shorter turns"
    if isinstance(draw.shares, tuple):
        return "set training.stage_draw.shares to more of it"
    return 'set training.stage_draw to "uniform"'


def _named(recipe: Recipe, index: int) -> str:
    stages = recipe.partition().stages
    low, high = stages[index].low, stages[index].high
    where = f"ratios above {low:.4g}" if index == len(stages) - 1 else f"ratios from {low:.4g} to {high:.4g}"
    return f"stage {index} ({where})" if len(stages) > 1 else "the only stage"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share >= 1e-6 else "none" if share <= 0 else "less than 0.0001 %"


def _training(recipe: Recipe) -> Iterable[str]:
    """Settings that do nothing, or not what they say."""
    for problem in failing("", lambda: check_trainable(recipe)):
        yield f"it can be sampled, but training refuses it: {problem.message}"
    options, info = recipe.training, recipe.encoder_of(0).info(recipe.shape)
    if options.label_dropout and not info.classes and not info.text:
        yield (
            f"training.label_dropout = {options.label_dropout:g} withholds classes, but the model takes none: set "
            "encoder.classes, or leave it out"
        )
    if options.warmup >= options.iterations > 1:
        yield (
            f"training.warmup of {options.warmup:,} steps is not over when the {options.iterations:,} iterations end, "
            "so training.lr is never reached: lower warmup"
        )
    if info.augment and not options.augment:
        yield (
            f"encoder.augment takes {info.augment} labels of augmentation, but training.augment is 0, so they are "
            "always 0: set one, or leave out the other"
        )
    guided = recipe.sampling.guidance != 1
    if guided and not options.label_dropout and recipe.sampling.guide is None:
        yield (
            f"sampling.guidance = {recipe.sampling.guidance:g} needs a model that was trained without classes, too: "
            "set training.label_dropout, to 0.1 for example"
        )
    interval, schedule = recipe.sampling.guidance_interval, recipe.schedule
    if interval is not None and not guided:
        yield "sampling.guidance_interval does nothing where sampling.guidance is 1"
    ends = schedule.ratio(schedule.t_min), schedule.ratio(schedule.t_max)
    if interval is not None and not (interval[0] < ends[1] and interval[1] > ends[0]):
        yield (
            f"sampling.guidance_interval = {list(interval)} guides nothing: the schedule's ratios run from "
            f"{ends[0]:.4g} to {ends[1]:.4g}"
        )
    yield from _noise_prediction(recipe)
    yield from _attention(recipe)
    yield from _draws(recipe)
    yield from _stage_draws(recipe)
    if (options.gradients is not None or options.gradient_cosine) and options.groups(options.batch_size) == 1:
        key = "gradient_cosine" if options.gradients is None else "gradients"
        yield (
            f"training.{key} finds one gradient of the encoder in each step, since all images of a batch are of one "
            "stage: set training.stage_groups to more, or leave it out"
        )


def _stage_draws(recipe: Recipe) -> Iterable[str]:
    """Weights by importance that do nothing, or less than they seem to."""
    if not recipe.training.importance:
        return
    name = recipe.training.stage_draw.name
    if len(recipe.trained) == 1:
        yield "training.importance does nothing where one stage is trained: leave it out"
    elif name == "natural":
        yield 'training.importance does nothing where training.stage_draw is "natural": leave it out'
    elif name == "round-robin":
        yield (
            "training.importance makes up for round-robin only over a whole round of the stages: each step is of one "
            'stage, so its gradient is that stage\'s own. "stratified" is right in each step'
        )


MOST_RATIO = 1e6
"""Ratio of noise to image at which no image is left in x_t, whatever the precision."""


def _noise_prediction(recipe: Recipe) -> Iterable[str]:
    """Predictions of noise where that says little of the image."""
    schedule, parameterization = recipe.schedule, recipe.parameterization
    t = (schedule.t_min + schedule.t_max) / 2
    # The error of the output counts so often as an error of the image; of the noise it is 1 / ratio^2.
    of_output = -parameterization.coefficients(schedule, t).c_out / schedule.ratio(t)
    predicts_noise = abs(of_output - 1) < 1e-9
    weighs_noise = abs(recipe.weighting.weight(schedule, t) * schedule.ratio(t) ** 2 - 1) < 1e-9
    straight = not schedule.diffuses and abs(schedule.alpha(t) + schedule.sigma(t) - 1) < 1e-9
    if straight and predicts_noise and weighs_noise:
        yield (
            "the network predicts noise on straight paths, with a weight of 1/ratio^2 on the error of the image, which "
            'is not flow matching: that is parameterization = "velocity" and weighting = "velocity"'
        )
    if predicts_noise and schedule.ratio(schedule.t_max) > MOST_RATIO:
        yield (
            "the last step of the schedule has no image left, and a network that predicts its noise says nothing of "
            'one: use parameterization = "v", "x0" or "velocity"'
        )


def _attention(recipe: Recipe) -> Iterable[str]:
    """Sides at which an encoder is to attend, but has no level."""
    side = min(recipe.shape[1:])
    for key, encoder in encoders_by_key(recipe).items():
        sides = [side // level.reduction for level in encoder.info(recipe.shape).levels]
        absent = [each for each in getattr(encoder, "attention", ()) if each not in sides]
        if absent:
            yield (
                f"{key}.attention asks for {', '.join(map(str, absent))}, but the levels have sides of "
                f"{', '.join(map(str, sides))}: nothing attends there"
            )


def _draws(recipe: Recipe) -> Iterable[str]:
    """Training times that lie outside of the schedule."""
    options, schedule = recipe.training, recipe.schedule
    below = options.noise.cdf(schedule, schedule.t_min)
    above = 1 - options.noise.cdf(schedule, schedule.t_max)
    ends = (below, f"below its t_min = {schedule.t_min:g}"), (above, f"above its t_max = {schedule.t_max:g}")
    for share, where in ends:
        if share >= LEAST:
            yield (
                f"training.noise draws {_percent(share)} of its times outside of the schedule, {where}, where sampling "
                "never is: move or narrow the law"
            )
