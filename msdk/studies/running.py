"""Trials are made one after the other, each by whoever comes first, on any number of machines that see the folder."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from msdk.clustering import kept_clusters
from msdk.distributed import Group
from msdk.errors import ElsewhereError, FullError, GoneError, MsdkError, RunError
from msdk.evaluation.evaluating import judging
from msdk.registry.faults import fault_in
from msdk.runs.files import write_text
from msdk.runs.writer import one_writer, written_by
from msdk.studies.collecting import FAILED, state_of
from msdk.studies.extending import extend
from msdk.studies.planning import Trial
from msdk.training import Step
from msdk.training.beginning import train_here

POLL = 1.0
"""Seconds between looks at trials that other processes make."""


@attrs.frozen
class Watcher:
    """What a study tells while it works; every hook may do nothing.

    Attributes:
        began: A trial, and whether it goes on from a checkpoint.
        trained: After every training step.
        ended: A trial, and its state.
        failed: A trial, and why.
        waiting: Trials that other processes make, for which this one waits now.
        warned: Sentences of training.
    """

    began: Callable[[Trial, bool], None] = lambda trial, resumed: None
    trained: Callable[[Trial, Step], None] = lambda trial, step: None
    ended: Callable[[Trial, str], None] = lambda trial, state: None
    failed: Callable[[Trial, str], None] = lambda trial, problem: None
    waiting: Callable[[Sequence[Trial]], None] = lambda trials: None
    warned: Callable[[str], None] = lambda text: None


def make(
    trials: Sequence[Trial],
    folder: Path,
    *,
    device: str | None = None,
    retry: bool = False,
    wait: bool = True,
    group: Group | None = None,
    watcher: Watcher | None = None,
    more: Callable[[], Sequence[Trial]] | None = None,
) -> int:
    """Trains every trial that nobody has trained: one that was stopped goes on, one in another's hands is left.

    The first process of torchrun decides, and all train together.

    Args:
        trials: Of a study.
        folder: Of the study.
        device: Where to train.
        retry: Whether trials that have failed are tried again.
        wait: Whether to wait until other processes have made theirs, and to go on with what they leave.
        group: The processes that train together; this one alone when not given.
        watcher: Told what happens.
        more: All trials that are known by now, where results lead to others; all processes of the group call it.

    Returns:
        The signal that ended it; 0 where all that can be done is done.
    """
    group, watcher = group or Group(), watcher or Watcher()
    first, tried, told = group.rank.first, set[int](), False
    while True:
        others: list[Trial] = []
        for trial in trials:
            state = state_of(folder, trial)[0] if first else "new"
            wanted = state in ("new", "stopped", "training") or (
                state == "failed" and retry and trial.number not in tried
            )
            if group.any(first and not wanted):
                continue
            tried.add(trial.number)
            interrupted = _made(trial, folder, device, group, watcher, again=state == "failed")
            if interrupted is None:
                others.append(trial)
            elif interrupted:
                return interrupted
        known = trials
        trials = known if more is None else more()
        if len(trials) > len(known):
            continue
        if not others or not wait:
            return 0
        if not told:
            watcher.waiting(others)
            told = True
        time.sleep(POLL)


def _made(trial: Trial, folder: Path, device: str | None, group: Group, watcher: Watcher, *, again: bool) -> int | None:
    """Trains a trial: 0 where that is done or failed, the signal that ended it, None where another process has it.

    One that has failed is trained where `again` says so; else it has failed in another process just now.
    """
    run, first = trial.run(folder), group.rank.first
    failed = run.with_name(run.name + FAILED)
    mine = one_writer(run)
    taken = False
    if first:
        try:
            mine.__enter__()
        except RunError:
            if not written_by(run):  # it cannot be written
                raise
            taken = True
    if group.any(taken):
        return None
    try:
        state = state_of(folder, trial)[0] if first else "new"
        if group.any(first and (state == "done" or (state == "failed" and not again))):  # another process was faster
            return 0
        if first:
            failed.unlink(missing_ok=True)
            goes_on = state == "stopped" or (state == "new" and not run.exists() and extend(folder, trial) > 0)
            watcher.began(trial, goes_on)
        try:
            result = train_here(
                trial.recipe,
                run,
                device=device,
                resume=True,
                progress=lambda step: watcher.trained(trial, step),
                warn=watcher.warned,
                furnish=lambda place: kept_clusters(place, trial.variant.clusters),
                judge=group.agreed(lambda: judging(trial.recipe, device)),
                group=group,
            )
        except (GoneError, FullError, BrokenPipeError):  # no trial's fault, and the next ones would fail as well
            raise
        except Exception as error:
            if isinstance(error, ElsewhereError):
                return 0  # the process where it went wrong tells it
            if not isinstance(error, (MsdkError, OSError)) and fault_in(error) is None:
                raise
            problem = str(error) or type(error).__name__
            if first:
                write_text(failed, problem + "\n")
            watcher.failed(trial, problem)
            return 0
        if result.interrupted:
            return result.interrupted
        if first:
            watcher.ended(trial, "done")
        return 0
    finally:
        if first and not taken:
            mine.__exit__(None, None, None)
