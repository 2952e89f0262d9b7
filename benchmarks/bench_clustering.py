"""How fast is the optimal denoiser of a data set, beside its definition and beside the machine's matrix products?

Three figures from one process, on K draws and N images of 3 x 32 x 32:
1. Eq. 4 as it is written, one noisy image at a time in float64 (a few of them);
2. the two dense matrix products of K x 3072 x N that no exact method can do without, by torch.matmul in float32 on
   blocks of the same shapes;
3. `msdk.clusterings.OptimalDenoiser`, reading of the images apart.
Then, with `--over-n`, time and peak memory (VmHWM beyond imports) for N/4 to 4N random images in a process each, and a
plot.
Prints one JSON line. Aims, never asserted: at most 1.7 x the products, at least 500 x the direct evaluation, peak
memory under 2 GB whatever N is.

`python benchmarks/bench_clustering.py --data ../shared/data/cifar10-train-jpeg.zip --draws 4000 --over-n`
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SHAPE = (3, 32, 32)


def status(key: str) -> int:
    """A size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def opened(data: Path | None, count: int) -> Any:
    """The images of a zip file, or that many random ones."""
    import torch

    from msdk.datasets.base import Source
    from msdk.datasets.zip import Zip

    if data is not None:
        return Zip(path=data, size=SHAPE[1]).open()

    class Random(Source):
        digest, labels = "random", None

        def __len__(self) -> int:
            return count

        def read(self, indices: Any) -> torch.Tensor:
            seeded = [torch.Generator().manual_seed(index) for index in indices]
            pixels = torch.stack([torch.randint(0, 256, (3, 8, 8), generator=each) for each in seeded])
            return pixels.to(torch.uint8).repeat_interleave(4, 2).repeat_interleave(4, 3)

    return Random()


def direct(points: Any, samples: int) -> float:
    """Seconds of Eq. 4 for one noisy image, in float64: distances to all images, softmax, weighted sum."""
    import torch

    data = torch.cat(list(points.blocks())).double() / 255
    begun = time.perf_counter()
    for index in range(samples):
        ratio = 0.1 * 4**index
        noisy = data[index] + ratio * torch.randn(data.shape[1], dtype=torch.float64)
        weights = (-(noisy - data).square().sum(1) / (2 * ratio**2)).softmax(0)
        (weights[:, None] * data).sum(0)
    return (time.perf_counter() - begun) / samples


def products(draws: int, count: int) -> float:
    """Seconds of the two products, block by block."""
    import torch

    size, length = 3 * 32 * 32, 4096
    queries, keys = torch.randn(draws, size), torch.randn(length, size)
    logits, out = torch.empty(draws, length), torch.empty(draws, size)
    torch.mm(queries, keys.T, out=logits)
    begun = time.perf_counter()
    for start in range(0, count, length):
        part = min(length, count - start)
        torch.mm(queries, keys[:part].T, out=logits[:, :part])
        torch.mm(logits[:, :part], keys[:part], out=out)
    return time.perf_counter() - begun


def ours(points: Any, draws: int) -> float:
    """Seconds of all comparisons; random images may have no edges, and finding them takes no time beside these."""
    from msdk.clusterings.base import Subject
    from msdk.clusterings.optimal_denoiser import OptimalDenoiser
    from msdk.schedules.vp import VPLinear

    begun = time.perf_counter()
    OptimalDenoiser(draws=draws).compared(Subject(schedule=VPLinear(), points=lambda: points))
    return time.perf_counter() - begun


def alone(count: int, draws: int) -> dict[str, float]:
    """Time and memory on random images; to be called in a fresh process."""
    import torch

    from msdk.clustering.points import DataPoints

    torch.mm(torch.ones(64, 64), torch.ones(64, 64))
    points = DataPoints(opened(None, count), SHAPE)
    before = status("VmRSS")
    seconds = ours(points, draws)
    return {"images": count, "seconds": seconds, "bytes": status("VmHWM") - before}


def plot(rows: list[dict[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    times, memory = figure.subplots(1, 2)
    counts = [row["images"] for row in rows]
    times.loglog(counts, [row["seconds"] for row in rows], "o-")
    times.set_ylabel("seconds")
    memory.semilogx(counts, [row["bytes"] / 1e9 for row in rows], "o-")
    memory.set_ylim(0)
    memory.set_ylabel("peak memory, GB")
    for axes in (times, memory):
        axes.set_xlabel("images N")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="A zip file of 32 x 32 images; random ones when not given.")
    parser.add_argument("--images", type=int, default=5000, help="How many random ones.")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--over-n", action="store_true")
    parser.add_argument("--plot", type=Path, default=Path("clustering-over-n.png"))
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(alone(asked.alone, asked.draws)))
        return
    from msdk.clustering.points import DataPoints

    points = DataPoints(opened(asked.data, asked.images), SHAPE)
    begun = time.perf_counter()
    for _ in points.blocks():
        pass
    reading = time.perf_counter() - begun
    dense: list[float] = []
    streamed: list[float] = []
    for _ in range(asked.runs):
        dense.append(products(asked.draws, points.count))
        streamed.append(ours(points, asked.draws))
    one = direct(points, 3)
    best, ideal = min(streamed), min(dense)
    results: dict[str, Any] = {
        "images": points.count,
        "draws": asked.draws,
        "reading_seconds": reading,
        "products_seconds": dense,
        "products_gflops": 4e-9 * asked.draws * points.count * points.size / ideal,
        "ours_seconds": streamed,
        "ours_over_products": best / ideal,
        "direct_seconds_each": one,
        "direct_over_ours": one * asked.draws / best,
    }
    if asked.over_n:
        command = [sys.executable, __file__, "--draws", str(asked.draws), "--alone"]
        counts = [points.count * 2**k // 4 for k in range(5)]
        rows = [json.loads(subprocess.check_output([*command, str(count)])) for count in counts]
        plot(rows, asked.plot)
        results["over_n"] = rows
    print(json.dumps({"benchmark": "clustering", "python": platform.python_version(), "results": results}))


if __name__ == "__main__":
    main()
