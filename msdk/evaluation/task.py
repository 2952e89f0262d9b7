"""What is to be judged, settled once: as told, else as the recipe says, else by what suits the data."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs

from msdk import extractors, metrics
from msdk.batch import Shape
from msdk.datasets.base import Dataset
from msdk.denoiser import Denoiser
from msdk.errors import PartError
from msdk.evaluation.asked import Asked
from msdk.extractors.base import Extractor
from msdk.metrics.base import Metric
from msdk.preparing.surveying import dataset_at
from msdk.recipe import Evaluation, Recipe
from msdk.recipe.structuring import to_data
from msdk.runs import latest, refuse_other_recipe, run_recipe
from msdk.runs.folder import checkpoint_at
from msdk.sampling.settings import overridden

T = TypeVar("T")


@attrs.frozen(kw_only=True, eq=False)
class Task:
    """What is to be judged, with nothing left open.

    Attributes:
        run: The run folder.
        recipe: Of it, as it is to be sampled.
        options: How it is judged.
        metrics: What is measured.
        extractor: What makes features where a metric brings none of its own.
        checkpoint: The iteration.
        files: Images that were drawn elsewhere; None where they are drawn here.
        reference: The real images.
        mixed: What else draws, for the stamp: see `msdk.evaluation.swapping`.
        load: Gives the denoiser on a device; the run's own when not given.
    """

    run: Path
    recipe: Recipe
    options: Evaluation
    metrics: tuple[Metric, ...]
    extractor: Extractor
    checkpoint: int
    files: Dataset | None
    reference: Dataset
    mixed: Mapping[str, Any] | None = None
    load: Callable[[str], Denoiser] | None = None

    @property
    def count(self) -> int:
        """Images in all ranges."""
        return self.options.images * self.options.repeats

    @property
    def extractors(self) -> dict[str, Extractor]:
        """Those that are needed, by name."""
        needed = [self.of(metric) for metric in self.metrics if metric.reads != "denoiser"]
        return {str(to_data(each)["name"]): each for each in needed if each is not None}

    def of(self, metric: Metric) -> Extractor | None:
        """The extractor of a metric."""
        return None if metric.reads == "denoiser" else metric.own_extractor or self.extractor


def task_of(run: Path, asked: Asked | None = None, recipe: Recipe | None = None, *, begins: bool = False) -> Task:
    """What is to be judged, as asked, else as the recipe says; see `evaluate`.

    `begins` is of a run that has no folder yet.
    """
    asked = asked or Asked()
    recipe = overridden(recipe or run_recipe(run), sampler=asked.sampler, steps=asked.steps, guidance=asked.guidance)
    said = {key: getattr(asked, key) for key in ("images", "repeats", "weights", "seed", "split")}
    options = recipe.evaluation or Evaluation()
    options = _evolved(options, {key: value for key, value in said.items() if value is not None})
    extractor = options.extractor if asked.extractor is None else _part(asked.extractor, Extractor)
    at = 0 if begins else _iteration(run, asked.checkpoint)
    real = (
        options.reference or recipe.data if asked.reference is None else _found_at("reference", asked.reference, recipe)
    )
    files = None if asked.samples is None else _found_at("samples", asked.samples, recipe)
    if files is not None:
        counted = len(files.open())
        if asked.images is None:
            options = _evolved(options, {"images": counted, "repeats": 1})
        elif options.images * options.repeats > counted:
            raise PartError(f"{asked.samples} has {counted:,} images, fewer than {options.images * options.repeats:,}")
    measured = options.metrics if asked.metrics is None else tuple(_part(each, Metric) for each in asked.metrics)
    task = Task(
        run=run,
        recipe=recipe,
        options=options,
        metrics=measured or _suited(recipe),
        extractor=extractor or suited_extractor(recipe.data.shape),
        checkpoint=at,
        files=files,
        reference=real,
    )
    for metric in task.metrics:
        if metric.reads == "denoiser" and files is not None:
            raise PartError(f"{to_data(metric)['name']} is of a run's weights, and samples have none: leave it out")
    return task


def sampled_as(run: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a run, sampled and judged as overrides say.

    Raises:
        RunError: They change what was trained, which changes nothing of the run.
    """
    recipe = run_recipe(run, overrides)
    refuse_other_recipe(run, recipe)
    return recipe


def _iteration(run: Path, checkpoint: int | None) -> int:
    return int((latest(run) if checkpoint is None else checkpoint_at(run, checkpoint)).name)


def _evolved(options: Evaluation, changes: Mapping[str, Any]) -> Evaluation:
    if changes.get("weights", "ema") not in ("ema", "raw"):
        raise PartError(f"weights are 'ema' or 'raw', got {changes['weights']!r}")
    if changes.get("split", "all") not in ("all", "trained", "held-out"):
        raise PartError(f"split is 'all', 'trained' or 'held-out', got {changes['split']!r}")
    try:
        return attrs.evolve(options, **changes)
    except (TypeError, ValueError) as error:  # of attrs' validators, which put the field behind their message
        raise PartError(f"evaluation: {error.args[0]}") from error


def _part(given: Any, base: type[T]) -> T:
    """A part, or that of a name with its default settings."""
    if isinstance(given, str):
        return (metrics if base is Metric else extractors).get(given)()  # pyright: ignore[reportReturnType]
    return given


def _suited(recipe: Recipe) -> tuple[Metric, ...]:
    names = ["fid", "precision-recall", *(["denoising-loss"] if recipe.data.held_out else [])]
    return tuple(metrics.get(f"msdk:{name}")() for name in names)


def suited_extractor(shape: Shape) -> Extractor:
    """`digits` for images of their shape, else `inception`."""
    digits: Extractor = extractors.get("msdk:digits")()
    try:
        digits.check(shape)
    except PartError:
        return extractors.get("msdk:inception")()
    return digits


def _found_at(what: str, place: str | Path, recipe: Recipe) -> Dataset:
    """Images at a path, of the shape of the recipe's; others are refused as they are read."""
    if not Path(place).exists():
        raise PartError(f"{what} {place}: there is nothing there")
    found = cast("Any", dataset_at(Path(place)))
    shape = recipe.data.shape
    return (
        attrs.evolve(found, size=shape[-1], channels=shape[0]) if len(shape) == 3 and hasattr(found, "size") else found
    )
