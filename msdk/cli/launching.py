"""`msdk launch`: files by which schedulers start a command on several machines."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import attrs
from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import Force, default_run_dir, load, with_edges
from msdk.errors import MsdkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from msdk.launching import Job
    from msdk.recipe import Recipe

launching = App(name="launch", help="Write the files by which schedulers start a command on several machines.")

Words = Annotated[
    str, Parameter(help="A recipe, or a study; or, after --, cluster, run, sample, study or train with options.")
]


@attrs.frozen(kw_only=True)
class Machines:
    """The options of all schedulers."""

    nodes: Annotated[int, Parameter(help="Machines.")] = 1
    gpus: Annotated[int, Parameter(help="GPUs of each machine, a process for each; 0 for CPUs.")] = 1
    processes: Annotated[int | None, Parameter(help="Processes on each machine, where not one for each GPU.")] = None
    gpu: Annotated[str | None, Parameter(help="Which GPU, as the scheduler calls it.")] = None
    cpus: Annotated[int | None, Parameter(help="CPU cores of each machine.")] = None
    memory: Annotated[int | None, Parameter(help="Memory of each machine, in GB.")] = None
    restarts: Annotated[int, Parameter(help="How often all are started anew after a process has died.")] = 3
    at_once: Annotated[int | None, Parameter(help="Trials of a study at the same time; all by default.")] = None


@attrs.frozen(kw_only=True)
class Output:
    """Where the file goes."""

    to_stdout: Annotated[bool, Parameter(name="--print", negative="", help="Print the file, and write none.")] = False
    out: Annotated[Path | None, Parameter(help="The file; named after the command, in this folder by default.")] = None
    force: Force = False


_SIZE = Machines()
_FILE = Output()
Size = Annotated[Machines, Parameter(name="*")]
File = Annotated[Output, Parameter(name="*")]
Setup = Annotated[str, Parameter(help="Lines of shell that come first, such as 'source .venv/bin/activate'.")]
Grace = Annotated[int, Parameter(help="Seconds to save in, between the warning and the end.")]
Folder = Annotated[str, Parameter(help="Where run folders are on the machines.")]


@launching.command
def slurm(
    *words: Words,
    size: Size = _SIZE,
    time: Annotated[str | None, Parameter(help="The time limit: 24:00:00 or 2-00:00:00.")] = None,
    partition: str | None = None,
    account: str | None = None,
    setup: Setup = "",
    grace: Grace = 120,
    file: File = _FILE,
) -> None:
    """Write a batch file for Slurm, which saves before its time is up and is queued again until it is done.

    Examples: msdk launch slurm recipes/cifar10/edm-multistage.toml --nodes 4 --gpus 8 --time 24:00:00 --print
    / msdk launch slurm --nodes 2 --gpus 8 -- sample runs/mine --seeds 0-49999 --out images.zip
    / msdk launch slurm --at-once 8 -- study recipes/studies/widths.toml --size paper
    """
    from msdk.launching import batch_file

    if grace < 60:
        raise MsdkError(f"--grace {grace}: at least 60 seconds, of which torchrun leaves its processes all but 30")
    job = _job(words, size, here=True)
    text = batch_file(job, time=time, partition=partition, account=account, setup=setup, grace=grace)
    _tell(text, job, ".sbatch", ("sbatch",), file)


@launching.command
def skypilot(
    *words: Words,
    size: Size = _SIZE,
    bucket: Annotated[str | None, Parameter(help="A bucket for run folders: NAME, s3://NAME, gs://NAME.")] = None,
    volume: Annotated[str | None, Parameter(help="A volume of SkyPilot for run folders.")] = None,
    folder: Folder = "/runs",
    image: Annotated[str | None, Parameter(help="A container image.")] = None,
    setup: Annotated[str | None, Parameter(help="Lines of shell that make a machine ready; pip installs msdk.")] = None,
    spot: Annotated[bool, Parameter(negative="", help="On machines that can be taken away, which cost less.")] = False,
    file: File = _FILE,
) -> None:
    """Write a task for SkyPilot, which goes on elsewhere when a machine is taken away.

    Examples: msdk launch skypilot R --nodes 4 --gpus 8 --gpu H100 --bucket my-runs --print
    / msdk launch skypilot --gpu A100 --bucket my-runs -- sample /runs/mine --seeds 0-49999
    """
    from msdk.launching import task
    from msdk.launching.skypilot import SETUP

    job = _job(words, size, kept=folder)
    text = task(
        job,
        folder=folder,
        bucket=bucket,
        volume=volume,
        image=image,
        setup=SETUP if setup is None else setup,
        spot=spot,
    )
    if job.tasks is None:
        _tell(text, job, ".sky.yaml", ("sky", "jobs", "launch"), file)
        return
    each = f"for trial in $(seq 0 {job.tasks.count - 1}); do sky jobs launch -y -d --env TRIAL=$trial"
    steps = (lambda place: f"{each} {place}; done", lambda place: f"sky jobs launch -y --env TRIAL=end {place}")
    _tell(text, job, ".sky.yaml", (), file, steps)


@launching.command
def kubernetes(
    *words: Words,
    size: Size = _SIZE,
    queue: Annotated[str | None, Parameter(help="The local queue of Kueue.")] = None,
    image: Annotated[str | None, Parameter(help="The container image, which has msdk and the recipe.")] = None,
    claim: Annotated[str | None, Parameter(help="A PersistentVolumeClaim for run folders.")] = None,
    folder: Folder = "/runs",
    runtime: Annotated[str, Parameter(help="The ClusterTrainingRuntime.")] = "torch-distributed",
    namespace: str | None = None,
    grace: Grace = 120,
    file: File = _FILE,
) -> None:
    """Write a TrainJob for Kubeflow Trainer, with the queue of Kueue.

    Examples: msdk launch kubernetes R --nodes 4 --gpus 8 --image ghcr.io/me/msdk --claim runs --queue research --print
    """
    from msdk.launching import indexed_job, train_job

    if grace < 60:
        raise MsdkError(f"--grace {grace}: at least 60 seconds, of which torchrun leaves its processes all but 30")
    job = _job(words, size, kept=None if claim is None else folder)
    if job.tasks is not None:
        text = indexed_job(job, queue=queue, image=image, folder=folder, claim=claim, namespace=namespace, grace=grace)
        space = "" if namespace is None else f" -n {namespace}"
        resume = f"""kubectl{space} patch job/{job.name}-end -p '{{"spec": {{"suspend": false}}}}'"""
        _tell(text, job, ".job.yaml", (), file, (lambda place: f"kubectl apply -f {place}", lambda _: resume))
        return
    text = train_job(
        job,
        queue=queue,
        image=image,
        folder=folder,
        claim=claim,
        runtime=runtime,
        namespace=namespace,
        grace=grace,
    )
    _tell(text, job, ".trainjob.yaml", ("kubectl", "apply", "-f"), file)


def _tell(
    text: str,
    job: "Job",
    suffix: str,
    submit: tuple[str, ...],
    file: Output,
    steps: "Sequence[Callable[[str], str]]" = (),
) -> None:
    """Prints a file, or writes it and says how to start it: by a command, or by steps of which the last comes later."""
    if file.to_stdout:
        display.show_lines(text)
        return
    from msdk.runs.files import write_text

    place = file.out or Path(f"{job.name}{suffix}")
    if place.exists() and not file.force:
        raise MsdkError(f"{place} exists: replace it with --force, or choose another --out")
    write_text(place, text)
    display.say(f"wrote {place}: {job.size}")
    if submit:
        display.say(f"next: {shlex.join([*submit, str(place)])}")
        return
    first, last = (each(shlex.quote(str(place))) for each in steps)
    display.say(f"next: {first}")
    display.say(f"and when all jobs have ended: {last}")


def _job(words: tuple[str, ...], size: Machines, *, here: bool = False, kept: str | None = None) -> "Job":
    """The job of a command, which is checked as far as it can be before it waits in a queue.

    Args:
        words: Of the command; a recipe alone is trained.
        size: The machines.
        here: Whether the job sees this machine's files, so run folders are looked at.
        kept: The folder that outlives the machines, for what the command makes.
    """
    from msdk.launching import VERBS, Job, job_name

    if not words:
        raise MsdkError("say what is to be launched: a recipe to train, or a command after --, such as -- sample RUN")
    if words[0] not in VERBS:
        words = ("study" if _is_study(words[0]) else "train", *words)
    if words[0] == "study":
        return _study_job(words, size, here=here, kept=kept)
    verb, given = words[0], _parsed(words)
    subject, out = cast("Path", given.get("recipe", given.get("run"))), given.get("out")
    called = subject.name if verb == "sample" else default_run_dir(subject).name
    if given.get("force") and VERBS[verb]:
        raise MsdkError("--force replaces what exists, but a job that is started again is to go on: leave it out")
    if kept is not None and out is None and verb != "sample" and not subject.is_dir():
        words = (*words, "--out", f"{kept}/{called}" + (".clustering.json" if verb == "cluster" else ""))
    if not given.get("resume"):
        words = (*words, *VERBS[verb])
    given = _parsed(words)  # what was added is understood, too
    fields = {key: value for key, value in attrs.asdict(size).items() if value is not None}
    job = Job(words=words, name=job_name(f"{verb}-{called}"), **fields)
    if verb == "sample":
        if here or subject.exists():
            from msdk.runs import latest, run_recipe

            run_recipe(subject)
            latest(subject)
        return job
    recipe = load(subject, given.get("overrides"))
    if verb != "cluster":
        _check_training(recipe, given.get("out") or default_run_dir(subject), job, here=here)
    return job


def _is_study(name: str) -> bool:
    """Whether a file is of a study; what else is wrong with it is told by who reads it."""
    import tomllib

    from msdk.studies.files import MOST_BYTES

    try:
        with Path(name).open("rb") as file:
            return "study" in tomllib.loads(file.read(MOST_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return False


HERE = {
    **{each: each for each in ("plan", "collect", "trial", "processes", "helps")},
    **{each: each for each in ("gpu", "utilisation", "measure", "memory")},
    "to_print": "print",
    "as_json": "json",
}
"""Options of `msdk study` that are of use where one is, or that the jobs get themselves, and how they are written."""


def _study_job(words: tuple[str, ...], size: Machines, *, here: bool, kept: str | None) -> "Job":
    """The jobs of a study: one for each trial; of a search that learns, as many as can work at the same time."""
    from msdk.cli.studies import loaded_study
    from msdk.distributed import Rank
    from msdk.launching import Job, Tasks, job_name
    from msdk.studies.planning import plan
    from msdk.studies.searching import Searching
    from msdk.studies.studying import default_folder
    from msdk.training.dealing import refuse_uneven

    given = _parsed(words)
    for option, name in HERE.items():
        if option in given:
            raise MsdkError(f"--{name} is not of the jobs of a study: leave it out")
    names = ("size", "seeds", "over", "overrides", "best_of", "budget", "arm")
    study = loaded_study(given["study"], **{name: given.get(name) for name in names})
    folder = given.get("out") or default_folder(given["study"], study.study.size)
    if given.get("out") is None:
        folder = folder if kept is None else Path(kept) / folder.name
        words = (*words, "--out", str(folder))
    with display.spinner("counting") as say:
        whole = plan(study, device=given.get("device"), say=say)
        searching = Searching(whole, folder)
        trials = searching.trials()
    count, search = len(trials), study.study.search
    numbered = not searching.unknown and [each.number for each in trials] == list(range(count))
    if search is not None and not numbered:
        count = len(study.study.seeds) * sum(min(search.at_once, each.tries) for each in whole.variants)
    fields = {key: value for key, value in attrs.asdict(size).items() if value is not None}
    job = Job(
        words=words,
        name=job_name(f"study-{folder.name}"),
        tasks=Tasks(count=count, numbered=numbered, last=(*words, "--collect")),
        **fields,
    )
    for each in whole.kept:
        refuse_uneven(each.recipe.training.batch_size, each.recipe.training.accumulation, Rank(count=job.world))
    return job


def _check_training(recipe: "Recipe", place: Path, job: "Job", *, here: bool) -> None:
    """Raises what training would raise, on so many processes and in its run folder."""
    from msdk.distributed import Rank
    from msdk.recipe import check_trainable
    from msdk.runs import checkpoints, refuse_existing, refuse_other_recipe
    from msdk.training.dealing import refuse_uneven

    check_trainable(recipe)
    refuse_uneven(recipe.training.batch_size, recipe.training.accumulation, Rank(count=job.world))
    if here:
        refuse_existing(place, force=False, resume=True)
        if checkpoints(place):
            ready, _ = with_edges(recipe, run=place)
            refuse_other_recipe(place, ready)


def _parsed(words: tuple[str, ...]) -> dict[str, Any]:
    """The options of a command by their names, as it would get them; mistakes are told as it would tell them."""
    from msdk.cli.entry import app
    from msdk.launching import VERBS

    if {"--help", "-h", "--version"} & set(words):
        raise MsdkError(f"msdk {shlex.join(words)} only tells something: call it here")
    _, general, _ = app.meta.parse_args(list(words), exit_on_error=False, print_error=False)
    if general.arguments.get("allow_code"):
        from msdk.registry.local_code import allow_code

        allow_code()
    own = list(general.args)
    if len(own) > 1 and own[0] == "train" and own[1] in app:
        known = ", ".join(VERBS)
        raise MsdkError(f"msdk {own[1]} works on one process, so it is not launched; on several work {known}")
    _, bound, _ = app.parse_args(own, exit_on_error=False, print_error=False)
    return dict(bound.arguments)
