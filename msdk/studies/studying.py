"""`msdk.study`: a study file to its result."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from msdk.arguments import as_annotated
from msdk.distributed import Group, this_rank, together
from msdk.studies.collecting import collect, refuse_another, write_result
from msdk.studies.files import load_study
from msdk.studies.planning import Plan, Trial, plan, share
from msdk.studies.results import StudyResult
from msdk.studies.running import Watcher, make
from msdk.studies.scoring import compared, score, stages_by


@as_annotated
def study(
    file: str | Path,
    out: str | Path | None = None,
    *,
    size: str | None = None,
    seeds: Sequence[int] | None = None,
    over: Sequence[str] = (),
    overrides: Sequence[str] = (),
    runs: str | Path | None = None,
    budget: str | None = None,
    device: str | None = None,
    retry: bool = False,
    watcher: Watcher | None = None,
) -> StudyResult:
    """Trains what a study names and nobody has trained yet, and tells what was found.

    Args:
        file: The study file.
        out: Its folder; studies/NAME-SIZE when not given.
        size: Which of its sizes.
        seeds: Three or more, in the place of the file's.
        over: Grids besides the file's: "key=[a, b]" for all arms, "ARM:key=[a, b]" for one.
        overrides: "key=value" for the recipes of all arms.
        runs: A folder of run folders that several studies share; the study has its own when not given.
        budget: Most training FLOPs of all trials: "2E".
        device: Where to train; CUDA where there is one when not given.
        retry: Whether trials that have failed are tried again.
        watcher: Told what happens.

    Returns:
        What was found, which is also in study.json of the folder.

    Raises:
        MsdkError: The study, a recipe or the data are wrong. A trial that fails is told in the result.
    """
    loaded = load_study(file, size, seeds=seeds, over=over, overrides=overrides, budget=budget)
    place = Path(out) if out is not None else default_folder(Path(file), loaded.study.size)
    if runs is not None:
        share(place, Path(runs))
    refuse_another(place, Path(file))
    with together(this_rank()) as group:
        priced = group.agreed(lambda: plan(loaded, device=device))
        trials = group.agreed(priced.trials)
        make(trials, place, device=device, retry=retry, group=group, watcher=watcher)
        if group.rank.first:
            score(priced, trials, place, device=device, warned=None if watcher is None else watcher.warned)
        return concluded(priced, trials, place, Path(file), group)


def concluded(
    priced: Plan, trials: Sequence[Trial], folder: Path, file: Path, group: Group | None = None
) -> StudyResult:
    """What was found so far; the first process writes it into the folder.

    Args:
        priced: The study.
        trials: Its trials.
        folder: Of the study.
        file: The study file.
        group: The processes that trained together.
    """
    group = group or Group()
    group.wait()
    result = collect(priced, trials, folder, file)
    result = attrs.evolve(result, scores=compared(priced, trials, folder), stages_by=stages_by(priced))
    if group.rank.first:
        write_result(folder, result)
    return result


def default_folder(file: Path, size: str) -> Path:
    """Where a study is unless told: studies/NAME-SIZE."""
    return Path("studies") / (f"{file.stem}-{size}" if size else file.stem)
