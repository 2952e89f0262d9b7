"""What becomes of a folder when its writer is killed at any file operation, or interrupted there?

Runs a command in a forked process that kills itself with SIGKILL just before its n-th change of a file (opening one to
write, renaming, making or removing one), for every n until the command comes to its end. What is left then, and the
same with the last file that was opened cut in half, is given to the plain command, to `--resume` and to `--force`, each
in a process of its own. `stuck`: a command neither did its work nor said in words which other one does; `different`: it
did, and left something else than an undisturbed one, temporary files included. Times, and the command that lock.json
tells, are not compared. With --interrupt, SIGINT takes the place of SIGKILL: it ends with exit code 130 and words on
what is kept (`silent`: it did not). Prints one JSON line. Aim: no entry in any of the three lists; a sample of the
points is a test, tests/runs/test_crashes.py.

`python benchmarks/bench_crashes.py train sample-zip`
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

RECIPE = """
title = "tiny"
data = { name = "digits" }
stages = { edges_ratio = [0.5] }
encoder = { name = "ddpmpp", channels = 4, channel_mult = [1, 1], blocks = 1, attention = [], groups = 2 }
decoders = [{ name = "ddpmpp", channels = 4, groups = 2 }, { name = "ddpmpp", channels = 4, groups = 2 }]
sampling = { steps = 2, images = 3 }
training = { iterations = 2, batch_size = 2, lr = 1e-3, log_every = 1, checkpoint_every = 1, keep = 1 }
"""
SONG = {
    "model_type": "SongUNet",
    "img_channels": 3,
    "img_resolution": 8,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
}

TRAIN = ("train", "r.toml", "--out", "run")
CLUSTERED = ("--set", 'stages={clustering={name="timestep", stages=2}}')
SAMPLE = ("sample", "run", "--seeds", "0-2", "--out")
CONVERT = ("pretrained", "convert", "w.safetensors", "--family", "edm", "--config", "song.json", "--out", "run")
BOTH = ("--resume", "--force")


@attrs.frozen
class Case:
    """A command to kill.

    Attributes:
        words: Of the command.
        before: Commands that make what is there before.
        others: Options that may help afterwards, beside the plain command.
        change: What is done to what they made.
    """

    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    others: tuple[str, ...] = ("--force",)
    change: Callable[[Path], None] = lambda here: None


def in_shards(here: Path) -> None:
    """Puts shards of two processes in the place of a run's files of weights."""
    from safetensors.torch import load_file, save_file

    for file in sorted((here / "run").glob("checkpoints/*/*.safetensors")):
        tensors, folder = load_file(file), file.with_suffix("")
        folder.mkdir()
        for shard in (0, 1):
            own: dict[str, Any] = {}
            told: dict[str, Any] = {}
            for name, value in tensors.items():
                first = (len(value) + 1) // 2 if value.ndim else 1
                if value.ndim or not shard:
                    own[name] = (value[first:] if shard else value[:first]) if value.ndim else value
                    told[name] = {"saved_offsets": [first * shard, *[0] * (value.ndim - 1)][: value.ndim]}
            header = {"DCP_SHARDING_INFO": json.dumps(told)}
            save_file(own, folder / f"shard-0000{shard + 1}-of-00002.safetensors", header)
        file.unlink()


KINDS = ("folder", "zip", "npz", "safetensors")
CASES = {
    "train": Case(TRAIN, others=BOTH),
    "train-force": Case((*TRAIN, "--force"), (TRAIN,), BOTH),
    # `--force` would begin anew, and a run that did not go on has no history to compare.
    "train-resume": Case((*TRAIN, "--resume"), ((*TRAIN, "--set", "training.iterations=1"),), ()),
    "run": Case(("run", "r.toml", "--out", "run", *CLUSTERED), others=BOTH),
    **{f"sample-{kind}": Case((*SAMPLE, f"out.{kind}".removesuffix(".folder")), (TRAIN,)) for kind in KINDS},
    "sample-force": Case((*SAMPLE, "out", "--force"), (TRAIN, (*SAMPLE, "out", "--steps", "3"))),
    "cluster": Case(("cluster", "r.toml", "--strategy", "timestep", "--out", "c.json")),
    "gather": Case(("stage", "gather", "run"), (TRAIN,), (), in_shards),
    "convert": Case(CONVERT),
    "convert-force": Case((*CONVERT, "--force"), (CONVERT,)),
}


# --- one process ------------------------------------------------------------------------------------------------------

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def strike_at(number: int, signum: int, note: Path) -> list[int]:
    """Sends this process a signal before its n-th change of a file here; notes which it opened last to write.

    Returns:
        One entry for each change, as they come.
    """
    here = str(Path.cwd())
    counts, last = list[int](), [""]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if len(counts) == number or not args or isinstance(args[0], int):
            return
        opened = event == "open" and isinstance(args[2], int) and bool(args[2] & WRITES)
        if not opened and event not in CHANGES:
            return
        path = os.fsdecode(args[0])
        if Path(path).is_absolute() and not path.startswith(here):
            return
        counts.append(1)
        if len(counts) == number:
            note.write_text(last[0])
            os.kill(os.getpid(), signum)
        elif opened:
            last[0] = str(Path(here, path))

    sys.addaudithook(hook)
    return counts


def forked(words: Sequence[str], here: Path, log: Path, strike: tuple[int, int] | None = None) -> int:
    """The exit code of `msdk WORDS` in a folder, as a process of its own; minus the signal that ended it."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        out = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        for number in (1, 2):
            os.dup2(out, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(here)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from msdk.cli import main as command

        sys.argv = ["msdk", *words]
        counts = [] if strike is None else strike_at(*strike, log.with_suffix(".last"))
        try:
            command()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 98
        log.with_suffix(".count").write_text(str(len(counts)))
        log.with_suffix(".modules").write_text("\n".join(sys.modules))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


# --- what is left -----------------------------------------------------------------------------------------------------

TIMES = re.compile(
    rb'"(?:seconds|images_per_second|data_seconds|\w+_peak_bytes)": [0-9.e+-]+'
    rb'|"command": \[[^]]*\]|[0-9.,]+ (?:s|images/s|seconds)\b'
)


def content(here: Path) -> dict[str, str]:
    """Name of every file and folder -> the digest of what is in it, times left out."""
    found: dict[str, str] = {}
    for path in sorted(here.rglob("*")):
        name = path.relative_to(here).as_posix()
        if path.is_dir():
            found[name] = "folder"
            continue
        data = path.read_bytes()
        if path.suffix in (".json", ".jsonl", ".md", ".html"):
            data = TIMES.sub(b"", data)
        found[name] = hashlib.sha256(data).hexdigest()[:16]
    return found


def copied(source: Path, target: Path) -> None:
    """Puts a copy of a folder in the place of another."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


@attrs.define
class Tally:
    """What happened when a command was killed.

    Attributes:
        points: Changes of files that it makes.
        killed: At so many of them it was.
        states: Different folders that were left.
        commands: That were tried on them.
        stuck: Where one of these could not.
        different: Where it left something else.
        silent: Where an interrupted command did not say what is kept.
    """

    points: int
    killed: int = 0
    states: int = 0
    commands: int = 0
    stuck: list[str] = attrs.field(factory=list[str])
    different: list[str] = attrs.field(factory=list[str])
    silent: list[str] = attrs.field(factory=list[str])


def prepared(work: Path) -> None:
    """Makes what all commands begin with."""
    import torch
    from safetensors.torch import save_file

    import msdk
    from msdk.pretrained import FAMILIES
    from msdk.pretrained.config import Config

    start = work / "start"
    start.mkdir(parents=True)
    (start / "r.toml").write_text(RECIPE)
    (start / "song.json").write_text(json.dumps(SONG))
    denoiser: Any = msdk.load_pretrained("edm", None, SONG)
    pieces: Any = FAMILIES["edm"]("edm", Config(SONG)).pieces(denoiser.network).found
    torch.manual_seed(0)
    weights = {each.key: torch.randn(each.shape) if each.value is None else each.value.clone() for each in pieces}
    save_file(weights, start / "w.safetensors")


def attacked(
    case: Case, work: Path, *, most: int = 0, share: tuple[int, int] = (1, 1), signum: int = signal.SIGKILL
) -> Tally:
    """Kills a command at every point, or at so many spread over all, or at a share of them, and tries what helps."""
    here, before, left, log = work / "here", work / "before", work / "left", work / "log.txt"
    copied(work / "start", here)
    for words in case.before:
        _right(words, here, log)
    case.change(here)
    copied(here, before)
    _right(case.words, here, log)
    for name in log.with_suffix(".modules").read_text().split():  # once, and not in each process that is forked
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    right = content(here)
    copied(before, here)
    forked(case.words, here, log, (sys.maxsize, signum))
    total = int(log.with_suffix(".count").read_text())
    tally, seen = Tally(total), set[str]()
    spread = [1 + total * (2 * index + 1) // (2 * most) for index in range(most)]
    for point in spread or range(share[0], total + 1, share[1]):
        copied(before, here)
        code = forked(case.words, here, log, (point, signum))
        tally.killed += 1
        if signum != signal.SIGKILL and (code != 130 or "interrupted: " not in log.read_text()):
            tally.silent.append(f"{point}: exit code {code}, {log.read_text()[-300:]}")
        copied(here, left)
        for state in _states(left, log.with_suffix(".last"), here, torn=signum == signal.SIGKILL):
            if state in seen:
                continue
            seen.add(state)
            tally.states += 1
            for option in ("", *case.others):
                copied(left, here)
                tally.commands += 1
                _judge(tally, case, option, here, log, right, f"{point} {option or 'plain'}")
    return tally


def _right(words: Sequence[str], here: Path, log: Path) -> None:
    code = forked(words, here, log)
    if code:
        raise RuntimeError(f"{' '.join(words)}: exit code {code}, {log.read_text()}")


def _states(left: Path, note: Path, here: Path, *, torn: bool) -> Iterator[str]:
    """What a killed process left, and then the same with its last file cut in half; their digests.

    A file of lines grows: only the line in hand is cut, for the others were there before.
    """
    yield json.dumps(content(left), sort_keys=True)
    last = Path(note.read_text() or "/")
    if torn and last.is_relative_to(here):
        file = left / last.relative_to(here)
        if file.is_file() and file.stat().st_size:
            data = file.read_bytes()
            in_hand = len(data.splitlines(keepends=True)[-1]) if file.suffix == ".jsonl" else len(data)
            os.truncate(file, len(data) - (in_hand + 1) // 2)
            yield json.dumps(content(left), sort_keys=True)


def _judge(tally: Tally, case: Case, option: str, here: Path, log: Path, right: Mapping[str, str], where: str) -> None:
    words = [word for word in case.words if word not in BOTH or not option]
    code = forked([*words, option] if option else words, here, log)
    found = content(here)
    wrong = [name for name in {**found, **right} if found.get(name) != right.get(name)]
    if code == 0 and wrong:
        tally.different.append(f"{where}: {', '.join(wrong[:5])}")
    elif code == 2 and not option and ("--resume" in log.read_text() or not wrong):
        pass  # it says what goes on, or that all is done
    elif code:
        tally.stuck.append(f"{where}: exit code {code}, {log.read_text()[-300:]}")


SWIFT = Path("/dev/shm")
"""In memory, where there is such a place: what is synced to disk is not waited for."""


def main() -> None:
    """Prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--runs", type=int, default=0, help="so many points of each command; of `cluster` by default")
    parser.add_argument("--share", default="1/1", help="K/N: every N-th point from the K-th, for N processes")
    parser.add_argument("--interrupt", action="store_true", help="SIGINT instead of SIGKILL")
    options = parser.parse_args()
    signum = signal.SIGINT if options.interrupt else signal.SIGKILL
    first, step = (int(number) for number in options.share.split("/"))
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=SWIFT if SWIFT.is_dir() else None) as folder:
        work = Path(folder).resolve()
        os.environ.update(MSDK_THREADS="1", MSDK_CACHE=str(work / "cache"), COLUMNS="200")
        prepared(work)
        for name in options.cases or (["cluster"] if options.runs else CASES):
            started = time.perf_counter()
            found = attrs.asdict(attacked(CASES[name], work, most=options.runs, share=(first, step), signum=signum))
            results.append({"command": name, **found, "seconds": round(time.perf_counter() - started, 1)})
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"signal": signal.Signals(signum).name, "results": results}))


if __name__ == "__main__":
    main()
