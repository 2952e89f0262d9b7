"""What does counting cost, and how far are the tools that people use from the exact count?

1. `msdk budget` of two recipes, cold (an empty cache) and warm (again), as processes: seconds and the largest resident
   size, less those of `python -c "import torch"` in turn with them.
2. One network counted by msdk and by others, each in a process of its own that first builds the network: MACs, how far
   they are from msdk's exact count, seconds of building and counting, and the largest resident size beyond that of
   `import torch`. msdk builds on the meta device, the others need weights. The figures that others call FLOPs, or MACs
   of their own kind, are taken as they document them: fvcore's total and calflops', ptflops' and torchinfo's MACs.

Prints a table on stderr and one JSON line on stdout. Aims, never asserted: CIFAR-10 12 s and 250 MB, LDM 20 s and
400 MB, warm under 1 s. Others that are not installed are left out: `pip install torchinfo calflops ptflops`.

`--runs 1` only tries it out, on the digits.

`python benchmarks/bench_budget.py --runs 3 --networks ddpmpp ldm dit`
"""

import argparse
import importlib.metadata
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RECIPES = {
    "CIFAR-10 multistage": "recipes/cifar10/dpm-multistage.toml",
    "LDM multistage": "recipes/celeba256/ldm-multistage.toml",
}
TRIAL = {"digits": "recipes/digits/unified.toml"}
NETWORKS = {
    **TRIAL,
    "ddpmpp": "recipes/cifar10/edm-unified.toml",
    "ldm": "recipes/celeba256/ldm-unified.toml",
    "dit": "recipes/cifar10/dit-multistage.toml",
}
"""Name -> recipe, whose first stage is counted."""


def network(name: str, device: str) -> Any:
    import msdk

    return msdk.build(msdk.load_recipe(NETWORKS[name]), device).eval()


def feed(name: str) -> list[Any]:
    import torch

    shape = {"ldm": (1, 3, 64, 64), "digits": (1, 1, 8, 8)}.get(name, (1, 3, 32, 32))
    return [torch.randn(shape), torch.full((1,), 0.5)]


def by_msdk(name: str) -> float:
    from msdk.budgeting.parts import count_parts

    denoiser = network(name, "meta")
    counts = count_parts(denoiser, denoiser.shape, ["encoder.0", "decoder.0"])
    return sum(part.macs("exact") for part in counts.values())


def by_fvcore(name: str) -> float:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(network(name, "cpu").stage(0), tuple(feed(name)))
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def by_torch(name: str) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    net = network(name, "cpu").stage(0)
    with FlopCounterMode(display=False) as mode, torch.no_grad():
        net(*feed(name))
    return mode.get_total_flops() / 2


def by_torchinfo(name: str) -> float:
    import torchinfo

    return torchinfo.summary(network(name, "cpu").stage(0), input_data=feed(name), verbose=0).total_mult_adds


def by_calflops(name: str) -> float:
    from calflops import calculate_flops

    net = network(name, "cpu").stage(0)
    return calculate_flops(net, args=feed(name), print_results=False, output_as_string=False)[1]


def by_ptflops(name: str) -> float:
    from ptflops import get_model_complexity_info

    x, c_noise = feed(name)
    macs, _ = get_model_complexity_info(
        network(name, "cpu").stage(0),
        tuple(x.shape[1:]),
        input_constructor=lambda _: {"x": x, "c_noise": c_noise},
        as_strings=False,
        print_per_layer_stat=False,
        backend="pytorch",
    )
    return macs


TOOLS: dict[str, Callable[[str], float]] = {
    "msdk": by_msdk,
    "fvcore": by_fvcore,
    "torch": by_torch,
    "torchinfo": by_torchinfo,
    "calflops": by_calflops,
    "ptflops": by_ptflops,
}


def status(key: str) -> int:
    """A size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def counted(tool: str, name: str) -> dict[str, float]:
    """One count; to be called in a fresh process."""
    import torch  # noqa: F401  its cost is not the tool's

    before, begun = status("VmHWM"), time.perf_counter()
    silent = io.StringIO()
    with redirect_stdout(silent), redirect_stderr(silent):
        macs = TOOLS[tool](name)
    return {"macs": macs, "seconds": time.perf_counter() - begun, "megabytes": (status("VmHWM") - before) / 1e6}


def process(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall time in seconds and largest resident size in MB of a process."""
    begun = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, env={**os.environ, **environment}, cwd=ROOT
    )
    _, state, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(state)
    if child.returncode:
        raise RuntimeError(f"{arguments} failed with {child.returncode}")
    return time.perf_counter() - begun, usage.ru_maxrss * 1024 / 1e6


def recipes(files: dict[str, str], runs: int) -> dict[str, Any]:
    """Counting of recipes by the command."""
    found: dict[str, Any] = {}
    for name, file in files.items():
        rows: dict[str, list[tuple[float, float]]] = {"torch": [], "cold": [], "warm": []}
        for _ in range(runs):
            with tempfile.TemporaryDirectory() as cache:
                command = ["-m", "msdk", "budget", file, "--json"]
                rows["torch"].append(process(["-c", "import torch"], {}))
                rows["cold"].append(process(command, {"MSDK_CACHE": cache}))
                rows["warm"].append(process(command, {"MSDK_CACHE": cache}))
        medians = {key: [statistics.median(column) for column in zip(*row, strict=True)] for key, row in rows.items()}
        beyond = [cold - torch for cold, torch in zip(medians["cold"], medians["torch"], strict=True)]
        found[name] = {
            "cold_seconds_beyond_torch": round(beyond[0], 2),
            "cold_megabytes_beyond_torch": round(beyond[1]),
            "warm_seconds": round(medians["warm"][0], 2),
            "warm_megabytes": round(medians["warm"][1]),
            "import_torch_seconds": round(medians["torch"][0], 2),
        }
        print(name, found[name], file=sys.stderr)
    return found


def tools(names: list[str]) -> dict[str, Any]:
    """The same networks by every tool that is installed."""
    found: dict[str, Any] = {}
    for name in names:
        exact = None
        found[name] = {}
        for tool in TOOLS:
            try:
                importlib.metadata.version(tool)
            except importlib.metadata.PackageNotFoundError:
                continue
            done = subprocess.run(
                [sys.executable, __file__, "--tool", tool, "--networks", name], capture_output=True, text=True, cwd=ROOT
            )
            if done.returncode:
                found[name][tool] = {"failed": done.stderr.strip().splitlines()[-1]}
            else:
                row = json.loads(done.stdout)
                exact = row["macs"] if tool == "msdk" else exact
                row["error_percent"] = None if exact is None else round(100 * (row["macs"] / exact - 1), 3)
                found[name][tool] = {**row, "seconds": round(row["seconds"], 2), "megabytes": round(row["megabytes"])}
            print(name, tool, found[name][tool], file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="ddpmpp by default")
    parser.add_argument("--tool", choices=TOOLS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.tool:
        print(json.dumps(counted(asked.tool, asked.networks[0])))
        return
    trial = asked.runs == 1
    networks = asked.networks or ["digits" if trial else "ddpmpp"]
    results = {"recipes": recipes(TRIAL if trial else RECIPES, asked.runs), "tools": tools(networks)}
    versions: dict[str, str] = {}
    for package in ("torch", "fvcore", "torchinfo", "calflops", "ptflops"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    line = {"benchmark": "budget", "runs": asked.runs, "python": platform.python_version(), "versions": versions}
    print(json.dumps({**line, "results": results}))


if __name__ == "__main__":
    main()
