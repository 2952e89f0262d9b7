"""`msdk evaluate`."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import AsJson, Device, Force, Set, interruptible
from msdk.distributed import this_rank
from msdk.errors import RunError

if TYPE_CHECKING:
    from msdk.extractors.base import Extractor

evaluation = App(name="evaluate")

Of = Annotated[str | None, Parameter(help="What makes features: digits, inception, dinov2, or one of a plugin.")]


@evaluation.default
def evaluate(
    run: Path,
    /,
    *,
    metrics: Annotated[
        str | None, Parameter(help="Names with commas: fid,precision-recall; `msdk list metrics` has them.")
    ] = None,
    extractor: Of = None,
    images: Annotated[int | None, Parameter(help="Generated images of a range of seeds; 50,000 by default.")] = None,
    repeats: Annotated[int | None, Parameter(help="Ranges of seeds, whose spread is told.")] = None,
    checkpoint: Annotated[int | None, Parameter(help="Its iteration; the newest one by default.")] = None,
    weights: Annotated[str | None, Parameter(help="ema or raw.")] = None,
    sampler: Annotated[str | None, Parameter(help="Another sampler, with its default settings.")] = None,
    steps: Annotated[int | None, Parameter(help="Intervals of the time grid. The recipe's by default.")] = None,
    guidance: Annotated[float | None, Parameter(help="Weight of classifier-free guidance.")] = None,
    seed: Annotated[int | None, Parameter(help="The first seed.")] = None,
    samples: Annotated[
        Path | None, Parameter(help="Images that were drawn elsewhere, a .zip or a folder, in the place of the run's.")
    ] = None,
    reference: Annotated[
        Path | None, Parameter(help="Real images, a .zip or a folder, in the place of the recipe's.")
    ] = None,
    split: Annotated[str | None, Parameter(help="Which of the real images: all, trained or held-out.")] = None,
    name: Annotated[
        str | None, Parameter(help="Of the file of scores in RUN/evaluations; by the checkpoint by default.")
    ] = None,
    force: Force = False,
    device: Device = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Judge the images of a run: draw them, look at them, score them, and tell what made each number.

    What a killed process has looked at is kept: the same command goes on. Scores that are there are shown again.

    Examples: msdk evaluate runs/digits-multistage --images 2000 --metrics fid,precision-recall
    / msdk evaluate runs/mine --samples images.zip
    / torchrun --nproc-per-node 2 -m msdk evaluate runs/mine --images 50000

    Parameters
    ----------
    run
        A run folder that `msdk train` or `msdk run` made.
    """
    if not (run / "recipe.toml").is_file():
        raise RunError(f"{run} is not a run folder: it has no recipe.toml. `msdk train` makes one.")
    from msdk.runs import refuse_other_recipe, run_recipe

    recipe = run_recipe(run, overrides or ())
    refuse_other_recipe(run, recipe)  # an override of the networks would change nothing
    from msdk.evaluation import evaluate as judged

    first = this_rank().first
    kept = f"what was looked at is kept in {run / 'evaluations'}; the same command goes on"
    with (
        interruptible(lambda: kept),
        display.bar() if first else contextlib.nullcontext(lambda *_: None) as report,
    ):
        found = judged(
            run,
            recipe=recipe,
            metrics=None if metrics is None else [each.strip() for each in metrics.split(",") if each.strip()],
            extractor=extractor,
            images=images,
            repeats=repeats,
            checkpoint=checkpoint,
            weights=weights,
            sampler=sampler,
            steps=steps,
            guidance=guidance,
            seed=seed,
            samples=samples,
            reference=reference,
            split=split,
            name=name,
            device=device,
            force=force,
            progress=report,
        )
    if not first:
        return
    if as_json:
        display.print_json(found.as_json())
        return
    from msdk.report.scores import scores_grid

    display.show(scores_grid(found))
    display.say(f"written: {run / 'evaluations' / found.name}.json")


@evaluation.command
def reference(
    data: Path,
    /,
    *,
    extractor: Of = None,
    split: Annotated[str, Parameter(help="Which of the images: all, trained or held-out.")] = "all",
    device: Device = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Look at real images once, and keep what evaluations compare with in the cache folder.

    Examples: msdk evaluate reference recipes/digits/base.toml
    / msdk evaluate reference recipes/cifar10/dpm-multistage.toml --extractor inception

    Parameters
    ----------
    data
        A recipe, or a run folder, whose data are meant.
    """
    from msdk.cli.options import load
    from msdk.evaluation import reference as looked
    from msdk.evaluation.task import suited_extractor

    recipe = load(data, overrides)
    options = recipe.evaluation
    wanted = (
        _named(extractor) or (None if options is None else options.extractor) or suited_extractor(recipe.data.shape)
    )
    real = recipe.data if options is None or options.reference is None else options.reference
    first = this_rank().first
    with display.bar() if first else contextlib.nullcontext(lambda *_: None) as report:
        found = looked(
            real,
            wanted,
            split=split,
            device=device,
            progress=lambda done, total: report("looking at real images", done, total),
        )
    if not first:
        return
    from msdk.recipe.results import to_json

    if as_json:
        display.print_json({"file": str(found.file), "was_there": found.found, "reference": to_json(found.stamp)})
        return
    how = "was there" if found.found else "made"
    display.say(f"{how}: {found.stamp.images:,} images in {found.file}")


def _named(extractor: str | None) -> "Extractor | None":
    from msdk import extractors

    return None if extractor is None else extractors.get(extractor)()
