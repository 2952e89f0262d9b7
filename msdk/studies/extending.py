"""A trial goes on from a shorter one of the same recipe: what that trained are the first steps of its own."""

import shutil
from pathlib import Path

import attrs

from msdk.errors import MsdkError
from msdk.recipe import Recipe
from msdk.runs.files import written_whole
from msdk.runs.folder import checkpoints, run_recipe, write_recipe
from msdk.runs.lock import read_lock
from msdk.runs.writer import written_by
from msdk.studies.addresses import RUNS, address_by
from msdk.studies.planning import Trial
from msdk.training.step import learning_rate

OF_ITS_END = ("samples*", "losses.png", "report.*", ".*.tmp")
"""What a run folder has that is drawn or told of its last weights: not copied."""


def extend(folder: Path, trial: Trial) -> int:
    """Makes the run folder of a trial from that of a shorter one, which stays as it is.

    Training 2N steps equals training N and going on for N more, bit for bit, wherever no step knows how many there
    will be. The folder appears whole or not at all.

    Args:
        folder: Of the study.
        trial: One that has no run yet. Only one process may do this for it at a time.

    Returns:
        The iterations that are trained already; 0 where no run can be gone on from, and no folder was made.
    """
    run = trial.run(folder)
    found = [
        (done, each)
        for each in (folder / RUNS).glob("*/")
        if (done := _first_steps(each, trial)) and not written_by(each)
    ]
    if not found:
        return 0
    done, shorter = max(found)
    with written_whole(run) as temporary:
        shutil.copytree(shorter, temporary, ignore=shutil.ignore_patterns(*OF_ITS_END))
        write_recipe(temporary, trial.recipe)
    return done


def _first_steps(run: Path, trial: Trial) -> int:
    """How many of the first steps of a trial a run is, which is done; 0 where it is another one."""
    try:
        made, locked, kept = run_recipe(run), read_lock(run), checkpoints(run)
    except MsdkError:  # no run, or one that is damaged
        return 0
    steps, wanted = made.training.iterations, trial.recipe.training.iterations
    if not kept or int(kept[-1].name) != steps or steps >= wanted:
        return 0
    longer = attrs.evolve(made, training=attrs.evolve(made.training, iterations=wanted))
    same = run.name.endswith(address_by(made, locked)) and trial.name.endswith(address_by(longer, locked))
    return steps if same and _trains_alike(made, longer) else 0


def _trains_alike(shorter: Recipe, longer: Recipe) -> bool:
    """Whether the steps of one are those of the other, which is longer and else the same.

    They are not where rates fall to the end, where a curriculum's turns follow from it, and where training may stop.
    """
    rates = (
        learning_rate(shorter.training, step) == learning_rate(longer.training, step)
        for step in range(shorter.training.iterations)
    )
    return longer.training.stop is None and shorter.stage_draw == longer.stage_draw and all(rates)
