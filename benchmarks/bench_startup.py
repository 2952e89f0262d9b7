"""How long do the commands that need no network take, beyond an empty Python?

Runs each command as a process, in turn with `python -c pass` and with a peer's (`timm`'s import, the usual price of a
model zoo's listing), and prints one JSON line: the smallest time of each over the runs, in seconds, and the difference
to the empty process. Two of them run beside 50 made-up plugins with a part each, as if installed; aims, never asserted:
at most 0.3 s beyond the empty process, and no torch.

`python benchmarks/bench_startup.py --runs 5`
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLUGINS = 50

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "msdk --help": ["-m", "msdk", "--help"],
    "msdk list": ["-m", "msdk", "list"],
    "msdk recipe check": ["-m", "msdk", "recipe", "check", "recipes/digits/multistage.toml"],
    "msdk list, 50 plugins": ["-m", "msdk", "list"],
    "a typo in a recipe, 50 plugins": ["-m", "msdk", "recipe", "check", "TYPO"],
    "import timm": ["-c", "import timm"],
}


def make_plugins(site: Path) -> None:
    """Distributions that register a weighting each, whose modules import torch, which nothing may notice."""
    for number in range(PLUGINS):
        (site / f"lab{number}.py").write_text("import torch\n")
        info = site / f"lab{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lab{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[msdk.weightings]\nlab{number} = lab{number}:Part\n")


def seconds(arguments: list[str], site: Path | None) -> float:
    """Wall time of one process."""
    environment = {**os.environ, "PYTHONPATH": str(site)} if site else dict(os.environ)
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    took = time.perf_counter() - begun
    wrong = site is not None and arguments[2] == "recipe"
    if done.returncode != (2 if wrong else 0) or (site is not None and "lab49" not in done.stdout + done.stderr):
        raise RuntimeError(done.stdout + done.stderr)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        make_plugins(site)
        typo = site / "typo.toml"
        base = Path("recipes/digits/unified.toml").resolve()
        typo.write_text(f'extends = "{base}"\nweighting = {{ name = "lab499" }}\n')
        for _ in range(runs):  # in turn, so that a busy moment of the machine hits all of them
            for name, arguments in COMMANDS.items():
                own = [str(typo) if each == "TYPO" else each for each in arguments]
                times[name].append(seconds(own, site if "plugins" in name else None))
    empty = min(times["python -c pass"])
    found = {name: {"seconds": round(min(t), 3), "beyond_empty": round(min(t) - empty, 3)} for name, t in times.items()}
    versions = {"python": platform.python_version(), "machine": f"{platform.machine()}, {platform.system()}"}
    print(json.dumps({"benchmark": "startup", "runs": runs, **versions, "results": found}))


if __name__ == "__main__":
    main()
