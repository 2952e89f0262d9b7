"""How long do FID and precision/recall take for 50,000 vectors of 2,048 numbers, and in how much memory?

FID is of two sets of float32 features, from features to the number, and again with the reference's moments kept, as
`msdk evaluate` has them. Precision and recall are timed against what their distances cannot go below: two dense
products of n x d by d x n in float64 (one between the sets, and half of one within each), measured on a piece; in
seconds, and in those of the CPU, which say more beside other work. Each runs in a process of its own, whose peak memory
is that of the process. Prints one line of JSON. Aims, never asserted: FID in 20 s on two cores and 1.5 GB, precision
and recall in 2 GB.

`python benchmarks/bench_metrics.py` (--images 4000 for a small one)
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


def features(images: int, width: int, seed: int) -> torch.Tensor:
    """As Inception's: not negative, correlated, of very different variances."""
    chance = torch.Generator().manual_seed(seed)
    mix = torch.randn(256, width, generator=chance) * torch.linspace(0.05, 1, width)
    found = torch.empty(images, width)
    for start in range(0, images, 4096):
        rows = found[start : start + 4096]
        torch.mm(torch.randn(len(rows), 256, generator=chance), mix / 16, out=rows)
        rows += 0.1 * torch.randn(rows.shape, generator=chance)
        rows.relu_()
    return found


def fid(images: int, width: int) -> dict[str, float]:
    """Seconds from two sets of features to the distance, and from one set and kept moments."""
    from msdk.metrics.frechet import distance, moments_of

    theirs = features(images, width, 1)
    begun = time.perf_counter()
    kept = moments_of(theirs)
    first = time.perf_counter() - begun
    del theirs
    ours = features(images, width, 0)
    between = time.perf_counter()
    own = moments_of(ours)
    counted = time.perf_counter()
    value = distance(own, kept)
    done = time.perf_counter()
    return {
        "value": value,
        "seconds_both": first + done - between,
        "seconds_reference_kept": done - between,
        "seconds_moments_of_one": counted - between,
        "seconds_root": done - counted,
    }


def precision_recall(images: int, width: int) -> dict[str, float]:
    """Seconds of precision and recall, and of two dense products as far as a piece of them tells."""
    from msdk.metrics.neighbours import BLOCK
    from msdk.metrics.neighbours import precision_recall as measured

    ours, theirs = (features(images, width, seed) for seed in (0, 1))
    piece = min(BLOCK, images)
    x, y = ours[:piece].double(), theirs[:piece].double()
    x @ y.T
    begun, worked = time.perf_counter(), time.process_time()
    for _ in range(3):
        x @ y.T
    blocks = 2 * (images / piece) ** 2 / 3
    product, work = (time.perf_counter() - begun) * blocks, (time.process_time() - worked) * blocks
    del x, y
    begun, worked = time.perf_counter(), time.process_time()
    precision, recall = measured(ours, theirs, 3)
    seconds, spent = time.perf_counter() - begun, time.process_time() - worked
    return {
        "precision": precision,
        "recall": recall,
        "seconds": seconds,
        "seconds_two_products": product,
        "times_the_limit": seconds / product,
        "cpu_seconds": spent,
        "cpu_seconds_two_products": work,
        "times_the_limit_in_cpu_seconds": spent / work,
    }


def alone(work: Callable[[int, int], Mapping[str, float]], images: int, width: int) -> dict[str, Any]:
    """What a process of its own finds, and its peak memory."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.SimpleQueue()
    process = context.Process(target=_told, args=(work, images, width, answers))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)
    return answers.get()


def _told(work: Callable[[int, int], Mapping[str, float]], images: int, width: int, answers: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = dict(work(images, width))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    answers.put({**{key: round(value, 4) for key, value in found.items()}, "peak_gb": peak, "imports_gb": before})


def main() -> None:
    """Measures both."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=50_000)
    options.add_argument("--width", type=int, default=2_048)
    options.add_argument("--runs", type=int, help="any number: a tiny one, for tests")
    options.add_argument("--only", choices=("fid", "precision-recall"))
    asked = options.parse_args()
    if asked.runs is not None:
        asked.images, asked.width = 200, 32
    works = {"fid": fid, "precision-recall": precision_recall}
    found = {name: alone(work, asked.images, asked.width) for name, work in works.items() if asked.only in (None, name)}
    about = {
        "images": asked.images,
        "width": asked.width,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    print(json.dumps({**about, "results": found}))


if __name__ == "__main__":
    main()
