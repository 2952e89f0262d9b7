"""`msdk run`: cluster if needed, budget, train, sample, report."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from msdk.budgeting import Budget, budget
from msdk.budgeting.ledger import ledger
from msdk.clustering import Clusters, cluster, write_clusters
from msdk.partition import Partition
from msdk.recipe import Recipe, load_recipe
from msdk.recipe.differences import compare
from msdk.recipe.structuring import to_data
from msdk.report import run_markdown
from msdk.report.page import budgets_page
from msdk.runs import refuse_existing, refuse_other_recipe, run_recipe
from msdk.runs.files import write_text
from msdk.sampling.drawing import write_samples
from msdk.training import Step, TrainingResult, train


@attrs.frozen
class Watcher:
    """What a run tells while it works; every hook may do nothing.

    Attributes:
        clustering: (strategy, done, total).
        clustered: The edges found.
        budgeted: Budgets of the recipes to compare, the run's own last.
        trained: After every training step.
        sampled: (intervals done, intervals in all).
    """

    clustering: Callable[[str, int, int], None] = lambda name, done, total: None
    clustered: Callable[[Clusters], None] = lambda clusters: None
    budgeted: Callable[[Sequence[Budget]], None] = lambda budgets: None
    trained: Callable[[Step], None] = lambda step: None
    sampled: Callable[[int, int], None] = lambda done, total: None


def run(
    recipe: Recipe,
    run_dir: str | Path,
    *,
    name: str = "",
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    watcher: Watcher | None = None,
) -> TrainingResult:
    """Everything from a recipe to images and a report, in one run folder.

    Args:
        recipe: What to run.
        run_dir: The run folder.
        name: What to call the recipe in tables.
        device: Where to train and sample; CUDA where there is one when not given.
        resume: Go on in an existing folder, with the edges found there.
        force: Replace an existing run folder.
        watcher: Told what happens.

    Returns:
        What training left behind. If it was interrupted, nothing was sampled.

    Raises:
        MsdkError: As the single verbs do.
    """
    place, watcher = Path(run_dir), watcher or Watcher()
    if not resume:
        refuse_existing(place, force=force)
    clusters = None
    if recipe.clustered and resume:
        recipe = recipe.with_partition(run_recipe(place).partition())
    elif recipe.clustered:
        clusters = cluster(recipe, progress=watcher.clustering, device=device)
        watcher.clustered(clusters)
    edges = clusters.partition() if clusters is not None else recipe.partition()
    beside = [_recipe_beside(recipe, path, edges) for path in recipe.budget.compare]
    convention = recipe.budget.convention
    budgets = [
        budget(other, convention=convention, name=path.stem)
        for other, path in zip(beside, recipe.budget.compare, strict=True)
    ]
    recipe = recipe.with_partition(edges)
    budgets.append(budget(recipe, name=name))
    watcher.budgeted(budgets)
    if resume:
        refuse_other_recipe(place, recipe)
    result = train(recipe, place, device=device, resume=resume, force=force, progress=watcher.trained)
    if clusters is not None:
        write_clusters(place / "clustering.json", clusters)
    if result.interrupted:
        return result
    started = time.perf_counter()
    write_samples(place, recipe, device=device, progress=watcher.sampled)
    _write_reports(place, [*beside, recipe], clusters, budgets, result, time.perf_counter() - started)
    return result


def _recipe_beside(recipe: Recipe, path: Path, edges: Partition) -> Recipe:
    """A recipe to compare with, its edges known; like clusterings share edges."""
    other = load_recipe(path)
    if not other.clustered:
        return other
    same = (other.stages, other.data, other.schedule) == (recipe.stages, recipe.data, recipe.schedule)
    return other.with_partition(edges if same else cluster(other).partition())


def _write_reports(
    place: Path,
    recipes: Sequence[Recipe],
    clusters: Clusters | None,
    budgets: Sequence[Budget],
    result: TrainingResult,
    sampling_seconds: float,
) -> None:
    """Writes report.md and report.html; the run's own recipe and budget are the last."""
    recipe = recipes[-1]
    first, count = recipe.sampling.seed, recipe.sampling.images
    exact = budgets[-1] if budgets[-1].convention == "exact" else budget(recipe, convention="exact")
    spent = ledger(exact, result.images_by_stage, result.last.iteration, recipe)
    text = run_markdown(
        title=recipe.title or place.name,
        clusters=clusters,
        budgets=budgets,
        training={
            "iterations": result.last.iteration,
            "seconds": result.seconds,
            "images_per_second": sum(result.images_by_stage) / max(result.seconds, 1e-9),
            "loss_by_stage": [None if loss != loss else loss for loss in result.last.loss_by_stage],
        },
        ledger=spent,
        sampling={
            "images": count,
            "sampler": to_data(recipe.sampler)["name"],
            "steps": recipe.steps,
            "seconds": sampling_seconds,
            "first_seed": first,
            "last_seed": first + count - 1,
        },
    )
    write_text(place / "report.md", text)
    diffs = [[one.as_json() for one in compare(recipes[0], other)] for other in recipes[1:]]
    write_text(place / "report.html", budgets_page(budgets, diffs=diffs, ledger=spent))
