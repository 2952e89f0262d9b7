"""`msdk run`: cluster if needed, budget, train, sample, report."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from msdk.arguments import as_annotated
from msdk.browsing import lines_of, summary
from msdk.budgeting import Budget, budget
from msdk.budgeting.ledger import ledger
from msdk.clustering import Clusters, clusters_in, with_edges
from msdk.distributed import this_rank, together
from msdk.errors import PartError, PlotError, RecipeError
from msdk.evaluation import evaluate_here, scores_of, task_of
from msdk.recipe import Recipe, load_recipe, recipe_of
from msdk.recipe.differences import compare
from msdk.recipe.structuring import to_data
from msdk.report import RunReport, losses_plot, run_markdown
from msdk.report.page import budgets_page
from msdk.running.readying import Ready, readied
from msdk.runs.files import sweep, write_bytes, write_text
from msdk.sampling.drawing import write_samples
from msdk.training import Step, TrainingResult


@attrs.frozen
class Watcher:
    """What a run tells while it works; every hook may do nothing.

    Attributes:
        clustering: (strategy, done, total).
        clustered: The edges found.
        budgeted: Budgets of the recipes to compare, the run's own last.
        trained: After every training step.
        sampled: (intervals done, intervals in all).
        evaluated: (what is done, images done, images in all).
        warned: What is different where training goes on, in sentences, see `msdk.train`.
    """

    clustering: Callable[[str, int, int], None] = lambda name, done, total: None
    clustered: Callable[[Clusters], None] = lambda clusters: None
    budgeted: Callable[[Sequence[Budget]], None] = lambda budgets: None
    trained: Callable[[Step], None] = lambda step: None
    sampled: Callable[[int, int], None] = lambda done, total: None
    evaluated: Callable[[str, int, int], None] = lambda what, done, total: None
    warned: Callable[[str], None] | None = None


@as_annotated
def run(
    recipe: Recipe | str | Path,
    run_dir: str | Path,
    *,
    name: str = "",
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    cache: bool = True,
    force_data: bool = False,
    watcher: Watcher | None = None,
) -> TrainingResult:
    """Everything from a recipe to images and a report, in one run folder.

    The processes of torchrun share the clustering, the training and the sampling; the first one alone counts budgets,
    writes, and tells the watcher.

    Args:
        recipe: What to run: a recipe, or the file of one.
        run_dir: The run folder.
        name: What to call the recipe in tables.
        device: Where to train and sample; CUDA where there is one when not given.
        resume: Go on in an existing folder, with the edges found there, where it stopped: in training, in sampling or
            before the report; begin where there is no checkpoint.
        force: Replace an existing run folder.
        cache: Whether to take edges that were found before for the same data and settings.
        force_data: Go on although the data are not those that the run was trained on.
        watcher: Told what happens.

    Returns:
        What training left behind. If it was interrupted, nothing was sampled.

    Raises:
        MsdkError: As the single verbs do.
    """
    place, watcher, loaded = Path(run_dir), watcher or Watcher(), recipe_of(recipe)
    with together(this_rank()) as group:
        told = watcher if group.rank.first else Watcher(warned=watcher.warned)
        others = [_compared(path) for path in loaded.budget.compare]  # what is wrong with them is told first
        with readied(
            loaded, place, group, device=device, resume=resume, force=force, cache=cache, progress=told.clustering
        ) as ready:
            return _run(loaded, others, ready, name, told, force_data=force_data, cache=cache)


def _run(
    loaded: Recipe,
    others: Sequence[Recipe],
    ready: Ready,
    name: str,
    watcher: Watcher,
    *,
    force_data: bool,
    cache: bool,
) -> TrainingResult:
    recipe, place, device, group = ready.recipe, ready.place, ready.device, ready.group
    first = group.rank.first
    if ready.clusters is not None:
        watcher.clustered(ready.clusters)
    like = [(loaded, recipe)]
    for other in others:
        like.append((other, with_edges(other, device=device, like=like, cache=cache, progress=watcher.clustering)[0]))
    beside = [ready for _, ready in like[1:]]

    def counted() -> list[Budget]:
        of_others = [
            budget(other, convention=recipe.budget.convention, name=path.stem)
            for other, path in zip(beside, loaded.budget.compare, strict=True)
        ]
        return [*of_others, budget(recipe, name=name)]

    budgets = group.agreed(lambda: counted() if first else [])
    watcher.budgeted(budgets)
    result = ready.train(force_data=force_data, progress=watcher.trained, warn=watcher.warned)
    if result.interrupted:
        return result
    started = time.perf_counter()
    write_samples(place, recipe, device=device, replace=True, keep=ready.resume, progress=watcher.sampled)
    if recipe.evaluation is not None:
        task = group.agreed(lambda: task_of(place))
        evaluate_here(task, group, device=device, progress=watcher.evaluated)
    if first:
        _write_reports(place, [*beside, recipe], clusters_in(place), budgets, result, time.perf_counter() - started)
    return result


def _compared(path: Path) -> Recipe:
    """A recipe to compare with, which its `budget.compare` names."""
    try:
        return load_recipe(path)
    except RecipeError as error:
        raise PartError(f"budget.compare names a recipe that cannot be compared with: {error}") from error


def _write_reports(
    place: Path,
    recipes: Sequence[Recipe],
    clusters: Clusters | None,
    budgets: Sequence[Budget],
    result: TrainingResult,
    sampling_seconds: float,
) -> None:
    """Writes report.md and report.html; the run's own recipe and budget are the last."""
    recipe, told = recipes[-1], summary(place)
    first, count = recipe.sampling.seed, recipe.sampling.images
    exact = budgets[-1] if budgets[-1].convention == "exact" else budget(recipe, convention="exact")
    seen, expected = result.images_by_stage, result.expected_by_stage or None
    spent = ledger(exact, seen, result.last.iteration, recipe, result.watched, expected)
    for name in ("losses.png", "report.md", "report.html"):
        sweep(place / name)  # of a process that was killed while it wrote one
    lines = lines_of(place)
    with contextlib.suppress(PlotError):  # without matplotlib there are no plots
        write_bytes(place / "losses.png", losses_plot(lines, "png"))
    pictures = ("samples/grid.png", "losses.png", "clustering.png")
    report = RunReport(
        title=recipe.title or place.name,
        budgets=budgets,
        ledger=spent,
        clusters=clusters,
        iterations=result.last.iteration,
        seconds=result.seconds,
        loss_by_stage=[None if loss != loss else loss for loss in result.last.loss_by_stage],
        held_out_loss_by_stage=told.held_out_loss_by_stage or None,
        lines=lines,
        sampling={
            "images": count,
            "sampler": to_data(recipe.sampler)["name"],
            "steps": recipe.steps,
            "seconds": sampling_seconds,
            "first_seed": first,
            "last_seed": first + count - 1,
        },
        scores=scores_of(place),
        settings=(place / "recipe.toml").read_text(encoding="utf-8"),
        pictures={name: (place / name).read_bytes() for name in pictures if (place / name).is_file()},
    )
    write_text(place / "report.md", run_markdown(report))
    diffs = [[one.as_json() for one in compare(recipes[0], other)] for other in recipes[1:]]
    write_text(place / "report.html", budgets_page(budgets, diffs=diffs, ledger=spent, run=report))
