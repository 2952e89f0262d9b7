"""What do samplers cost beside the network, and how many images per second come out of the same network?

1. Overhead: each registered sampler (adaptive ones left out) runs 20 steps on one image of 3 x 32 x 32 around a network
   that returns a tensor it was given, so all that is timed is the loop, the grid's coefficients and the arithmetic on
   images; in microseconds per network call. diffusers' DPMSolverMultistepScheduler and azula's zAB sampler (order 2)
   do the same in turn.
2. Images per second: 20 steps of second-order DPM-Solver++ by msdk and by diffusers, and of azula's zAB sampler, each
   around one and the same DDPM++ network of msdk.

Prints a table on stderr and one JSON line on stdout. Aims, never asserted: under 100 microseconds per step and under
1 % of a DDPM++ call; at least as fast as the fastest of the others. Peers that are not installed are left out:
`pip install --group bench`. Weights are random; nothing is downloaded.

`python benchmarks/bench_samplers.py --runs 5 --size full`
"""

import argparse
import importlib.metadata
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import msdk
from msdk.samplers.base import Sampler, run
from msdk.schedules.vp import VPLinear

STEPS = 20
SIZES = {"tiny": (32, 1), "small": (32, 4), "full": (128, 16)}
"""Name -> channels of the network, images per batch."""

SCHEDULE = VPLinear()


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def msdk_loop(
    sampler: Sampler, eps: Callable[[Tensor, float], Tensor], schedule: Any = SCHEDULE
) -> Callable[[Tensor], Tensor]:
    """Sampling by msdk around a network that predicts the noise; its grid is made anew each time."""

    def denoise(x: Tensor, t: float) -> Tensor:
        x = x[:, :3]  # without the velocities of cld
        return (x - schedule.sigma(t) * eps(x, t)) / schedule.alpha(t)

    def loop(x: Tensor) -> Tensor:
        return run(sampler, denoise, schedule, sampler.times(schedule, STEPS), x, lambda x, t, s: torch.randn_like(x))

    return loop


def diffusers_loop(eps: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor], Tensor]:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(num_train_timesteps=1000, beta_schedule="linear")

    def loop(x: Tensor) -> Tensor:
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            x = scheduler.step(eps(x, float(t) / 1000), t, x).prev_sample
        return x

    return loop


def azula_loop(eps: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor], Tensor]:
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule
    from azula.sample import zABSampler

    class Wrapped(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> DiracPosterior:
            alpha, sigma = self.schedule(t)
            return DiracPosterior(mean=(x_t - sigma * eps(x_t, float(t))) / alpha)

    return zABSampler(Wrapped(), order=2, steps=STEPS, silent=True)


def seconds(loops: dict[str, Callable[[Tensor], Tensor]], x: Tensor, runs: int, repeats: int) -> dict[str, float]:
    """Median time of a whole sampling of each, in turn."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    with torch.no_grad():
        for loop in loops.values():
            loop(x)
        for _ in range(runs):
            for name, loop in loops.items():
                begun = time.perf_counter()
                for _ in range(repeats):
                    loop(x)
                times[name].append((time.perf_counter() - begun) / repeats)
    return {name: statistics.median(found) for name, found in times.items()}


def network(channels: int) -> nn.Module:
    """A DDPM++ network of the CIFAR-10 shape."""
    recipe = msdk.load_recipe(
        "recipes/cifar10/edm-unified.toml", [f"encoder.channels={channels}", f"decoders.0.channels={channels}"]
    )
    return msdk.build(recipe).eval().stage(0)


def overhead(runs: int) -> dict[str, Any]:
    """Microseconds per network call outside of the network."""
    x = torch.randn(1, 3, 32, 32)
    answer = torch.randn_like(x)
    loops: dict[str, Callable[[Tensor], Tensor]] = {}
    calls: dict[str, int] = {}
    for name in msdk.samplers.names():
        sampler = msdk.samplers.get(name)()
        schedule = next((one for one in schedules() if runs_on(sampler, one)), None)
        if sampler.adaptive or schedule is None:
            continue
        loops[name] = msdk_loop(sampler, lambda x, t: answer, schedule)
        calls[name] = sum(sampler.calls(STEPS))
    peers: dict[str, Callable[[Any], Callable[[Tensor], Tensor]]] = {"diffusers": diffusers_loop, "azula": azula_loop}
    for package, make in peers.items():
        if version(package):
            loops[f"{package} {'DPM-Solver++ 2M' if package == 'diffusers' else 'zAB 2'}"] = make(lambda x, t: answer)
    found = seconds(loops, x, runs, repeats=5)
    return {name: round(1e6 * value / calls.get(name, STEPS), 1) for name, value in found.items()}


def schedules() -> list[Any]:
    return [SCHEDULE, *(msdk.schedules.get(name)() for name in msdk.schedules.names())]


def runs_on(sampler: Sampler, schedule: Any) -> bool:
    try:
        sampler.check(schedule, STEPS)
        sampler.times(schedule, STEPS)
    except msdk.errors.MsdkError:
        return False
    return True


def throughput(runs: int, size: str) -> dict[str, Any]:
    """Images per second around one network, and the share of a call that the sampler takes."""
    channels, batch = SIZES[size]
    net = network(channels)
    x = torch.randn(batch, 3, 32, 32)

    def eps(x: Tensor, t: float) -> Tensor:
        return net(x, torch.full((1,), t))

    loops = {"msdk DPM-Solver++ 2M": msdk_loop(msdk.samplers.get("dpmpp-2m")(grid="uniform-t"), eps)}
    if version("diffusers"):
        loops["diffusers DPM-Solver++ 2M"] = diffusers_loop(eps)
    if version("azula"):
        loops["azula zAB 2"] = azula_loop(eps)
    loops["the network alone"] = lambda x: [eps(x, 0.5) for _ in range(STEPS)][-1]
    found = seconds(loops, x, runs, repeats=1)
    return {name: round(batch / value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", choices=SIZES, help="tiny for one run, otherwise small")
    asked = parser.parse_args()
    size = asked.size or ("tiny" if asked.runs == 1 else "small")
    results = {
        "microseconds_per_call": overhead(asked.runs),
        "images_per_second": throughput(asked.runs, size),
    }
    for title, rows in results.items():
        print(title, file=sys.stderr)
        for name, value in rows.items():
            print(f"  {name:32} {value:10}", file=sys.stderr)
    line = {
        "benchmark": "samplers",
        "runs": asked.runs,
        "size": size,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "azula")},
        "python": platform.python_version(),
        "results": results,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
