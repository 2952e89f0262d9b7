"""What does msdk's training loop cost around its networks, and how fast is it beside other loops around the same ones?

In one run, on images in memory unless it says otherwise:
1. overhead: milliseconds of a step outside forward, backward and the optimiser's step, on the digits and on CIFAR-10's
   multistage net; on CUDA the device is waited for around each part, so what it would have hidden counts in full;
2. data: how long steps wait for images of a zip, read in line, ahead, and from the decoded ones;
3. edm: images/s beside a loop of EDM's structure (a level per image, gradients cleaned and averages taken weight by
   weight, statistics every step) around the same network;
4. diffusers: images/s beside the structure of diffusers' unconditional example (UNet2DModel, one scheduler call, a
   clip, EMAModel, a loss that is read every step) at equal MACs;
5. processes: one process of two threads beside two processes of one, on the CPU;
6. compiled: `training.compile` beside not, with the seconds that compiling takes;
7. stages: a step of the digits' multistage net over one of their unified net, in time of this process alone, and over
   what the MACs of both say; a batch of 64 over three small decoders, whose sizes of batch differ in every step.
Aims, never asserted: 1 ms on the digits and 3 % of a step on CIFAR-10; no waiting; 1.1 times EDM; 1.2 times diffusers;
0.95 of one process; stages 1.1 times what their MACs say. The loops of the others are written here after their
structure. Prints one JSON line.

`python benchmarks/bench_training.py --runs 3`
"""

import argparse
import contextlib
import copy
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from bench_networks import SIZES, Theirs, UNet2DModel, macs_of
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import msdk
from msdk.batch import Batch
from msdk.datasets.base import Source
from msdk.denoiser import StageNetwork
from msdk.distributed import Group, this_rank, together
from msdk.recipe import Recipe
from msdk.training.compiling import compilable
from msdk.training.drawing import Feed
from msdk.training.loop import Step, Trainer

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
WARM = 3
"""Steps before the clock starts."""

TINY = (
    "encoder.channels=8",
    *(f"decoders.{stage}.channels=8" for stage in range(3)),
    "training.batch_size=8",
    "training.ema_decay=0",
)

NETS = {"tiny": (32, 1), "small": (64, 4), "full": (128, 8)}
"""Base width and blocks per level of CIFAR-10's nets; the wider decoder has 3/2 of it, the narrowest 1/8."""


class Memory(Source):
    """Random images in memory."""

    digest, labels = "made up", None

    def __init__(self, shape: Sequence[int], count: int = 512) -> None:
        self.images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> Batch:
        return Batch(self.images[list(indices)])


class Clock:
    """Seconds spent in parts of a step, by name; begun anew after the first steps."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()

    def wait(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **words: Any) -> Any:
            begun = self.wait()
            found = call(*args, **words)
            self.seconds[name] = self.seconds.get(name, 0.0) + self.wait() - begun
            return found

        return run


@contextlib.contextmanager
def parts_timed(trainer: Trainer, clock: Clock) -> Iterator[None]:
    """A trainer whose steps tell a clock how long their parts take."""
    feed, clip = Feed.__call__, nn.utils.clip_grad_norm_
    step: Any = trainer.step
    step._backward = clock.timed("forward_backward", step._backward)
    step.optimizer.step = clock.timed("optimizer", step.optimizer.step)
    if step.ema is not None:
        step.ema.update = clock.timed("averages", step.ema.update)
    Feed.__call__ = clock.timed("reading_and_drawing", feed)  # type: ignore[method-assign]
    nn.utils.clip_grad_norm_ = clock.timed("clipping", clip)
    try:
        yield
    finally:
        Feed.__call__, nn.utils.clip_grad_norm_ = feed, clip  # type: ignore[method-assign]


def looped(
    recipe: Recipe, source: Source, steps: int, device: str = "cpu", group: Group | None = None, *, parts: bool = False
) -> dict[str, float]:
    """Seconds of a step of msdk's own loop, and of its parts if asked; checkpoints are not among them."""
    options = attrs.evolve(recipe.training, iterations=steps + WARM + 1, checkpoint_every=10**9)
    recipe = attrs.evolve(recipe, training=options)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        trainer = Trainer(recipe, Path(folder), source, [], device, group)
        trainer._save = lambda: None  # type: ignore[method-assign]
        clock, waited = Clock(torch.device(device)), 0.0

        def told(step: Step) -> None:
            nonlocal waited
            if len(times) <= steps:  # of the first steps the last one, and each after it but for the run's own last
                if step.iteration == WARM:
                    clock.seconds.clear()
                    waited = trainer.feed.reader.waited
                if step.iteration >= WARM:
                    times.append(clock.wait())
                if step.iteration == WARM + steps:
                    ended.update(clock.seconds, waiting=trainer.feed.reader.waited - waited)

        ended: dict[str, float] = {}
        begun = time.perf_counter()
        with parts_timed(trainer, clock) if parts else contextlib.nullcontext(), compilable():
            trainer.run(told)
    return {
        "step": (times[-1] - times[0]) / steps,
        **{name: seconds / steps for name, seconds in ended.items()},
        "first_steps": times[0] - begun,
    }


def cifar(name: str, size: str, batch: int, *more: str) -> Recipe:
    """A recipe for CIFAR-10 at a size."""
    channels, blocks = NETS[size]
    recipe = msdk.load_recipe(RECIPES / "cifar10" / f"{name}.toml")
    widths = (channels * 3 // 2, channels, channels // 8) if len(recipe.decoders) == 3 else (channels,)
    groups = max(channels // 8, 1)
    changes = [f"encoder.channels={channels}", f"encoder.blocks={blocks}", f"encoder.groups={groups}"]
    for stage, width in enumerate(widths):
        changes += [f"decoders.{stage}.channels={width}", f"decoders.{stage}.groups={groups}"]
        changes += [f"decoders.{stage}.dropout=0.0"]
    if recipe.training.augment:
        changes += ["training.augment=0.0", "encoder.augment=0"]
    changes += ["encoder.dropout=0.0", f"training.batch_size={batch}", "training.mixed=true", "training.log_every=50"]
    return msdk.load_recipe(RECIPES / "cifar10" / f"{name}.toml", [*changes, *more])


def digits(name: str, *more: str) -> Recipe:
    """A recipe for the digits, with edges where it would look for them."""
    edges = ("stages={edges_ratio=[0.3, 2.5]}",) if name == "multistage" else ()
    return msdk.load_recipe(RECIPES / "digits" / f"{name}.toml", [*edges, *more])


def image_flops(recipe: Recipe) -> list[float]:
    """Training FLOPs of an image of each stage, without the optimiser's."""
    return [float(each.forward + each.backward) for each in msdk.budget(recipe).image_flops]


@attrs.frozen
class Bench:
    """How everything is run."""

    device: str
    runs: int
    size: str
    batch: int
    steps: int

    def in_turn(self, loops: dict[str, Callable[[], float]]) -> dict[str, float]:
        """Fewest seconds of a step of each: A B A B, so that a busy moment hits all."""
        found: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(self.runs):
            for name, loop in loops.items():
                found[name].append(loop())
        return {name: min(seconds) for name, seconds in found.items()}

    def overhead(self) -> dict[str, Any]:
        nets = {
            "digits": (digits("multistage"), Memory((1, 8, 8)), 4 * self.steps),
            "cifar10": (cifar("dpm-multistage", self.size, self.batch), Memory((3, 32, 32)), self.steps),
        }
        found: dict[str, Any] = {}
        for name, (recipe, source, steps) in nets.items():
            tries = [looped(recipe, source, steps, self.device, parts=True) for _ in range(self.runs)]
            for each in tries:
                each["outside"] = each["step"] - each["forward_backward"] - each["optimizer"]
            best = min(tries, key=lambda each: each["outside"])
            parts = {f"{part}_ms": 1e3 * seconds for part, seconds in best.items() if part != "first_steps"}
            found[name] = {
                "batch": recipe.training.batch_size,
                **parts,
                "outside_share": best["outside"] / best["step"],
            }
        return found

    def stages(self) -> dict[str, Any]:
        """Both nets, step by step in turn; process time, since waiting for a shared core says nothing about them."""
        trainers: dict[str, Trainer] = {}
        clock = {"cuda": lambda: Clock(torch.device(self.device)).wait()}.get(self.device, time.process_time)
        rounds = 20 * self.steps if self.runs > 1 else 2 * self.steps
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as readers, torch.random.fork_rng():
            for name in ("unified", "multistage"):
                recipe = digits(name)
                recipe = attrs.evolve(recipe, training=attrs.evolve(recipe.training, checkpoint_every=10**9))
                trainers[name] = Trainer(recipe, Path(folder) / name, Memory((1, 8, 8)), [], self.device)
                readers.enter_context(trainers[name].feed.reader)
            prices = {name: image_flops(each.recipe) for name, each in trainers.items()}
            seconds: dict[str, list[float]] = {name: [] for name in trainers}
            for _ in range(rounds):
                for name, trainer in trainers.items():
                    begun = clock()
                    trainer.advance()
                    seconds[name].append(clock() - begun)
        # The first half makes kernels for sizes of batch that it has not seen, which long trainings do not.
        late = {name: sorted(each[rounds // 2 :]) for name, each in seconds.items()}
        seen = {name: trainer.images_by_stage for name, trainer in trainers.items()}
        macs = {
            name: sum(cost * images for cost, images in zip(prices[name], seen[name], strict=True)) for name in seen
        }
        expected = macs["multistage"] / macs["unified"]
        found: dict[str, Any] = {"rounds": rounds, "macs_ratio": expected}
        for share, at in (("quarter", 4), ("median", 2)):
            both = {name: each[len(each) // at] for name, each in late.items()}
            ratio = both["multistage"] / both["unified"]
            milliseconds = {f"{name}_ms": 1e3 * each for name, each in both.items()}
            found[share] = {**milliseconds, "ratio": ratio, "over_macs": ratio / expected}
        return found

    def data(self) -> dict[str, Any]:
        """A tiny net, which leaves little time for it, on images of 32 pixels in a zip."""
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder, in_folder_cache(folder):
            path, numbers = Path(folder) / "images.zip", np.random.default_rng(0)
            smooth = numbers.integers(0, 256, (64, 8, 8, 3), np.uint8)
            with zipfile.ZipFile(path, "w") as file:
                for index, pixels in enumerate(smooth):
                    content = io.BytesIO()
                    Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(content, "PNG")
                    file.writestr(f"{index:04}.png", content.getvalue())
            data = f'data={{name="zip", path="{path}", size=32}}'
            for name, settings in {
                "in line": ("workers=0", "cache_images=false"),
                "ahead": ("cache_images=false",),
                "decoded": ("workers=0",),
                "both": (),
            }.items():
                recipe = digits("multistage", data, *TINY, *(f"training.{each}" for each in settings))
                kept = name in ("decoded", "both")
                if kept:  # what the first epoch decodes is no steady state
                    looped(recipe, recipe.data.open(), 10, self.device)
                one = looped(recipe, recipe.data.open(), 12 if self.runs > 1 else 6, self.device)
                found[name] = {"waiting_ms": 1e3 * one["waiting"], "step_ms": 1e3 * one["step"]}
        return found

    def edm(self) -> dict[str, Any]:
        like_edm = ("training.sanitize=true", "training.clip_norm=0", "training.ema_half_life=500000")
        found: dict[str, Any] = {}
        for name, recipe, source, steps in (
            ("digits", digits("unified", *like_edm), Memory((1, 8, 8)), 2 * self.steps),
            ("cifar10", cifar("edm-unified", self.size, self.batch, *like_edm), Memory((3, 32, 32)), self.steps),
        ):
            found[name] = self.beside(
                "edm", recipe, source, steps, lambda r=recipe, s=source, n=steps: edm_loop(r, s, n, self.device)
            )
        return found

    def diffusers(self) -> dict[str, Any]:
        if UNet2DModel is None:
            return {"skipped": "diffusers is not installed: pip install --group bench"}
        size = SIZES["ddpmpp"]["tiny" if self.size == "tiny" else "small"]
        part = f'name="ddpmpp", channels={size.channels}, groups={size.groups}, dropout=0.0'
        attention = f"attention={list(size.attention)}, channel_mult={list(size.mult)}, blocks={size.blocks}"
        recipe = msdk.load_recipe(
            RECIPES / "cifar10" / "dpm-unified.toml",
            [
                f"encoder={{{part}, {attention}}}",
                f"decoders=[{{{part}}}]",
                f'data={{name="zip", path="none.zip", size={size.side}}}',
                f"training.batch_size={self.batch}",
                "training.log_every=50",
            ],
        )
        theirs, ours = Theirs("ddpmpp", size), msdk.build(recipe, "meta").network
        macs = [macs_of(net, size.side) for net in (StageNetwork(ours.encoder(0), ours.decoders[0]), theirs)]
        assert abs(macs[1] / macs[0] - 1) <= 0.05, f"diffusers does other work than msdk: {macs} MACs"
        source = Memory((3, size.side, size.side))
        loop = lambda: diffusers_loop(theirs.net, recipe, source, self.steps, self.device)  # noqa: E731
        return {"gmacs": [each / 1e9 for each in macs], **self.beside("diffusers", recipe, source, self.steps, loop)}

    def beside(
        self, name: str, recipe: Recipe, source: Source, steps: int, other: Callable[[], float]
    ) -> dict[str, float]:
        """Images per second of msdk's loop and of another."""
        batch = recipe.training.batch_size
        seconds = self.in_turn({"msdk": lambda: looped(recipe, source, steps, self.device)["step"], name: other})
        rates = {f"{one}_images_per_second": batch / each for one, each in seconds.items()}
        return {"batch": batch, **rates, "speedup": seconds[name] / seconds["msdk"]}

    def processes(self) -> dict[str, Any]:
        if self.device != "cpu":
            return {"skipped": "two processes need two devices, or cores of the CPU"}
        if len(os.sched_getaffinity(0)) < 2:
            return {"skipped": "there is one core"}
        seconds = self.in_turn(
            {name: lambda count=count: self.shared(count) for name, count in (("1x2", 1), ("2x1", 2))}
        )
        rates = {f"{name}_images_per_second": self.batch / each for name, each in seconds.items()}
        return {"batch": self.batch, **rates, "speedup": seconds["1x2"] / seconds["2x1"]}

    def shared(self, count: int) -> float:
        """Seconds of a step in so many processes, each with its share of two threads."""
        own = [sys.executable, __file__, "--share", json.dumps([self.size, self.batch, self.steps])]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command = [*torchrun, "--no-python", *own] if count > 1 else own
        env = {**os.environ, "OMP_NUM_THREADS": str(2 // count), "MSDK_THREADS": str(2 // count)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def compiled(self) -> dict[str, Any]:
        if self.runs == 1:
            return {"skipped": "compiling takes minutes on a CPU: --runs 2"}
        source = Memory((3, 32, 32))
        found: dict[str, Any] = {"batch": self.batch}
        for name in ("false", "true"):
            recipe = cifar("dpm-multistage", self.size, self.batch, f"training.compile={name}")
            tries = [
                looped(recipe, source, self.steps, self.device) for _ in range(self.runs if name == "false" else 1)
            ]
            seconds = min(each["step"] for each in tries)
            found["compiled" if name == "true" else "plain"] = {
                "images_per_second": self.batch / seconds,
                "first_steps_seconds": tries[0]["first_steps"],
            }
        found["speedup"] = found["compiled"]["images_per_second"] / found["plain"]["images_per_second"]
        return found


@contextlib.contextmanager
def in_folder_cache(folder: str) -> Iterator[None]:
    """Decoded images are kept in a folder of this run."""
    before = os.environ.get("MSDK_CACHE")
    os.environ["MSDK_CACHE"] = folder
    try:
        yield
    finally:
        os.environ.pop("MSDK_CACHE")
        if before is not None:
            os.environ["MSDK_CACHE"] = before


def endless(source: Source, batch: int, device: str) -> Iterator[Tensor]:
    """Batches of a data loader, epoch after epoch, on the device."""
    images = source.images  # type: ignore[attr-defined]
    loader = DataLoader(TensorDataset(images), batch, shuffle=True, drop_last=True, pin_memory=device != "cpu")
    while True:
        for (each,) in loader:
            yield each.to(device)


def timed_steps(step: Callable[[int], object], steps: int, device: str) -> float:
    """Seconds of a step, the first ones left out."""
    clock = Clock(torch.device(device))
    for number in range(WARM):
        step(number)
    begun = clock.wait()
    for number in range(WARM, WARM + steps):
        step(number)
    return (clock.wait() - begun) / steps


def edm_loop(recipe: Recipe, source: Source, steps: int, device: str) -> float:
    """A loop of EDM's structure around the recipe's network; seconds of a step.

    Karras et al. 2022: a noise level of every image drawn on the device, the preconditioned estimate, the weighted sum
    of squares, the ramp of the learning rate, gradients cleaned one by one, Adam, an average taken weight by weight.
    Maps lie as torch has them by default; that msdk's lie channels last is part of what its loop does.
    """
    options, batch = recipe.training, recipe.training.batch_size
    net = msdk.build(recipe, device).network.train()
    average = copy.deepcopy(net).eval().requires_grad_(False)
    rule = options.rule
    optimizer = torch.optim.Adam(net.parameters(), lr=options.lr, betas=rule.betas, eps=rule.eps)
    batches, sigma_data, mean, std = endless(source, batch, device), 0.5, -1.2, 1.2
    statistics = torch.zeros(3, dtype=torch.float64, device=device)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        y = next(batches).to(torch.float32) / 127.5 - 1
        sigma = (torch.randn(batch, 1, 1, 1, device=device) * std + mean).exp()
        weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
        noisy = y + torch.randn_like(y) * sigma
        spread = (sigma**2 + sigma_data**2).sqrt()
        output = net(noisy / spread, (sigma.log() / 4).flatten(), 0)
        estimate = sigma_data**2 / spread**2 * noisy + sigma * sigma_data / spread * output.to(torch.float32)
        loss = weight * (estimate - y) ** 2
        statistics.add_(torch.stack([torch.ones_like(loss).sum(), loss.detach().sum(), loss.detach().square().sum()]))
        loss.sum().mul(1 / batch).backward()
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(number * batch / 10e6, 1)
        for parameter in net.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimizer.step()
        half_life = min(500_000, number * batch * 0.05)
        beta = 0.5 ** (batch / max(half_life, 1e-8))
        for kept, parameter in zip(average.parameters(), net.parameters(), strict=True):
            kept.copy_(parameter.detach().lerp(kept, beta))
        for kept, buffer in zip(average.buffers(), net.buffers(), strict=True):
            kept.copy_(buffer)

    return timed_steps(step, steps, device)


def diffusers_loop(model: nn.Module, recipe: Recipe, source: Source, steps: int, device: str) -> float:
    """A loop of the structure of diffusers' train_unconditional.py, without accelerate; seconds of a step."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    batch = recipe.training.batch_size
    model = copy.deepcopy(model).to(device).train()
    average = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    average.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rates = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=10_000)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    batches = endless(source, batch, device)

    def step(number: int) -> None:
        clean = next(batches).float() / 127.5 - 1
        noise = torch.randn(clean.shape, dtype=torch.float32, device=device)
        times = torch.randint(0, scheduler.config["num_train_timesteps"], (batch,), device=device).long()
        noisy = scheduler.add_noise(clean, noise, times)
        loss = nn.functional.mse_loss(model(noisy, times).sample.float(), noise.float())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        average.step(model.parameters())
        loss.detach().item()

    return timed_steps(step, steps, device)


def share(size: str, batch: int, steps: int) -> None:
    """What one of several processes does; the first one prints the seconds of a step."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with together(this_rank()) as group:
        found = looped(cifar("dpm-multistage", size, batch), Memory((3, 32, 32)), steps, group=group)
        if group.rank.first:
            print(json.dumps(found["step"]))


SUBJECTS = ("overhead", "data", "edm", "diffusers", "processes", "compiled", "stages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", choices=NETS, help="of CIFAR-10's nets: tiny for one run, otherwise small")
    parser.add_argument("--batch", type=int, help="images of a step on CIFAR-10")
    parser.add_argument("--steps", type=int, help="that are timed in each run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="these subjects")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU, but for two processes")
    parser.add_argument("--share", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.manual_seed(0)
    if asked.share:
        share(*json.loads(asked.share))
        return
    torch.set_num_threads(asked.threads)
    brief = asked.runs == 1
    size, batch, steps = asked.size or ("tiny" if brief else "small"), asked.batch or (4 if brief else 16), asked.steps
    bench = Bench(asked.device, asked.runs, size, batch, steps or (2 if brief else 8))
    results: dict[str, Any] = {}
    for subject in asked.only or SUBJECTS:
        results[subject] = getattr(bench, subject)()
        print(f"{subject}: {json.dumps(results[subject])}", file=sys.stderr)
    commit = "unknown"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    device = torch.device(asked.device)
    print(
        json.dumps(
            {
                "benchmark": "training",
                "runs": asked.runs,
                "size": size,
                "steps": bench.steps,
                "threads": asked.threads,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "msdk": msdk.__version__,
                "diffusers": version("diffusers") if UNet2DModel is not None else None,
                "commit": commit,
                "results": results,
            }
        )
    )


if __name__ == "__main__":
    main()
