"""`msdk study`."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from msdk.cli import display
from msdk.cli.options import AsJson, Cache, Device, Set, interruptible, seeds_of
from msdk.distributed import this_rank, together
from msdk.errors import MsdkError

if TYPE_CHECKING:
    from msdk.studies import Study, StudyResult
    from msdk.studies.planning import Plan, Trial
    from msdk.studies.searching import Searching

Processes = Annotated[int, Parameter(help="Processes on this machine that share trials and cores.")]
Helps = Annotated[bool, Parameter(negative="", show=False)]
"""Whether this is one of these processes, and not the first: see `msdk.studies.helping`."""


def study(
    study: Path,
    /,
    *,
    size: Annotated[str | None, Parameter(help="Which size of the file; its own default when not given.")] = None,
    out: Annotated[Path | None, Parameter(help="The study's folder; studies/NAME-SIZE by default.")] = None,
    runs: Annotated[
        Path | None, Parameter(help="Folder of run folders that several studies share; of this one alone by default.")
    ] = None,
    budget: Annotated[
        str | None, Parameter(help="Most training FLOPs of all trials: 2E. Arms beyond are left out.")
    ] = None,
    arm: Annotated[
        list[str] | None,
        Parameter(negative="", help="An arm that the baseline is compared with; all by default. May be repeated."),
    ] = None,
    over: Annotated[
        list[str] | None,
        Parameter(
            negative="", help="A grid for all arms, training.lr=[1e-3,3e-3], or one: ARM:decoders.0.channels=[32,48]."
        ),
    ] = None,
    best_of: Annotated[
        list[str] | None,
        Parameter(negative="", help="A key of --over that all arms are tuned by: of each the best value is compared."),
    ] = None,
    seeds: Annotated[str | None, Parameter(help="Three or more: 0-4.")] = None,
    plan: Annotated[bool, Parameter(negative="", help="Show what it will cost, and train nothing.")] = False,
    collect: Annotated[bool, Parameter(negative="", help="Tell what was found so far, and train nothing.")] = False,
    to_print: Annotated[
        bool, Parameter(name="--print", negative="", help="List the commands that make the trials, one a line.")
    ] = False,
    trial: Annotated[int | None, Parameter(help="Make the trial of this number alone, for arrays of jobs.")] = None,
    retry: Annotated[bool, Parameter(negative="", help="Try trials again that have failed.")] = False,
    processes: Processes = 1,
    helps: Helps = False,
    gpu: Annotated[str | None, Parameter(help="Hours on a card that is not at hand: h100, a100-80, ...")] = None,
    utilisation: Annotated[float | None, Parameter(help="Share of its peak that training is taken to reach.")] = None,
    measure: Annotated[bool, Parameter(negative="", help="Hours as measured on --device.")] = False,
    memory: Annotated[bool, Parameter(negative="", help="Simulate the memory of a training step.")] = False,
    device: Device = None,
    cache: Cache = True,
    overrides: Set = None,
    as_json: AsJson = False,
) -> int:
    """Train recipes against each other with several seeds, and tell which needs less to be as good.

    All is priced first. Trials are plain run folders; what is there is not trained again, and several of these
    commands share one folder. Ctrl-C keeps what was trained; the same command goes on.

    Examples: msdk study recipes/studies/fig1d.toml
    / msdk study recipes/studies/widths.toml --plan --gpu h100 --size paper
    / msdk study S.toml --over multistage:decoders.0.channels=[32,48,64] --budget 100T
    / msdk study S.toml --arm lean --over training.lr=[1e-3,3e-3,1e-2] --best-of training.lr

    Parameters
    ----------
    study
        A TOML file, see docs/studies.md.
    """
    refuse_processes(processes)
    if processes > 1 and trial is not None:
        raise MsdkError("--trial makes one trial, which several --processes cannot share: leave one of them out")
    if gpu and measure:
        raise MsdkError("hours are either of --gpu or measured here by --measure: give one of them")
    if utilisation is not None and not gpu:
        raise MsdkError("--utilisation is of a card: name it by --gpu")
    loaded = loaded_study(study, size, seeds, over, overrides, best_of, budget, arm)
    from msdk.budgeting.cards import card_named
    from msdk.budgeting.planning import UTILISATION
    from msdk.report.studies import plan_grid
    from msdk.studies.addresses import share
    from msdk.studies.collecting import refuse_another
    from msdk.studies.planning import plan as priced_study
    from msdk.studies.searching import Searching
    from msdk.studies.studying import concluded, default_folder

    card = None if gpu is None else card_named(gpu)
    folder = out or default_folder(study, loaded.study.size)
    if runs is not None and not plan:
        share(folder, runs)
    if not plan:
        refuse_another(folder, study)
    rank = this_rank()
    kept = f"finished trials, and what the one in hand had saved, are kept in {folder}; the same command goes on"
    with interruptible(lambda: kept), together(rank) as group:

        def priced() -> "Plan":
            with display.spinner("counting") as say:
                share = UTILISATION if utilisation is None else utilisation
                return priced_study(
                    loaded,
                    card=card,
                    utilisation=share,
                    measured=measure,
                    memory=memory,
                    device=device,
                    cache=cache,
                    say=say,
                )

        whole = group.agreed(priced)
        first = rank.first and not as_json
        if plan:
            _show_plan(whole, study, as_json=as_json)
            return 0
        whole.refuse_alone()
        searching = Searching(whole, folder, group)
        trials = searching.trials()
        if to_print:
            if as_json:
                display.print_json([["msdk", *each.command(folder)] for each in trials])
            else:
                for each in trials:
                    display.say(f"msdk {shlex.join(each.command(folder))}")
            if searching.unknown:
                display.warn(_still(searching, "the same command lists them"))
            return 0
        if first and trial is None and not helps:
            display.show(plan_grid(whole, _title(loaded.study.title, study)))
        if not collect:
            interrupted = trained(
                trials if trial is None else _numbered(searching, trials, trial),
                folder,
                device,
                retry=retry and not helps,  # a helper would train again what fails here
                alone=trial is not None,
                group=group,
                searching=searching,
                file=study,
                others=0 if helps else processes - 1,
                helps=helps,
            )
            if interrupted:
                display.warn(f"interrupted: {kept}")
                return 128 + interrupted
            if helps:
                return 0
        # Who may only look at a folder is told what is in it.
        keep = not (collect and folder.is_dir() and not os.access(folder, os.W_OK))
        result = concluded(searching, study, keep=keep)
        pictured = _painted(searching, result, device) if rank.first and not collect else []
    if rank.first:
        written = _kept(result, folder, pictured) if keep else []
        _tell(result, folder, written, as_json=as_json)
    if collect:
        return 0
    return 2 if any(trial in (None, each.number) for each in result.failed) else 0


def refuse_processes(count: int) -> None:
    """Refuses a number of processes that cannot share trials."""
    if count < 1:
        raise MsdkError(f"--processes {count}: at least 1, this one")
    if count > 1 and this_rank().count > 1:
        raise MsdkError("torchrun's processes train each trial together: leave --processes out")


def loaded_study(
    file: Path,
    size: str | None = None,
    seeds: str | None = None,
    over: "Sequence[str] | None" = None,
    overrides: "Sequence[str] | None" = None,
    best_of: "Sequence[str] | None" = None,
    budget: str | None = None,
    arm: "Sequence[str] | None" = None,
) -> "Study":
    """The study that these options of `msdk study` name."""
    from msdk.studies import load_study

    return load_study(
        file,
        size,
        seeds=None if seeds is None else seeds_of(seeds),
        over=over or (),
        overrides=overrides or (),
        best_of=best_of or (),
        budget=budget,
        only=arm or (),
    )


def _title(title: str, file: Path) -> str:
    return title or file.stem


def _show_plan(whole: "Plan", file: Path, *, as_json: bool) -> None:
    from msdk.recipe.results import to_json
    from msdk.report.studies import plan_grid

    if as_json:
        display.print_json([{"name": each.name, "kept": each.kept, **to_json(each.price)} for each in whole.variants])
    else:
        display.show(plan_grid(whole, _title(whole.study.study.title, file)))


def _numbered(searching: "Searching", trials: "Sequence[Trial]", number: int) -> "Sequence[Trial]":
    found = [each for each in trials if each.number == number]
    if found:
        return found
    last = trials[-1].number
    if number > last and searching.unknown:
        raise MsdkError(f"--trial {number}: {_still(searching, f'the trials 0 to {last} are known')}")
    raise MsdkError(f"--trial {number}: the study has the trials 0 to {last}, but for those that are left out")


def _still(searching: "Searching", then: str) -> str:
    search = searching.whole.study.study.search
    assert search is not None
    return (
        f"{search.name} proposes up to {searching.unknown} more settings, when the results of those before are there: "
        f"{then}"
    )


def trained(
    trials: "Sequence[Trial]",
    folder: Path,
    device: str | None,
    *,
    retry: bool,
    alone: bool,
    group: object,
    searching: "Searching | None" = None,
    file: Path = Path(),
    others: int = 0,
    helps: bool = False,
) -> int:
    """Makes the trials and scores them, and tells of each; the signal that ended it.

    Args:
        trials: Those that are known.
        folder: Of the study.
        device: Where to train.
        retry: Whether trials that have failed are tried again.
        alone: Whether others are not waited for.
        group: The processes that train together.
        searching: What has more of them, perhaps, and is scored; nothing where it is not given.
        file: Of the study.
        others: Processes beside this one.
        helps: Whether this is one of them.
    """
    from msdk.distributed import Group
    from msdk.studies.collecting import state_of
    from msdk.studies.helping import helped
    from msdk.studies.running import Watcher, make
    from msdk.studies.scoring import score
    from msdk.studies.studying import that_count

    assert isinstance(group, Group)
    count, named_before = len(trials), set[str]()

    def named(each: "Trial") -> str:
        return f"trial {each.number} ({each.variant.name}, seed {each.seed})"

    def began(each: "Trial", resumed: bool) -> None:
        named_before.add(named(each))
        if not helps:
            display.note(f"{named(each)} {'goes on' if resumed else 'begins'}")

    known = alone or searching is None or not searching.unknown
    missing = sum(state_of(folder, each)[0] in ("new", "stopped", "training") for each in trials)
    words = sys.argv[1:]
    with display.bar(quiet=helps or not group.rank.first) as report:

        def told(what: str, done: int, total: int) -> None:
            if helps:
                display.say(json.dumps([what, done, total]))
            else:
                report(what, done, total)

        def theirs(what: str, done: int, total: int) -> None:
            if what not in named_before and what.startswith("trial"):
                named_before.add(what)
                display.note(f"{what} {'goes on' if done > 1 else 'begins'} in another process")
            report(what, done, total)

        with helped(min(others, max(missing - 1, 0)) if known else others, words, theirs):
            interrupted = make(
                trials,
                folder,
                device=device,
                retry=retry,
                wait=not alone,
                group=group,
                more=None if alone or searching is None else searching.trials,
                watcher=Watcher(
                    began=began,
                    trained=lambda each, step: told(named(each), step.iteration, step.iterations),
                    failed=lambda each, problem: display.warn(f"{named(each)} failed: {problem}"),
                    waiting=lambda left: (
                        None
                        if others or helps
                        else display.note(f"other processes make {len(left)} of {count} trials: waiting")
                    ),
                    warned=display.warn,
                ),
            )
            if searching is None or interrupted:
                return interrupted
            if group.rank.first:
                # Which setting of a tuned arm counts is not known before all of them are there.
                own = [] if _tuned(searching) else trials
                score(
                    searching.plan,
                    own if alone else that_count(searching, file),
                    folder,
                    device=device,
                    wait=not alone,
                    progress=lambda each, done, total: told(f"scores of {named(each)}", done, total),
                    warned=None if helps else display.warn,
                )
    return interrupted


def _tuned(searching: "Searching") -> bool:
    options = searching.whole.study.study
    return options.search is not None or bool(options.best_of)


def _painted(searching: "Searching", result: "StudyResult", device: str | None) -> list[str]:
    """Draws images of all arms side by side; the files that there are then."""
    from msdk.studies.scoring import paint
    from msdk.studies.tuning import counting

    trials = counting(searching.known, result.tuning)
    try:
        with display.spinner("drawing samples"):
            made = paint(searching.plan, trials, searching.folder, device=device)
    except MsdkError as error:
        display.warn(str(error))
        return []
    return [] if made is None else [made.name]


def _kept(result: "StudyResult", folder: Path, pictured: list[str]) -> list[str]:
    """Writes the page and the plots beside study.json; the names of all files."""
    from msdk.errors import PlotError
    from msdk.report.studies import curves_plot, staged, stages_plot, study_markdown, study_page
    from msdk.runs.files import write_bytes, write_text

    write_text(folder / "study.md", study_markdown(result))
    samples = (folder / pictured[0]).read_bytes() if pictured else None
    written = [*pictured, "study.json", "study.md"]
    if any(arm.best is not None for arm in result.arms):
        write_text(folder / "study.html", study_page(result, samples))
        written.append("study.html")
        try:
            for kind in ("png", "svg"):
                write_bytes(folder / f"curves.{kind}", curves_plot(result, kind))
                if staged(result):
                    write_bytes(folder / f"stages.{kind}", stages_plot(result, kind))
            written += ["curves.png", "curves.svg", *(["stages.png", "stages.svg"] if staged(result) else [])]
        except PlotError as error:
            display.warn(str(error))
    return written


def _tell(result: "StudyResult", folder: Path, written: list[str], *, as_json: bool) -> None:
    """Shows the tables and the verdict."""
    from msdk.report.studies import result_grids, score_sentences, tuning_sentences

    if as_json:
        display.print_json(result.as_json())
        return
    display.show(*result_grids(result))
    display.say("")
    if result.failed:
        display.warn(f"{result.failed[0].problem} (trial {result.failed[0].number}); --retry tries what failed again")
    for sentence in (result.verdict, *score_sentences(result), *tuning_sentences(result)):
        display.prose(sentence)
    if written:
        display.say(f"in {folder}:")
        display.prose(", ".join(written))
