"""How long do the commands that need no network take, beyond an empty Python?

Runs each command as a process, in turn with `python -c pass` and with a peer's (`timm`'s import, the usual price of a
model zoo's listing), and prints one JSON line: the smallest time of each over the runs, in seconds, and the difference
to the empty process. `python benchmarks/bench_startup.py --runs 5`.
"""

import argparse
import json
import platform
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "msdk --help": ["-m", "msdk", "--help"],
    "msdk list": ["-m", "msdk", "list"],
    "msdk recipe check": ["-m", "msdk", "recipe", "check", "recipes/digits/multistage.toml"],
    "import timm": ["-c", "import timm"],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one process."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):  # in turn, so that a busy moment of the machine hits all of them
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    empty = min(times["python -c pass"])
    found = {name: {"seconds": round(min(t), 3), "beyond_empty": round(min(t) - empty, 3)} for name, t in times.items()}
    versions = {"python": platform.python_version(), "machine": f"{platform.machine()}, {platform.system()}"}
    print(json.dumps({"benchmark": "startup", "runs": runs, **versions, "results": found}))


if __name__ == "__main__":
    main()
