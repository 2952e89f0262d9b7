"""How images are drawn, settled once: as the caller says, else as the recipe says, else by a recipe's defaults."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from msdk import samplers
from msdk.errors import PartError, UnknownNameError, cut, nearest
from msdk.recipe import Guide, Recipe, Sampling
from msdk.samplers.base import Sampler
from msdk.samplers.guidance import Guidance
from msdk.wrappers.base import Wrapper

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.batch import Condition

NoiseSource = Literal["fresh", "brownian"]

Label = int | str | Sequence[int | str]
"""A class for all images, or one for each, by number or by name."""


@attrs.frozen(kw_only=True)
class Settings:
    """All that decides what is drawn, beside the denoiser.

    Attributes:
        sampler: How to go from noise to an image; with steps per stage, the one that deals them out.
        steps: Intervals of its time grid.
        seeds: One per image.
        batch_size: Images per network call, twice as many where it is guided; an adaptive sampler has one.
        label: Class numbers, one for all images or int64 [images]; or names of classes, likewise; None for the class
            `seed % classes`; or a whole condition.
        guidance: Classifier-free guidance, or that by another run.
        guide: That run.
        noise: Of stochastic samplers, see `msdk.sampling.noise`.
        wrap: Around the network, each around the one before, see `msdk.wrappers`.
    """

    sampler: Sampler
    steps: int
    seeds: Sequence[int]
    batch_size: int
    # Tensors do not compare to one truth.
    label: "Label | Tensor | Condition | None" = attrs.field(eq=False)
    guidance: Guidance
    noise: NoiseSource
    wrap: Sequence[Wrapper] = ()
    guide: Guide | None = None


def settings_of(
    recipe: Recipe | None,
    *,
    sampler: Sampler | str | None = None,
    steps: int | None = None,
    seeds: Sequence[int] | None = None,
    batch_size: int | None = None,
    label: "Label | Tensor | Condition | None" = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    noise: NoiseSource | None = None,
    wrap: Sequence[Wrapper] | None = None,
) -> Settings:
    """How to draw, as the recipe says where nothing else is said.

    Args:
        recipe: The recipe of the denoiser; None where it knows none, then sampler, steps and seeds must be given.
        sampler: A sampler, or the name of one: the recipe's own where it is that, else with its default settings. The
            recipe's number of network calls, or its steps per stage, stay.
        steps: Intervals of the time grid, in the place of the recipe's `steps`, `nfe` or `steps_per_stage`.
        seeds: One per image.
        batch_size: See `Settings`; so are the others.
        label: See `Settings`.
        guidance: Weight of classifier-free guidance, see `msdk.samplers.guidance`.
        guidance_interval: Guided where low < ratio <= high.
        noise: See `Settings`.
        wrap: See `Settings`.

    Raises:
        UnknownNameError: There is no sampler of that name.
        PartError: Something is missing, or out of its range.
    """
    options = Sampling() if recipe is None else recipe.sampling
    if batch_size is not None and batch_size < 1:
        raise PartError(f"batch_size is the images of a network call, at least 1, got {batch_size}")
    if seeds is not None and not len(seeds):
        raise PartError("seeds is empty: there is one for each image, so name at least one")
    if seeds is not None and not all(-(2**63) <= seed < 2**64 for seed in (min(seeds), max(seeds))):
        raise PartError("a seed is a whole number of 64 bits")
    if seeds is not None and not isinstance(seeds, range):
        seeds = [int(seed) for seed in seeds]  # such as NumPy's
    if recipe is None:
        needed = {"sampler": sampler, "steps": steps, "seeds": seeds}
        missing = [name for name, value in needed.items() if value is None]
        if sampler is None or steps is None or seeds is None:
            raise PartError(
                f"this denoiser knows no recipe that could say its {' and '.join(missing)}: give them, or take a "
                "denoiser of msdk.load_run or msdk.build"
            )
        solver = named(sampler)
    else:
        recipe = overridden(recipe, sampler=sampler, steps=steps)
        solver, steps = recipe.solver, recipe.steps
    interval = options.guidance_interval if guidance_interval is None else guidance_interval
    return Settings(
        sampler=solver,
        steps=steps,
        seeds=range(options.seed, options.seed + options.images) if seeds is None else seeds,
        batch_size=options.batch_size if batch_size is None else batch_size,
        label=options.label if label is None else label,
        guidance=Guidance(
            weight=options.guidance if guidance is None else guidance,
            interval=interval,
            another=options.guide is not None,
        ),
        guide=options.guide,
        noise=options.noise if noise is None else noise,
        wrap=options.wrap if wrap is None else wrap,
    )


def overridden(
    recipe: Recipe,
    *,
    sampler: Sampler | str | None = None,
    steps: int | None = None,
    label: int | None = None,
    guidance: float | None = None,
) -> Recipe:
    """The recipe, sampled in another way; see `settings_of`.

    Raises:
        UnknownNameError: There is no sampler of that name.
        PartError: A number is out of its range, or steps for all stages meet a sampler for each.
    """
    options = recipe.sampling
    said = {"label": label, "guidance": guidance, "steps": steps}
    changes: dict[str, object] = {key: value for key, value in said.items() if value is not None}
    if steps is not None:
        changes |= {"nfe": None, "steps_per_stage": None}
    try:
        options = attrs.evolve(options, **changes)
    except (TypeError, ValueError) as error:  # of attrs' validators, which put the field behind their message
        raise PartError(f"sampling: {error.args[0]}") from error
    if sampler is not None:
        # As with `sampler.name` in a recipe: another name drops the settings of the old part, its own name none.
        own = isinstance(sampler, str) and samplers.get(sampler) is type(recipe.sampler)
        solver = recipe.sampler if own else named(sampler)
        solver = solver if options.nfe is None else solver.spending(options.nfe)
        return attrs.evolve(recipe, sampling=options, sampler=solver, samplers=())
    if recipe.samplers and options.steps_per_stage is None:
        raise PartError("the recipe has a sampler for each stage, with steps for each: name one sampler as well")
    return attrs.evolve(recipe, sampling=options)


def class_number(name: str, names: Sequence[str]) -> int:
    """The number of a class by its name.

    Args:
        name: Of the class.
        names: Of class 0, of class 1, ...

    Raises:
        UnknownNameError: There is none of that name; the message lists those that there are.
        PartError: No classes have names.
    """
    if not names:
        raise PartError(f"nothing says which class {cut(name, 200)!r} is, as the data had no names: use its number")
    if name not in names:
        more = f", and {len(names) - MOST_TOLD:,} more" if len(names) > MOST_TOLD else ""
        known = ", ".join(f"{number} {each}" for number, each in enumerate(names[:MOST_TOLD]))
        raise UnknownNameError(f"no class named '{cut(name, 200)}'.{nearest(name, names)} Known: {known}{more}.")
    return names.index(name)


MOST_TOLD = 50
"""Names of classes in a message."""


def named(sampler: Sampler | str) -> Sampler:
    """A sampler, or that of a name with its default settings.

    Raises:
        UnknownNameError: There is no sampler of that name.
        PartError: It has a setting without a default.
    """
    if isinstance(sampler, Sampler):
        return sampler
    part = samplers.get(sampler)
    needed = [str(field.alias) for field in attrs.fields(part) if field.init and field.default is attrs.NOTHING]
    if needed:
        raise PartError(f"the sampler '{sampler}' has no default for {', '.join(needed)}: build one with its settings")
    return part()
