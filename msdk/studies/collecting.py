"""What the trials of a study have found so far, whoever made them: their looks, and arms against the baseline."""

import contextlib
import datetime
import math
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from msdk import __version__
from msdk.budgeting.ledger import read_seen
from msdk.budgeting.measuring import processor
from msdk.errors import MsdkError, RunError
from msdk.recipe.results import parsed
from msdk.runs.files import write_json
from msdk.runs.folder import checkpoints, run_recipe
from msdk.runs.lock import Lock, read_lock
from msdk.runs.writer import written_by
from msdk.studies.addresses import RUNS, address_by
from msdk.studies.crossing import Crossing, Curves, Estimate, cross
from msdk.studies.planning import Plan, Trial, Variant
from msdk.studies.quality import metric_named
from msdk.studies.results import (
    Account,
    ArmResult,
    Comparison,
    Interval,
    Point,
    Stamp,
    State,
    StudyResult,
    TrialResult,
)
from msdk.studies.tuning import best_of, groups, tunings
from msdk.studies.verdicts import judged, sentence, verdict_of

RESULT = "study.json"

FAILED = ".failed.txt"
"""Ends the name of the file, beside a run folder, that says why its trial failed."""


def state_of(folder: Path, trial: Trial) -> tuple[State, str]:
    """How far a trial is, and why it failed."""
    run = trial.run(folder)
    failed = run.with_name(run.name + FAILED)
    if written_by(run):
        return "training", ""
    if failed.is_file():
        return "failed", failed.read_text(encoding="utf-8", errors="replace").strip()
    if not (run / "recipe.toml").is_file():
        return "new", ""
    found = checkpoints(run)
    if not found:
        return "new", ""
    try:
        made = run_recipe(run)
        if not trial.name.endswith(address_by(made, read_lock(run))):
            wrong = "was made of another recipe, of other data or by another version of msdk than its name says"
            return "failed", f"{run} {wrong}: remove it, and it is trained anew"
        # A run that its own held-out losses ended has its last iteration in the checkpoint as well.
        return ("done" if int(found[-1].name) >= made.training.iterations or _ended(run) else "stopped"), ""
    except MsdkError as error:
        return "failed", str(error)


def _ended(run: Path) -> bool:
    file = run / "ledger.json"
    stopping = read_seen(file).stopping if file.is_file() else None
    return stopping is not None and stopping.ended


def collect(plan: Plan, trials: Sequence[Trial], folder: Path, file: Path, *, unknown: int = 0) -> StudyResult:
    """What the trials of a study have found so far.

    Args:
        plan: The study, priced.
        trials: Its trials.
        folder: Of the study.
        file: The study file, for the record.
        unknown: Settings that a search is still to propose.
    """
    options = plan.study.study
    metric = metric_named(options.metrics[0])
    results = {trial.number: trial_result(folder, trial, options.metrics[0]) for trial in trials}
    arms = tuple(
        _arm(each, [results[trial.number] for trial in trials if trial.variant is each]) for each in plan.variants
    )
    baseline, *others = (best_of([arms[place] for place in places]) for places in groups(plan, arms).values())
    comparisons = tuple(
        found
        for arm in others
        for account in ("training", "paper")
        if (found := _compared(arm, baseline, account, plan, metric.words)) is not None
    )
    done, failed = (sum(trial.state == state for trial in results.values()) for state in ("done", "failed"))
    return StudyResult(
        study=str(file),
        title=options.title,
        question=options.question,
        size=options.size,
        metric=options.metrics[0],
        metric_words=metric.words,
        target=options.target,
        equal=options.equal,
        confidence=options.confidence,
        baseline=baseline.name,
        seeds=options.seeds,
        planned_flops=plan.flops,
        spent_flops=math.fsum(trial.points[-1].flops for trial in results.values() if trial.points),
        arms=arms,
        comparisons=comparisons,
        verdict=verdict_of(
            [each for each in comparisons if each.account == "training"],
            baseline.name,
            len(results) - done - failed + unknown * len(options.seeds),
            failed,
        ),
        stamp=_stamp(folder, trials),
        tuning=tunings(plan, arms),
        unknown=unknown,
    )


def write_result(folder: Path, result: StudyResult) -> None:
    """Writes study.json, whole; of two processes that share the trials, the last one has seen what both made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULT, result.as_json())


def refuse_another(folder: Path, file: Path) -> None:
    """Refuses a folder with the result of another study, which this one would replace.

    Raises:
        RunError: It has one.
    """
    try:
        found = Path(read_result(folder).study)
    except MsdkError:  # there is none, or one that nobody can read
        return
    elsewhere = found.is_file() and file.is_file() and not found.samefile(file)
    if found.name != file.name or elsewhere:
        raise RunError(
            f"{folder} has the result of another study, {found}: choose another --out; what both train alike is "
            "trained once where they share --runs"
        )


def read_result(path: Path) -> StudyResult:
    """The result that study.json, or the folder that holds it, keeps.

    Raises:
        RunError: There is none.
    """
    file = path / RESULT if path.is_dir() else path
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    return parsed(content, file, StudyResult, "the result of a study, as `msdk study` writes it")


def trial_result(folder: Path, trial: Trial, metric: str) -> TrialResult:
    """A trial as it is found; what cannot be read is a failure of its own, and ends no study."""
    state, problem = state_of(folder, trial)
    run, points = trial.run(folder), tuple[Point, ...]()
    try:
        points = _points(run, trial, metric)
    except MsdkError as error:
        state, problem = "failed", problem or str(error)
    if state == "done" and not points:
        state, problem = "failed", f"{run} is trained, and tells of no {metric}: remove it, and it is trained anew"
    return TrialResult(trial.number, trial.seed, f"{RUNS}/{run.name}", state, problem, points)


def _points(run: Path, trial: Trial, metric: str) -> tuple[Point, ...]:
    price = trial.variant.price
    return tuple(
        Point(
            iteration=look.iteration,
            flops=math.fsum(
                seen * (cost + price.autoencoder_flops_per_image)
                for seen, cost in zip(look.images_by_stage, price.flops_per_image, strict=True)
            ),
            paper_macs=look.iteration * price.macs_per_call,
            value=look.value,
            by_stage=look.by_stage,
            seconds=look.seconds,
        )
        for look in metric_named(metric).read(run)
        if len(look.images_by_stage) == len(price.flops_per_image)
    )


def _arm(variant: Variant, trials: Sequence[TrialResult]) -> ArmResult:
    done = [trial for trial in trials if trial.state == "done" and trial.points]
    best = [min(point.value for point in trial.points) for trial in done]
    return ArmResult(
        arm=variant.arm,
        name=variant.name,
        recipe=str(variant.file),
        changes=variant.changes,
        edges_ratio=variant.recipe.partition().edges,
        kept=variant.kept,
        price=variant.price,
        best=statistics.fmean(best) if best else None,
        spread=statistics.stdev(best) if len(best) > 1 else None,
        seconds=statistics.fmean(trial.points[-1].seconds for trial in done) if done else None,
        paper=variant.paper,
        trials=tuple(trials),
    )


def curves_of(arm: ArmResult, account: Account, seeds: Sequence[int] | None = None) -> tuple[Curves, tuple[int, ...]]:
    """The curves of an arm at the iterations that all its finished trials were looked at, and their seeds.

    What was spent is the mean over seeds, which differs by what was drawn alone.
    """
    done = {trial.seed: trial for trial in arm.trials if trial.state == "done" and trial.points}
    chosen = tuple(seed for seed in done if seeds is None or seed in seeds)
    looks = [{point.iteration: point for point in done[seed].points} for seed in chosen]
    common = sorted(set.intersection(*map(set, looks))) if looks else []
    rows = [[each[iteration] for iteration in common] for each in looks]
    spent = [[point.flops if account == "training" else point.paper_macs for point in row] for row in rows]
    shape = (len(rows), len(common))
    quality = np.array([[point.value for point in row] for row in rows], dtype=np.float64).reshape(shape)
    return Curves(np.array(spent, dtype=np.float64).reshape(shape).mean(0) if rows else np.zeros(0), quality), chosen


def _compared(arm: ArmResult, baseline: ArmResult, account: Account, plan: Plan, words: str) -> Comparison | None:
    options = plan.study.study
    seeds = [curves_of(each, account)[1] for each in (arm, baseline)]
    common = tuple(seed for seed in options.seeds if all(seed in each for each in seeds))
    if len(common) < 2:
        return None
    ours, theirs = (curves_of(each, account, common)[0] for each in (arm, baseline))
    if not (ours.quality.size and theirs.quality.size):
        return None
    found: Crossing = cross(ours, theirs, target=options.target, confidence=options.confidence)
    return Comparison(
        name=arm.name,
        account=account,
        seeds=common,
        target=found.target,
        baseline=found.other,
        crossing=_interval(found.crossing),
        ratio=_interval(found.ratio),
        reached=found.reached,
        difference=_interval(found.difference),
        verdict=judged(found),
        sentence=sentence(arm.name, baseline.name, words, found, account, options.confidence, len(common)),
    )


def _interval(found: Estimate) -> Interval:
    return Interval.of(found.value, found.low, found.high)


def _stamp(folder: Path, trials: Sequence[Trial]) -> Stamp:
    locks: list[Lock] = []
    for trial in trials:
        if ((run := trial.run(folder)) / "lock.json").is_file():
            with contextlib.suppress(MsdkError):  # the trial itself is told as failed
                locks.append(read_lock(run))
    return Stamp(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        msdk=__version__,
        python=platform.python_version(),
        torch=tuple(sorted({lock.torch for lock in locks})) or (str(torch.__version__),),
        machine=processor(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        data=tuple(sorted({str(lock.data.get("sha256", "")) for lock in locks})),
    )
