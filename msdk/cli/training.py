"""`msdk train` and `msdk run`."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from msdk.cli import display
from msdk.cli.options import (
    AsJson,
    Cache,
    Device,
    Force,
    ForceData,
    Resume,
    RunFolder,
    Set,
    default_run_dir,
    interruptible,
    kept_of_run,
    load,
    tell_edges,
)
from msdk.distributed import restarted, this_rank, together

if TYPE_CHECKING:
    from msdk.training import TrainingResult


def train(
    recipe: Path,
    /,
    *,
    out: RunFolder = None,
    resume: Resume = False,
    force: Force = False,
    force_data: ForceData = False,
    device: Device = None,
    cache: Cache = True,
    overrides: Set = None,
    as_json: AsJson = False,
) -> int:
    """Train a recipe in a run folder. Ctrl-C saves a checkpoint and exits; --resume goes on.

    Examples: msdk train recipes/digits/multistage.toml --out runs/first --set training.iterations=500
              torchrun --nproc-per-node 4 -m msdk train recipes/cifar10/dpm-multistage.toml

    Parameters
    ----------
    recipe
        A TOML file; or a run folder, to go on with it by --resume.
    """
    place, rank = out or default_run_dir(recipe), this_rank()
    with interruptible(kept_of_run(place)), together(rank) as group, contextlib.ExitStack() as opened:
        loaded = group.agreed(lambda: load(recipe, overrides))
        _tell_of_a_restart(place)
        from msdk.recipe import cautions
        from msdk.running import readied

        with display.bar(quiet=not rank.first) as report:
            ready = opened.enter_context(
                readied(loaded, place, group, device=device, resume=resume, force=force, cache=cache, progress=report)
            )
        tell_edges(ready.clusters)
        for sentence in cautions(ready.recipe) if rank.first else ():
            display.warn(sentence)
        with display.training_display() if rank.first else contextlib.nullcontext() as watch:
            result = ready.train(force_data=force_data, progress=watch, warn=display.warn)
    if not rank.first:
        return 128 + result.interrupted if result.interrupted else 0
    for sentence in result.warnings:
        display.warn(sentence)
    if as_json:
        display.print_json(_as_json(result))
    if result.interrupted:
        return _interrupted(result)
    if not as_json:
        display.say(f"trained {result.last.iteration:,} iterations; run folder {place}")
        for sentence in result.stops:
            display.say(sentence)
        if result.reading:
            display.say(result.reading)
        display.hint("sample", place)
    return 0


def run_all(
    recipe: Path,
    /,
    *,
    out: RunFolder = None,
    resume: Resume = False,
    force: Force = False,
    force_data: ForceData = False,
    device: Device = None,
    cache: Cache = True,
    overrides: Set = None,
) -> int:
    """Do everything: cluster if needed, budget, train, sample, report.

    With torchrun, processes share the work: torchrun --nproc-per-node 2 -m msdk run R

    Examples: msdk run recipes/digits/multistage.toml

    Parameters
    ----------
    recipe
        A TOML file; or a run folder, to go on with it by --resume.
    """
    place, rank = out or default_run_dir(recipe), this_rank()
    with interruptible(kept_of_run(place)), together(rank) as group:
        loaded = group.agreed(lambda: load(recipe, overrides))
        _tell_of_a_restart(place)
        from msdk.budgeting import Budget
        from msdk.recipe import cautions
        from msdk.report import comparison_grid, stages_grid
        from msdk.running import Watcher
        from msdk.running.everything import run as run_recipe

        def budgeted(budgets: "list[Budget]") -> None:
            display.show(comparison_grid(budgets), stages_grid(budgets[-1]))

        for sentence in cautions(loaded) if rank.first else ():
            display.warn(sentence)
        with display.bar(quiet=not rank.first) as report, display.training_display() as watch:
            watcher = Watcher(
                clustering=report,
                clustered=display.show_clusters,
                budgeted=lambda budgets: budgeted(list(budgets)),
                trained=watch,
                sampled=lambda done, total: report("sampling", done, total),
                evaluated=report,
                warned=display.warn,
            )
            result = run_recipe(
                loaded,
                place,
                name=recipe.name if recipe.is_dir() else recipe.stem,
                device=device,
                resume=resume,
                force=force,
                force_data=force_data,
                cache=cache,
                watcher=watcher,
            )
    if not rank.first:
        return 128 + result.interrupted if result.interrupted else 0
    for sentence in result.warnings:
        display.warn(sentence)
    if result.interrupted:
        return _interrupted(result)
    for sentence in result.stops:
        display.say(sentence)
    sheet = place / "samples" / "grid.png"  # what is no picture has none
    seen = sheet if sheet.is_file() else sheet.parent
    display.say(f"done: look at {seen} and {place / 'report.html'}")
    return 0


def _tell_of_a_restart(place: Path) -> None:
    """Says where a run goes on that torchrun has started anew."""
    times = restarted()
    if times and this_rank().first:
        from msdk.runs import checkpoints

        found = checkpoints(place)
        where = f"the run goes on from {found[-1]}" if found else "nothing was saved yet, and the run begins anew"
        display.warn(f"torchrun has started the processes again ({times}): {where}")


def _as_json(result: "TrainingResult") -> dict[str, object]:
    return {
        "folder": str(result.run_dir),
        "iterations": result.last.iteration,
        "interrupted": bool(result.interrupted),
        "seconds": result.seconds,
        "images_by_stage": list(result.images_by_stage),
        "loss_by_stage": [None if loss != loss else loss for loss in result.last.loss_by_stage],
    }


def _interrupted(result: "TrainingResult") -> int:
    """Says where an interrupted run was saved; the exit code of its signal."""
    display.warn(f"interrupted: saved at iteration {result.last.iteration} in {result.run_dir}; --resume goes on")
    return 128 + result.interrupted
