"""How fast do training and counting go beside 0, 1, 2 and 4 busy processes, and from which size do threads pay?

Beside so many empty Python loops it runs, in turn, each for a few seconds:
1. `msdk train recipes/digits/unified.toml`, in images/s from its first step on;
2. `msdk budget recipes/cifar10/dpm-multistage.toml --no-cache`, in seconds;
under three settings: "spinning" is what OpenMP does unless told otherwise, a spinning thread for each core; "asleep"
has as many, whose idle ones sleep; "chosen" is what msdk does. Then, without loops, training of wider networks with one
thread and with all. Prints one JSON line, with the load that the machine had before from others. Aim, never asserted:
"chosen" is at least 0.8 times as fast as the fastest of the three.

`python benchmarks/bench_threads.py --seconds 4`
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

NEIGHBOURS = (0, 1, 2, 4)
WIDTHS = (32, 64, 128)
PATIENCE = 60
"""Seconds within which the first step is to come."""


@contextlib.contextmanager
def busy(count: int) -> Generator[None]:
    """Processes that each want a core, as long as the block runs."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def environment(**settings: str) -> dict[str, str]:
    """That of this process, with nothing said about threads but these settings."""
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "MKL_NUM_THREADS", "MSDK_THREADS")
    return {name: value for name, value in os.environ.items() if name not in names} | settings


def training(env: dict[str, str], seconds: float, width: int = 32) -> float:
    """Images per second of training from the end of its first step on, over so many seconds or one step more."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        changes = ("training.iterations=1000000", "training.log_every=1", f"encoder.channels={width}")
        changes += (f"decoders=[{{name='ddpmpp',channels={width},dropout=0.0}}]",)
        words = ["train", "recipes/digits/unified.toml", "--out", str(metrics.parent)]
        words += [word for change in changes for word in ("--set", change)]
        process = subprocess.Popen(
            [sys.executable, "-m", "msdk", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        begun = time.perf_counter()
        while not metrics.exists() and process.poll() is None and time.perf_counter() - begun < PATIENCE:
            time.sleep(0.1)
        time.sleep(seconds)
        process.terminate()  # it finishes the step in hand
        process.wait()
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    first, last = lines[0], lines[-1]
    if first is last:
        return last["images"] / last["seconds"]
    return (last["images"] - first["images"]) / (last["seconds"] - first["seconds"])


def counting(env: dict[str, str]) -> float:
    """Seconds of a cold count."""
    begun = time.perf_counter()
    words = ["budget", "recipes/cifar10/dpm-multistage.toml", "--no-cache", "--json"]
    subprocess.run([sys.executable, "-m", "msdk", *words], env=env, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="Of each training.")
    parser.add_argument("--runs", type=int, default=len(NEIGHBOURS), help="How many of the loads; 1 is a brief try.")
    asked = parser.parse_args()
    brief = asked.runs == 1
    cores = str(len(os.sched_getaffinity(0)))
    settings = {
        "spinning": environment(OMP_NUM_THREADS=cores, GOMP_SPINCOUNT="300000"),  # libgomp's own number of spins
        "asleep": environment(MSDK_THREADS=cores),
        "chosen": environment(),
    }
    load = Path("/proc/loadavg").read_text().split()[0]
    beside: list[dict[str, Any]] = []
    if brief:
        settings = {"chosen": settings["chosen"]}
    for count in NEIGHBOURS[: asked.runs]:
        with busy(count):
            rates = {name: round(training(env, 0.1 if brief else asked.seconds), 1) for name, env in settings.items()}
            counted = {} if brief else {name: round(counting(env), 2) for name, env in settings.items()}
        beside.append({"neighbours": count, "images_per_second": rates, "budget_seconds": counted})
        print(json.dumps(beside[-1]), file=sys.stderr)
    wide = [
        {"channels": width}
        | {
            number: round(training(environment(MSDK_THREADS=number), asked.seconds, width), 1)
            for number in ("1", cores)
        }
        for width in WIDTHS[: 0 if brief else None]
    ]
    found = {"cores": int(cores), "load_before": float(load), "beside": beside, "images_per_second_by_threads": wide}
    print(json.dumps({"benchmark": "threads", "python": platform.python_version(), "results": found}))


if __name__ == "__main__":
    main()
