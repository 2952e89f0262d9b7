"""`msdk.study`: a study file to its result."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from msdk.arguments import as_annotated
from msdk.distributed import this_rank, together
from msdk.errors import RunError
from msdk.studies.addresses import share
from msdk.studies.collecting import collect, refuse_another, write_result
from msdk.studies.files import load_study
from msdk.studies.planning import Trial, plan
from msdk.studies.results import StudyResult
from msdk.studies.running import Watcher, make
from msdk.studies.scoring import compared, score, stages_by
from msdk.studies.searching import Searching
from msdk.studies.tuning import counting


@as_annotated
def study(
    file: str | Path,
    out: str | Path | None = None,
    *,
    size: str | None = None,
    seeds: Sequence[int] | None = None,
    over: Sequence[str] = (),
    overrides: Sequence[str] = (),
    best_of: Sequence[str] = (),
    only: Sequence[str] = (),
    runs: str | Path | None = None,
    budget: str | float | None = None,
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
        best_of: Keys of grids for all arms that these are tuned by, besides the file's.
        only: Arms that the baseline is compared with; all of them when not given.
        runs: A folder of run folders that several studies share; the study has its own when not given.
        budget: Most training FLOPs of all trials: "2E", or a number.
        device: Where to train; CUDA where there is one when not given.
        retry: Whether trials that have failed are tried again.
        watcher: Told what happens.

    Returns:
        What was found, which is also in study.json of the folder.

    Raises:
        MsdkError: The study, a recipe or the data are wrong. A trial that fails is told in the result.
        RunError: It was interrupted.
    """
    loaded = load_study(
        file, size, seeds=seeds, over=over, overrides=overrides, best_of=best_of, budget=budget, only=only
    )
    place = Path(out) if out is not None else default_folder(Path(file), loaded.study.size)
    if runs is not None:
        share(place, Path(runs))
    refuse_another(place, Path(file))
    with together(this_rank()) as group:
        whole = group.agreed(lambda: plan(loaded, device=device))
        whole.refuse_alone()
        searching = Searching(whole, place, group)
        trials = searching.trials()
        interrupted = make(
            trials, place, device=device, retry=retry, group=group, watcher=watcher, more=searching.trials
        )
        if interrupted:
            raise RunError(f"interrupted: what was trained is kept in {place}, and the same call goes on")
        if group.rank.first:
            chosen = that_count(searching, Path(file))
            score(searching.plan, chosen, place, device=device, warned=None if watcher is None else watcher.warned)
        return concluded(searching, Path(file))


def concluded(searching: Searching, file: Path, *, keep: bool = True) -> StudyResult:
    """What was found so far; the first process writes it into the folder, and all call this.

    Args:
        searching: The study, with what its search has come to.
        file: The study file.
        keep: Whether it is written.
    """
    searching.group.wait()
    trials = searching.trials()
    plan, folder = searching.plan, searching.folder
    result = collect(plan, trials, folder, file, unknown=searching.unknown)
    scores = compared(plan, counting(trials, result.tuning), folder, result.baseline)
    result = attrs.evolve(result, scores=scores, stages_by=stages_by(plan))
    if keep and searching.group.rank.first:
        write_result(folder, result)
    return result


def that_count(searching: Searching, file: Path) -> list[Trial]:
    """The trials that are known whose scores are told: of arms that are tuned, those of the settings that count."""
    return counting(searching.known, collect(searching.plan, searching.known, searching.folder, file).tuning)


def default_folder(file: Path, size: str) -> Path:
    """Where a study is unless told: studies/NAME-SIZE."""
    return Path("studies") / (f"{file.stem}-{size}" if size else file.stem)
