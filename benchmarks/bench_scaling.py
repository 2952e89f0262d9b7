"""How near is a plan for several processes to what they really take?

Trains a multistage network of 3 M parameters with 1, 2 and 4 gloo processes of one thread on this machine. What the
plan takes for a card is measured beside them: what a process computes in steps that it makes for itself, while the
others do so too, and what gloo carries between them. Prints one JSON line: seconds of a step as planned and as
measured, and their ratio.

`python benchmarks/bench_scaling.py --runs 5`
"""

import argparse
import json
import multiprocessing
import os
import platform
import socket
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import msdk
from msdk.budgeting.cards import Card
from msdk.budgeting.planning import estimate
from msdk.budgeting.scaling import plan
from msdk.budgeting.wires import Wires
from msdk.distributed import Group, this_rank, together
from msdk.training.drawing import Feed
from msdk.training.step import TrainingStep, in_training

SETTINGS = (
    "stages={edges_ratio=[0.3, 2.5]}",
    "encoder.channels=64",
    "decoders.0.channels=96",
    "decoders.1.channels=64",
    "decoders.2.channels=32",
    "training.batch_size=32",
)
SMALL, LARGE = 2**12, 2**24
"""Bytes that are summed up to find latency and bandwidth of gloo."""


def recipe_of() -> Any:
    return msdk.load_recipe("recipes/digits/multistage.toml", list(SETTINGS))


def timed(group: Group, work: Callable[[], object]) -> float:
    """Of a call that all processes begin together."""
    group.wait()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measured(runs: int) -> dict[str, float]:
    """Of this process: FLOP/s without the others, bytes/s and latency of sums with them, and seconds of a step.

    They are timed in turn, so that other work on the machine disturbs all alike; medians, but for the first turn.
    """
    torch.set_num_threads(1)
    recipe = recipe_of()
    prices = [price.forward + price.backward for price in msdk.budget(recipe).image_flops]
    with together(this_rank()) as group:
        denoiser = in_training(msdk.build(recipe))
        feed = Feed(recipe, denoiser, recipe.data.open(), group.rank)
        alone, shared = TrainingStep(recipe, denoiser), TrainingStep(recipe, denoiser, group)
        numbers = [torch.ones(size // 4) for size in (SMALL, LARGE)]
        turns: list[list[float]] = []
        for run in range(runs + 1):
            work = feed(run)
            steps = [partial(step, work.batch, work.draw, run, work.hand) for step in (alone, shared)]
            times = [timed(group, call) for call in (*steps, *(partial(group.total, each) for each in numbers))]
            turns.append([sum(prices[k] for k in work.draw.stages.tolist()) / times[0], *times])
        rate, own, both, small, large = (statistics.median(each) for each in zip(*turns[1:], strict=True))
        count = group.rank.count
    found = {"flops_per_second": rate, "alone": own, "together": both, "latency": 0.0, "bandwidth": 0.0}
    if count > 1:
        found["latency"] = small / (2 * (count - 1))
        found["bandwidth"] = 2 * (count - 1) / count * (LARGE - SMALL) / max(large - small, 1e-9)
    return found


def processes(count: int, runs: int) -> dict[str, float]:
    """What so many processes measure, the slowest of them: they wait for each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    queue: Any = context.Queue()

    def work(rank: int) -> None:
        names = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
        queue.put(measured(runs))

    started = [context.Process(target=work, args=(rank,)) for rank in range(count)]
    for process in started:
        process.start()
    found = [queue.get(timeout=120) for _ in started]
    for process in started:
        process.join()
    lowest = {"flops_per_second", "bandwidth"}
    return {name: (min if name in lowest else max)(each[name] for each in found) for name in found[0]}


def compared(count: int, real: dict[str, float]) -> dict[str, float]:
    """A step of so many processes, as planned from the rates that they have, and as measured."""
    recipe = recipe_of()
    budget = msdk.budget(recipe)
    wires = Wires(1, count, real["bandwidth"] or 1.0, 1.0, real["latency"], 0.0)
    rates: Any = {"fp32": real["flops_per_second"]}
    card = Card("this machine", "this machine", 2**34, rates, wires.link, "PCIe", "measured")
    told = estimate(budget, card, "fp32", utilisation=1.0)
    assert told is not None
    found = plan(recipe, budget, told, card, wires, "ddp")
    return {
        "processes": count,
        **real,
        "planned": found.step.seconds,
        "planned_communication": found.step.communication_seconds,
        "planned_bytes": found.bytes,
        "planned_over_measured": found.step.seconds / real["together"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="+", help="1 2 4; 1 2 for one run")
    asked = parser.parse_args()
    counts = asked.processes or ([1, 2] if asked.runs == 1 else [1, 2, 4])
    # Processes are forked before this one has computed anything: autograd's threads would not survive it.
    real = {count: processes(count, asked.runs) for count in counts}
    results = [compared(count, found) for count, found in real.items()]
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps({"benchmark": "scaling", "cores": os.cpu_count(), **versions, "results": results}))


if __name__ == "__main__":
    main()
