"""`msdk evaluate`."""

import contextlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import AsJson, Device, Force, Set, interruptible
from msdk.distributed import this_rank, together
from msdk.errors import MsdkError, RunError

if TYPE_CHECKING:
    from msdk.evaluation import Asked, Scores
    from msdk.extractors.base import Extractor

evaluation = App(name="evaluate")

Of = Annotated[str | None, Parameter(help="What makes features: digits, inception, dinov2, or one of a plugin.")]


@evaluation.default
def evaluate(
    run: list[Path],
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
    over: Annotated[
        str | None, Parameter(help="iterations: judge every checkpoint that is kept, and put scores in order.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="With --over, also write the curves: .png, .svg, .html or .md.")] = None,
    force: Force = False,
    device: Device = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Judge the images of a run: draw them, look at them, score them, and tell what made each number.

    What a killed process has looked at is kept: the same command goes on. Scores that are there are shown again.

    Examples: msdk evaluate runs/digits-multistage --images 2000 --metrics fid,precision-recall
    / msdk evaluate runs/mine --samples images.zip
    / msdk evaluate runs/unified runs/multistage --over iterations --out quality.png
    / torchrun --nproc-per-node 2 -m msdk evaluate runs/mine --images 50000

    Parameters
    ----------
    run
        Run folders that `msdk train` or `msdk run` made.
    """
    from msdk.evaluation import Asked

    asked = Asked(
        metrics=_names(metrics),
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
    )
    if over is not None or out is not None:
        for option, given in (("--checkpoint", checkpoint), ("--samples", samples), ("--name", name)):
            if given is not None:
                raise MsdkError(f"{option} is of one evaluation, and --over iterations judges every checkpoint")
        _over(run, over, out, asked, overrides, device, force=force, as_json=as_json)
        return
    from msdk.evaluation import evaluate_asked, sampled_as

    found: list[Scores] = []
    for each in run:
        recipe = sampled_as(each, overrides or ())
        with interruptible(lambda: _kept(each)), _bar() as report:  # noqa: B023  called before the next one
            scores = evaluate_asked(each, asked, recipe, name=name, device=device, force=force, progress=report)
        found.append(scores)
        if this_rank().first and not as_json:
            _show(scores, each)
    if as_json and this_rank().first:
        told = [scores.as_json() for scores in found]
        display.print_json(told[0] if len(run) == 1 else told)


def _names(metrics: str | None) -> list[str] | None:
    return None if metrics is None else [each.strip() for each in metrics.split(",") if each.strip()]


def _kept(run: Path) -> str:
    return f"what was looked at is kept in {run / 'evaluations'}; the same command goes on"


def _bar() -> AbstractContextManager[Any]:
    """A progress bar in the first process."""
    return display.bar() if this_rank().first else contextlib.nullcontext(lambda *_: None)


def _show(scores: "Scores", run: Path) -> None:
    from msdk.report.scores import scores_grid

    display.show(scores_grid(scores))
    display.say(f"written: {run / 'evaluations' / scores.name}.json")


def _over(
    runs: list[Path],
    over: str | None,
    out: Path | None,
    asked: "Asked",
    overrides: list[str] | None,
    device: str | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Scores of all checkpoints."""
    if over != "iterations":
        raise MsdkError("scores are put in order by --over iterations, which has FLOPs beside them; --out is of that")
    if out is not None and out.exists() and not force:
        raise RunError(f"{out} exists: give another name, or --force to replace it")
    from msdk.evaluation import curves

    with together(this_rank()) as group, _bar() as report:
        found = curves(runs, asked, overrides=overrides or (), device=device, group=group, progress=report)
    if not this_rank().first:
        return
    from msdk.recipe.results import to_json
    from msdk.report.scores import curves_file, curves_grid

    if out is not None:
        from msdk.runs.files import write_bytes

        write_bytes(out, curves_file(found, out.suffix))
    if as_json:
        display.print_json(to_json(found))
        return
    display.show(curves_grid(found))
    if out is not None:
        display.say(f"written: {out}")


@evaluation.command
def swap(
    candidate: Path,
    reference: Path,
    /,
    *,
    stage: Annotated[int | None, Parameter(help="Where the candidate draws; 0 has the least noise.")] = None,
    interval: Annotated[
        tuple[float, float] | None, Parameter(help="LOW HIGH in ratio, in the place of a stage.")
    ] = None,
    all_checkpoints: Annotated[
        bool, Parameter(name="--all", negative="", help="Judge all checkpoints of the candidate that are kept.")
    ] = False,
    metrics: Annotated[str | None, Parameter(help="Names with commas.")] = None,
    extractor: Of = None,
    images: int | None = None,
    repeats: Annotated[int | None, Parameter(help="Ranges of seeds, whose spread is told.")] = None,
    checkpoint: int | None = None,
    seed: Annotated[int | None, Parameter(help="The first seed.")] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Judge images that a candidate draws inside one stage and a reference elsewhere: the paper's Figure 2.

    Examples: msdk evaluate swap runs/digits-multistage runs/digits-unified --stage 0 --images 2000 --all

    Parameters
    ----------
    candidate
        The run folder whose stage is judged.
    reference
        The run folder that draws the rest; both have one schedule.
    images
        Generated images; 50,000 by default.
    checkpoint
        Of the candidate; the newest one by default.
    """
    from msdk.evaluation import Asked
    from msdk.evaluation import swap as swapped

    asked = Asked(
        metrics=_names(metrics), extractor=extractor, images=images, repeats=repeats, checkpoint=checkpoint, seed=seed
    )
    with interruptible(lambda: _kept(candidate)), _bar() as report:
        found = swapped(
            candidate,
            reference,
            asked,
            stage=stage,
            interval=interval,
            all_checkpoints=all_checkpoints,
            device=device,
            progress=report,
        )
    if not this_rank().first:
        return
    if as_json:
        display.print_json([scores.as_json() for scores in found])
        return
    for scores in found:
        _show(scores, candidate)


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
    with _bar() as report:
        found = looked(
            real,
            wanted,
            split=split,
            device=device,
            progress=lambda done, total: report("looking at real images", done, total),
        )
    if not this_rank().first:
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
