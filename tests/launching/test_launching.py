"""Promises of `msdk launch`: files that run just the command, wherever they are started, and mistakes told before."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import quick
from hypothesis import example, given, settings
from hypothesis import strategies as st
from processes import processes

import msdk
from msdk.launching import Job, batch_file, job_name, task, train_job
from msdk.launching.yamltext import yaml as written
from msdk.runs import latest, load_checkpoint
from recipes import tiny

yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")

HERE = Path(__file__).parent
RECIPE = "recipes/digits/multistage.toml"
CASES = {
    "train.sbatch": (
        ("slurm", RECIPE, "--nodes", 4, "--gpus", 8, "--gpu", "h100", "--time", "1-00:00:00", "--memory", 512),
        ("--partition", "gpu", "--account", "lab", "--setup", "source .venv/bin/activate"),
        ("--set", "training.batch_size=64"),
    ),
    "cluster.sbatch": (("slurm", "--gpus", 0, "--processes", 2, "--cpus", 2), (), ("cluster", RECIPE, "--seed", 3)),
    "run.sky.yaml": (
        ("skypilot", "--nodes", 4, "--gpus", 8, "--gpu", "H100", "--bucket", "s3://my-runs", "--spot"),
        ("--cpus", 32, "--memory", 256, "--image", "ghcr.io/me/msdk:1"),
        ("run", RECIPE),
    ),
    "sample.sky.yaml": (
        ("skypilot", "--gpu", "A100", "--volume", "my-volume"),
        (),
        ("sample", "/runs/mine", "--seeds", "0-49999", "--out", "/runs/images.zip"),
    ),
    "train.trainjob.yaml": (
        ("kubernetes", RECIPE, "--nodes", 4, "--gpus", 8, "--queue", "research", "--claim", "runs"),
        ("--image", "ghcr.io/me/msdk:1", "--cpus", 32, "--memory", 256, "--gpu", "NVIDIA-H100-80GB-HBM3"),
        ("--set", "training.batch_size=64"),
    ),
}


def launch(capsys, monkeypatch, options, *, to_stdout=True):
    scheduler, more, words = options
    return quick(
        capsys, monkeypatch, "launch", *scheduler, *more, *(("--print",) if to_stdout else ()), "--", *map(str, words)
    )


@pytest.mark.parametrize("file", CASES)
def test_the_files_are_as_they_were(capsys, monkeypatch, file):
    """What is printed is what was looked through by hand; MSDK_WRITE_GOLDEN=1 writes it anew."""
    code, out, err = launch(capsys, monkeypatch, CASES[file])
    assert (code, err) == (0, "")
    if os.environ.get("MSDK_WRITE_GOLDEN"):
        (HERE / file).write_text(out)
    assert out == (HERE / file).read_text()
    if file.endswith(".yaml"):
        assert isinstance(yaml.safe_load(out), dict)


def test_a_file_is_written_once(capsys, monkeypatch, tmp_path):
    """The file that --print shows, and how to start it; a second one needs --force."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    options = ((*CASES["train.sbatch"][0], "--out", tmp_path / "job.sbatch"), *CASES["train.sbatch"][1:])
    code, out, _ = launch(capsys, monkeypatch, options, to_stdout=False)
    assert code == 0
    assert out.splitlines()[-1] == f"next: sbatch {tmp_path / 'job.sbatch'}"
    assert (tmp_path / "job.sbatch").read_text() == (HERE / "train.sbatch").read_text()
    code, _, err = launch(capsys, monkeypatch, options, to_stdout=False)
    assert (code, "exists: replace it with --force" in err) == (2, True)


@pytest.mark.parametrize(
    ("scheduler", "words", "told"),
    [
        ("slurm --nodes 3 --gpus 7", (RECIPE,), "training.batch_size is 64"),
        ("slurm", ("nowhere.toml",), "nowhere.toml"),
        ("slurm", (RECIPE, "--set", "training.batch=3"), "unknown key"),
        ("slurm", (RECIPE, "--bach", "3"), "--bach"),
        ("slurm", (RECIPE, "--force"), "--force replaces what exists"),
        ("slurm", ("budget", RECIPE), "msdk budget works on one process"),
        ("slurm", ("sample", "runs/nowhere"), "runs/nowhere is not a run folder"),
        ("slurm", ("train", "--help"), "only tells something"),
        ("slurm", (), "say what is to be launched"),
        ("slurm", (f"{RECIPE}\n#SBATCH --nodes=99",), "cannot be printed"),
        ("slurm --partition", ("gpu\n#SBATCH --nodes=99", "--", RECIPE), "--partition"),
        ("slurm --nodes 0", (RECIPE,), "--nodes 0: at least 1"),
        ("slurm --at-once 2", (RECIPE,), "this is one job"),
        ("slurm --gpus 2 --processes 4", (RECIPE,), "a machine has 2"),
        ("slurm --grace 20", (RECIPE,), "--grace 20: at least 60"),
        ("skypilot --bucket b", (RECIPE,), "--gpu H100"),
        ("skypilot --gpu H100", (RECIPE,), "one of the two"),
    ],
)
def test_mistakes_are_told_before_a_job_waits(capsys, monkeypatch, scheduler, words, told):
    """In words, with exit code 2, and no file."""
    before = "--" if "--" not in words and words else ""
    code, out, err = quick(capsys, monkeypatch, "launch", *scheduler.split(), *filter(None, [before]), *words)
    assert (code, out) == (2, "")
    assert told in " ".join(err.split())


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "), max_size=12)


@given(words=st.lists(texts, max_size=4))
@example(words=["a b", "it's", '"; touch x; "', "$(touch x)", "`touch x`", "$HOME", "\\", "-m", "#", "!!", "{x}", ""])
@settings(max_examples=25, deadline=None)
def test_words_arrive_as_they_are(tmp_path_factory, words):
    """No path, name or value is more than a word: neither a shell nor YAML finds anything in it."""
    folder = tmp_path_factory.mktemp("fake")
    seen = folder / "seen"
    fake(folder, "torchrun", 'printf "%s\\0" "$@" > ' + shlex.quote(str(seen)))
    fake(folder, "srun", 'shift 3; exec "$@"')
    fake(folder, "scontrol", "echo here")
    job = Job(words=("train", *words), name="x", gpu="H100")
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    for text, more in (
        (batch_file(job), {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "here"}),
        (
            yaml.safe_load(task(job, bucket="b"))["run"],
            {"SKYPILOT_NODE_IPS": "a\nb", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"},
        ),
    ):
        subprocess.run(["bash", "-c", text], env={**path, **more}, check=True, cwd=folder)
        assert seen.read_text().split("\0")[-3 - len(words) - 1 : -1] == ["-m", "msdk", "train", *words]
        seen.unlink()
    command = yaml.safe_load(train_job(job))["spec"]["trainer"]["command"]
    assert [word.replace("$$(", "$(") for word in command[4:]] == ["train", *words]
    assert not any("$(" in word.replace("$$(", "") for word in command)
    assert {each.name for each in folder.iterdir()} == {"torchrun", "srun", "scontrol"}


plain = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9)
trees = st.recursive(
    plain,
    lambda each: (
        st.lists(each, min_size=1, max_size=3)
        | st.dictionaries(st.text(min_size=1, max_size=5), each, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@given(data=st.dictionaries(st.text(min_size=1, max_size=5), trees, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_yaml_is_read_as_it_was_meant(data):
    """A YAML library reads back what was written."""
    assert yaml.safe_load(written(data)) == data


@given(text=st.text(max_size=60))
def test_names_suit_every_scheduler(text):
    """A name is a label of DNS, as Kubernetes asks."""
    name = job_name(text)
    assert 4 <= len(name) <= 40
    assert name[-1] != "-"
    assert all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in name)


def fake(folder, name, text):
    """A program of a scheduler that does as little as a test needs."""
    file = folder / name
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)


def curve(run):
    """The lines of metrics.jsonl, without clocks."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "second" not in key and "bytes" not in key} for line in lines]


def seen(run, lines, job):
    """Waits until a run has told so many lines."""
    until = time.monotonic() + 80
    while not (run / "metrics.jsonl").exists() or len(curve(run)) < lines:
        assert time.monotonic() < until
        assert job.poll() is None
        time.sleep(0.02)


def process_of(rank, run):
    """The process of torchrun that trains a run as such a rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if str(run).encode() in words and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("there is none")


@pytest.mark.slow
def test_a_job_that_is_warned_and_loses_a_process_trains_the_same_run(tmp_path, monkeypatch):
    """Under a Slurm of scripts: warned, it saves and is queued again; a process is killed, and torchrun goes on.

    Lines of metrics and weights are those of a run that nothing disturbed, bit for bit. The killed process is the one
    that writes, so its lock is in nobody's way.
    """
    recipe = tmp_path / "it's a recipe.toml"
    steps = ("training.iterations=120", "training.log_every=5", "training.checkpoint_every=12")
    recipe.write_text(msdk.recipe.to_toml(tiny(*steps)))
    fake(tmp_path, "srun", 'shift 3; "$@" & task=$!; trap "kill -USR1 $task" USR1; wait $task; trap - USR1; wait $task')
    fake(tmp_path, "scontrol", f'[ "$1" = show ] && echo 127.0.0.1 || echo "$@" > {tmp_path}/requeued')
    fake(tmp_path, "torchrun", f'exec {sys.executable} -m torch.distributed.run "$@"')
    run = tmp_path / "run"
    words = ("train", str(recipe), "--out", str(run), "--device", "cpu", "--resume")
    (tmp_path / "job.sbatch").write_text(batch_file(Job(words=words, name="x", gpus=0, processes=2)))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    monkeypatch.setenv("SLURM_JOB_NODELIST", "here")

    def started():
        return subprocess.Popen(["bash", tmp_path / "job.sbatch"], stderr=subprocess.PIPE, text=True)

    first = started()
    seen(run, 1, first)
    first.send_signal(signal.SIGUSR1)
    told = first.communicate(timeout=60)[1]
    assert (tmp_path / "requeued").read_text().split() == ["requeue", os.environ["SLURM_JOB_ID"]], told
    assert told.count("interrupted: saved at iteration") == 1
    reached = len(curve(run))
    assert reached < 24
    second = started()
    seen(run, reached + 3, second)
    os.kill(process_of(0, run), signal.SIGKILL)
    told = second.communicate(timeout=80)[1]
    assert second.returncode == 0, told
    starts = told.count("torchrun has started the processes again")
    assert told.count("another process of this run ended") <= starts, told  # or torchrun ends it before it has told
    assert "Traceback" not in told
    assert "torchrun has started the processes again (1): the run goes on from" in told
    processes(2, lambda: msdk.train(str(recipe), tmp_path / "whole", device="cpu").seconds, tmp_path)
    assert curve(run) == curve(tmp_path / "whole")
    ours, theirs = (load_checkpoint(latest(tmp_path / name)) for name in ("run", "whole"))
    for part in ("model", "ema", "optimizer"):
        assert all(torch.equal(value, getattr(theirs, part)[key]) for key, value in getattr(ours, part).items())


STUDY = """
[study]
seeds = [0, 1, 2]
checkpoints = 2
held_out = 0.05
set = { "training.iterations" = 2, "training.batch_size" = 8, "training.validate_images" = 8, "encoder.channels" = 8 }

[arms.narrow]
recipe = "ROOT/recipes/digits/unified.toml"
set = { "decoders.0.channels" = 8 }

[arms.wide]
recipe = "ROOT/recipes/digits/unified.toml"
set = { "decoders.0.channels" = 12 }
"""


@pytest.fixture
def study(tmp_path):
    """A study of six trials, in a file that a shell would take apart."""
    path = tmp_path / "it's a study.toml"
    path.write_text(STUDY.replace("ROOT", str(Path.cwd())))
    return path


def test_the_array_of_a_study_makes_it(capsys, monkeypatch, study, tmp_path):
    """The body of the batch file, in bash: each task makes its trial, and the first one queues what comes after all."""
    out = tmp_path / "out"
    words = ("launch", "slurm", "--gpus", 0, "--at-once", 2, "--partition", "cpu", "--setup", "true", "--print", "--")
    code, text, err = quick(capsys, monkeypatch, *words, "study", study, "--out", out, "--device", "cpu")
    assert (code, err) == (0, "")
    assert "#SBATCH --array=0-5%2" in text.splitlines()
    assert text.startswith("#!/bin/bash\n# 6 jobs of 1 x CPUs, 1 process;")
    seen, queued = tmp_path / "seen", tmp_path / "queued"
    fake(tmp_path, "torchrun", f'printf "%s\\0" "$@" > {seen}')
    fake(tmp_path, "srun", 'shift 3; exec "$@"')
    fake(tmp_path, "scontrol", "echo here")
    fake(tmp_path, "sbatch", f'echo "$@" >> {queued}; cat > {tmp_path}/end.sh')
    fake(tmp_path, "msdk", f'printf "%s\\0" "$@" > {seen}')
    given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_NODELIST": "here"}

    def body(*more, script=("-c", text)):
        subprocess.run(["bash", *script], env={**given, **dict(more)}, check=True, cwd=tmp_path)
        read = seen.read_text().split("\0")[:-1]
        return read[read.index("study") :]

    for number in (5, 0, 1, 2, 3, 4):
        told = body(("SLURM_ARRAY_TASK_ID", str(number)), ("SLURM_JOB_ID", str(number + 8)))
        assert told[-2:] == ["--trial", str(number)]
        if number == 5:
            assert quick(capsys, monkeypatch, *told)[0] == 0
    body(("SLURM_ARRAY_TASK_ID", "0"), ("SLURM_JOB_ID", "8"), ("SLURM_RESTART_COUNT", "1"))
    (line,) = queued.read_text().splitlines()  # once, whatever is queued again
    assert "--dependency=afterany:7" in line
    assert "--partition=cpu" in line
    last = body(script=(str(tmp_path / "end.sh"),))
    assert last[-1] == "--collect"
    code, told, _ = quick(capsys, monkeypatch, *last)
    assert code == 0
    assert "5 trials are still to be done" in " ".join(told.split())
    found = json.loads((out / "study.json").read_text())
    done = [trial["number"] for arm in found["arms"] for trial in arm["trials"] if trial["state"] == "done"]
    assert done == [5]


def test_the_jobs_of_a_study_elsewhere(capsys, monkeypatch, study, tmp_path):
    """SkyPilot tells trials apart by a variable, Kubernetes by an index; both say what comes after all of them."""
    options = ("--gpus", 1, "--gpu", "H100")
    _, text, _ = quick(capsys, monkeypatch, "launch", "skypilot", *options, "--bucket", "b", "--print", "--", study)
    sky = yaml.safe_load(text)
    assert sky["envs"] == {"TRIAL": "0", "MSDK_CACHE": "/runs/.cache"}
    assert sky["run"].startswith('if [ "$TRIAL" = end ]; then\n    exec msdk study ')
    for name in ("msdk", "torchrun"):
        fake(tmp_path, name, f'echo {name} "$@"')
    told = {}
    for trial in ("4", "end"):
        given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TRIAL": trial, "SKYPILOT_NUM_NODES": "1"}
        given |= {"SKYPILOT_NODE_IPS": "a", "SKYPILOT_NODE_RANK": "0"}
        told[trial] = subprocess.run(["bash", "-c", sky["run"]], env=given, check=True, capture_output=True, text=True)
    assert told["4"].stdout.rstrip().endswith("--out /runs/it's a study --trial 4")
    assert told["end"].stdout.startswith("msdk study")
    assert told["end"].stdout.rstrip().endswith("--collect")

    more = ("--claim", "runs", "--image", "i", "--queue", "q", "--at-once", 4, "--out", tmp_path / "job.yaml")
    code, said, _ = quick(capsys, monkeypatch, "launch", "kubernetes", *options, *more, "--", study)
    assert code == 0
    trials, after = yaml.safe_load_all((tmp_path / "job.yaml").read_text())
    assert (trials["spec"]["completions"], trials["spec"]["parallelism"]) == (6, 4)
    own, last = (each["spec"]["template"]["spec"]["containers"][0]["command"] for each in (trials, after))
    assert own[-2:] == ["--trial", "$(JOB_COMPLETION_INDEX)"]
    assert (after["spec"]["suspend"], last[:2], last[-1]) == (True, ["msdk", "study"], "--collect")
    assert after["metadata"]["name"] in said
    assert last[last.index("--out") + 1] == own[own.index("--out") + 1]


def test_a_search_that_learns_has_jobs_that_share_it(capsys, monkeypatch, study):
    """As many as can work at the same time, without numbers; one that knows all settings has a job for each trial."""
    space = '{{ name = "{}", trials = 2, space = {{ "training.lr" = [1e-3, 1e-2, 1e-1] }} }}'
    text = study.read_text()
    for name, tasks, numbered in (("tpe", 6, False), ("grid", 12, True)):
        study.write_text(text.replace("[study]", f"[study]\nsearch = {space.format(name)}"))
        _, out, _ = quick(capsys, monkeypatch, "launch", "slurm", "--print", "--", study)
        assert f"#SBATCH --array=0-{tasks - 1}" in out.splitlines()
        assert ("--trial" in out) == numbered
    study.write_text(study.read_text().replace('"grid"', '"tpe"'))
    options = ("skypilot", "--gpu", "H100", "--bucket", "b", "--print")
    code, _, err = quick(capsys, monkeypatch, "launch", *options, "--", study)
    assert (code, "name a --volume" in " ".join(err.split())) == (2, True)


@pytest.mark.parametrize(
    ("scheduler", "words", "told"),
    [
        ("slurm", ("--trial", "3"), "--trial is not of the jobs of a study"),
        ("slurm", ("--plan",), "--plan is not of the jobs"),
        ("slurm", ("--processes", "2"), "--processes is not of the jobs"),
        ("slurm", ("--size", "paper"), "no size 'paper'"),
        ("slurm", ("--over", "training.lrr=[1]"), "lrr"),
        ("slurm --gpus 3", (), "training.batch_size is 8"),
        ("slurm --at-once 0", (), "--at-once 0: at least 1"),
        ("kubernetes --nodes 2", (), "leave --nodes out"),
        ("kubernetes", (), "--claim"),
        ("skypilot --gpu H100 --volume v --at-once 2", (), "leave it out"),
    ],
)
def test_mistakes_of_a_launched_study_are_told(capsys, monkeypatch, study, scheduler, words, told):
    """In words, with exit code 2, before a job waits."""
    code, out, err = quick(capsys, monkeypatch, "launch", *scheduler.split(), "--print", "--", "study", study, *words)
    assert (code, out) == (2, "")
    assert told in " ".join(err.split())
