"""What only a GPU can show of training, check by check; benchmarks/gpu.sh runs all of them.

Each check prints one JSON line: what was found, what was wanted, whether that is so, and its seconds. With
`--device cpu` they run at a tiny size, which shows that they run, and nothing of GPUs. `table FILE` makes Markdown of
such lines.

`python benchmarks/gpu_checks.py parity --device cuda`
"""

import argparse
import contextlib
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from bench_training import Memory, cifar, looped

import msdk
from msdk.distributed import Rank
from msdk.recipe import Recipe
from msdk.training.drawing import Feed
from msdk.training.loop import Trainer

Found = tuple[Any, str, bool]
"""What was found, what was wanted, and whether that is so."""


@attrs.frozen
class Checks:
    """The checks, on a device: small nets on the CPU, the recipe's own on GPUs."""

    device: str

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    def recipe(self, *more: str, size: str = "small") -> Recipe:
        return cifar("dpm-multistage", size if self.cuda else "tiny", 64 if self.cuda else 4, *more)

    @contextlib.contextmanager
    def trainer(self, recipe: Recipe) -> Any:
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
            yield Trainer(recipe, Path(folder), Memory((3, 32, 32)), [], self.device)

    def parity(self) -> Found:
        """The gradients of one process and of two, which are two streams of one GPU here: NCCL wants a GPU each."""
        found: list[list[torch.Tensor]] = []
        for count in (1, 2):
            with self.trainer(self.recipe()) as trainer:
                step = trainer.step
                step.trained.double()
                for index in range(count):
                    feed = Feed(trainer.recipe, step.denoiser, trainer.feed.source, Rank(index, count))
                    stream = torch.cuda.stream(torch.cuda.Stream()) if self.cuda else contextlib.nullcontext()
                    if self.cuda:
                        torch.cuda.synchronize()
                    with stream:
                        batch, draw, hand, _ = feed(0)
                        batch = batch._replace(images=batch.images.double())
                        draw = attrs.evolve(draw, noise=draw.noise.double())
                        flags = None if hand.counted is None else hand.counted.to(batch.images.device)
                        step._backward(batch, draw, flags, hand.total)
                    if self.cuda:
                        torch.cuda.synchronize()
                found.append([each.grad for each in step.trained.parameters() if each.grad is not None])
        worst = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in zip(*found, strict=True))
        return worst, "<= 1e-10 relative, float64", worst <= 1e-10

    def waiting(self) -> Found:
        """Torch fails on what waits for the device between log lines."""
        with self.trainer(self.recipe("training.flip=true", "training.clip_norm=1.0")) as trainer:
            for _ in range(2):
                trainer.advance()
            if self.cuda:
                torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(3):
                    trainer.advance()
            except RuntimeError as error:
                return str(error).splitlines()[0], "no step waits", False
            finally:
                if self.cuda:
                    torch.cuda.set_sync_debug_mode("default")
        return "none of 3 steps", "no step waits", True

    def precision(self, name: str) -> Found:
        """Losses of a few steps beside those of float32."""
        found: dict[str, float] = {}
        for each in ("fp32", name):
            with self.trainer(self.recipe(f"training.precision={each}")) as trainer:
                values = [trainer.advance()[1].double().mean() for _ in range(20 if self.cuda else 3)]
            found[each] = float(torch.stack(values).mean())
        off = abs(found[name] / found["fp32"] - 1)
        return {"loss": found[name], "loss_fp32": found["fp32"]}, "within 5 % of float32", off <= 0.05

    def bf16(self) -> Found:
        return self.precision("bf16")

    def fp16(self) -> Found:
        return self.precision("fp16")

    def compiled(self) -> Found:
        """Graphs of a compiled net over mixed batches, and what they bring."""
        from torch._dynamo.utils import counters

        plain, compiled = (
            self.recipe(f"training.compile={each}", "training.precision=bf16") for each in ("false", "true")
        )
        if not self.cuda:
            from msdk.training import compiling

            compiling.BACKEND = "eager"  # kernels for a CPU take minutes
        steps, source = 30 if self.cuda else 2, Memory((3, 32, 32))
        rates = [
            recipe.training.batch_size / looped(recipe, source, steps, self.device)["step"]
            for recipe in (plain, compiled)
        ]
        graphs, parts = counters["stats"]["unique_graphs"], 1 + len(plain.decoders)
        told = {"graphs": graphs, "images_per_second": rates[1], "images_per_second_plain": rates[0]}
        return told, f"{parts} graphs", graphs == parts

    def throughput(self) -> Found:
        """Images per second of the net in each precision."""
        rates: dict[str, float] = {}
        for name in ("fp32", "bf16", "fp16"):
            recipe = self.recipe(f"training.precision={name}", size="full")
            rates[name] = (
                recipe.training.batch_size
                / looped(recipe, Memory((3, 32, 32)), 5 if self.cuda else 1, self.device)["step"]
            )
        return rates, "bf16 at least as fast as fp32", not self.cuda or rates["bf16"] >= rates["fp32"]

    def memory(self) -> Found:
        """The peak of training steps beside the budget's estimate."""
        from msdk.budgeting.memory import memory

        recipe = self.recipe("training.precision=bf16")
        estimate = memory(recipe).peak
        if not self.cuda:
            return {"estimate": estimate}, "within 10 % (on a GPU)", True
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with self.trainer(recipe) as trainer:
            for _ in range(5):
                trainer.advance()
        measured = torch.cuda.max_memory_allocated() - before
        told = {"estimate": estimate, "measured": measured, "reserved": torch.cuda.max_memory_reserved()}
        return told, "within 10 %", abs(estimate / measured - 1) <= 0.1

    def resuming(self) -> Found:
        """Losses of a run, and of one that was stopped in the middle."""
        ends: list[float] = []
        for halves in ((6,), (3, 6)):
            state: Any = None
            for steps in halves:
                with self.trainer(self.recipe("training.precision=fp16")) as trainer:
                    if state is not None:
                        trainer.restore(state)
                    while trainer.iteration < steps:
                        last = trainer.advance()[1]
                    kept = trainer.state()
                    cpu = {
                        key: {k: v.cpu().clone() for k, v in getattr(kept, key).items()}
                        for key in ("model", "ema", "optimizer")
                    }
                    state = attrs.evolve(kept, **cpu)
            ends.append(float(last.double().mean()))
        off = abs(ends[1] / ends[0] - 1)
        return off, "<= 1e-3 relative", off <= 1e-3


NAMES = ("parity", "waiting", "bf16", "fp16", "resuming", "compiled", "throughput", "memory")


def told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {told(each)}" for key, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown."""
    first = next((each for each in lines if "device" in each), {})
    title = f"# Training on {first.get('device', 'no device')}, torch {first.get('torch', '?')}"
    rows = ["| check | found | wanted | | seconds |", "| --- | --- | --- | --- | ---: |"]
    for each in lines:
        verdict = {True: "yes", False: "NO"}[each["passed"]]
        rows.append(
            f"| {each['check']} | {told(each['found'])} | {each['wanted']} | {verdict} | {each['seconds']:.1f} |"
        )
    return "\n".join([title, "", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=[*NAMES, "names", "table"])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    if asked.check == "names":
        print("\n".join(NAMES))
        return
    if asked.check == "table":
        print(table([json.loads(line) for line in asked.file.read_text().splitlines()]))
        return
    torch.manual_seed(0)
    begun = time.perf_counter()
    check: Callable[[], Found] = getattr(Checks(asked.device), asked.check)
    found, wanted, passed = check()
    line = {"check": asked.check, "found": found, "wanted": wanted, "passed": bool(passed)}
    line |= {"seconds": time.perf_counter() - begun, "torch": torch.__version__, "msdk": msdk.__version__}
    name = torch.cuda.get_device_name() if asked.device.startswith("cuda") else f"a CPU ({platform.machine()})"
    print(json.dumps({**line, "device": name}))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
