"""Are msdk's U-Nets as fast as their arithmetic allows, and does a batch of mixed stages cost what its stages cost?

Times forward (eval, no gradients) and forward + backward (train, no dropout) of msdk's DDPM++, ADM and LDM U-Nets in
turn with diffusers' UNet2DModel, configured to the same MACs within 5 % (counted, printed, asserted), and of the
multistage CIFAR-10 net in turn with each of its stages alone and with three separate nets, on one mixed batch. A
training step counts as three forward passes of MACs. Prints a table on stderr and one JSON line on stdout. Aims, never
asserted: at least 1.2 times diffusers' MACs per second, and a mixed batch within 1.05 of what its stages predict.

Compare with --channels-last, as msdk trains: without it diffusers' attention still hands on channels-last images, so
most of its convolutions run in that faster layout, and msdk's do not.

Memory is torch.cuda's largest allocation above what stood before on CUDA; on the CPU it is what autograd saves for the
backward pass, each storage once and parameters left out.

diffusers is only needed here: `pip install --group bench` (or `pip install "diffusers>=0.42"`). Without it, msdk is
measured alone. Weights are random; nothing is downloaded.

`python benchmarks/bench_networks.py --runs 10 --size full --device cuda --dtype bf16 --channels-last`
"""

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import attrs
import torch
from torch import Tensor, nn

import msdk
from msdk.budgeting.counting import count_on_meta
from msdk.denoiser import StagedNetwork, StageNetwork

try:
    from diffusers import UNet2DModel
except ImportError:
    UNet2DModel = None
    NOTE = "diffusers is not installed, so msdk is measured alone: pip install --group bench"
else:
    NOTE = ""

Step = Callable[[], Tensor]


@attrs.frozen
class Size:
    """The fields that msdk's encoders share; `attention` are sides in pixels, `head` the width of an attention head."""

    side: int
    channels: int
    mult: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    head: int

    @property
    def groups(self) -> int:
        return min(32, self.channels // 4)


TINY = Size(16, 32, (1, 2), 1, (8,), 32)
SIZES = {
    "ddpmpp": {
        "full": Size(32, 128, (1, 2, 2, 2), 8, (16,), 256),
        "small": Size(32, 64, (1, 2, 2, 2), 4, (16,), 128),
        "tiny": attrs.evolve(TINY, head=64),
    },
    "adm": {
        "full": Size(64, 192, (1, 2, 3, 4), 3, (32, 16, 8), 64),
        "small": Size(32, 64, (1, 2, 3, 4), 2, (16, 8, 4), 64),
        "tiny": TINY,
    },
    "ldm": {
        "full": Size(64, 224, (1, 2, 3, 4), 2, (32, 16, 8), 32),
        "small": Size(32, 64, (1, 2, 3, 4), 2, (16, 8, 4), 32),
        "tiny": TINY,
    },
}
BATCH = {"full": 12, "small": 12, "tiny": 6}
STAGED = {"full": (128, 8), "small": (64, 4), "tiny": (32, 1)}
"""Base width and blocks per level of the multistage net; its decoders have 3/2, 1 and 1/8 of the width."""


def ours(family: str, size: Size) -> nn.Module:
    """One network of msdk: an encoder and a decoder of a family."""
    heads = {} if family == "ddpmpp" else {"head_width": size.head}
    shape, shared = (3, size.side, size.side), {"channels": size.channels, "groups": size.groups, "dropout": 0.0}
    encoder = msdk.encoders.get(family)(
        channel_mult=size.mult, blocks=size.blocks, attention=size.attention, **shared, **heads
    )
    decoder = msdk.decoders.get(family)(**shared, **heads)
    return StageNetwork(encoder.build(shape), decoder.build(encoder.info(shape), shape))


class Theirs(nn.Module):
    """UNet2DModel with the blocks of a family, called as msdk's networks are."""

    def __init__(self, family: str, size: Size) -> None:
        super().__init__()
        resampled = family != "ldm"  # DDPM++ and ADM resample inside residual blocks, LDM by convolutions
        attends = [size.side >> level in size.attention for level in range(len(size.mult))]
        plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if resampled else ("DownBlock2D", "UpBlock2D")
        self.net = UNet2DModel(
            sample_size=size.side,
            block_out_channels=tuple(size.channels * mult for mult in size.mult),
            layers_per_block=size.blocks,
            down_block_types=tuple("AttnDownBlock2D" if attend else plain[0] for attend in attends),
            up_block_types=tuple("AttnUpBlock2D" if attend else plain[1] for attend in reversed(attends)),
            downsample_type="resnet" if resampled else "conv",
            upsample_type="resnet" if resampled else "conv",
            resnet_time_scale_shift="scale_shift" if family == "adm" else "default",
            attention_head_dim=size.head,
            norm_num_groups=size.groups,
        )

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return self.net(x, c_noise, return_dict=False)[0]


def macs_of(net: nn.Module, side: int) -> int:
    """Exact MACs of one image."""
    return count_on_meta(net, [torch.empty(1, 3, side, side, device="meta"), torch.empty(1, device="meta")])[0]


def staged(sharing: str, size: str) -> StagedNetwork:
    """The network of a CIFAR-10 recipe, `dpm-multistage` or one of those with separate encoders, at a size."""
    channels, blocks = STAGED[size]
    widths = (channels,) * 3 if sharing == "separate" else (channels * 3 // 2, channels, channels // 8)
    overrides = [f"encoder.channels={channels}", f"encoder.blocks={blocks}", f"encoder.groups={channels // 8}"]
    for stage, width in enumerate(widths):
        overrides += [
            f"decoders.{stage}.{key}" for key in (f"channels={width}", f"groups={channels // 8}", "dropout=0.0")
        ]
    return msdk.build(msdk.load_recipe(f"recipes/cifar10/{sharing}.toml", [*overrides, "encoder.dropout=0.0"])).network


@attrs.frozen
class Bench:
    """How everything is run."""

    device: torch.device
    runs: int
    bf16: bool
    channels_last: bool
    compile: bool

    def prepared(self, net: nn.Module) -> nn.Module:
        """On the device, in the layout, compiled part by part if asked."""
        net = net.to(self.device)
        if self.channels_last:
            net = net.to(memory_format=torch.channels_last)
        if self.compile:
            parts = [*net.encoders, *net.decoders] if isinstance(net, StagedNetwork) else [net]
            for part in parts:
                part.compile()
        return net

    def images(self, batch: int, side: int) -> tuple[Tensor, Tensor]:
        """Images and noise levels on the device."""
        x, c_noise = torch.randn(batch, 3, side, side), 999 * torch.rand(batch)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return x.to(self.device, memory_format=layout), c_noise.to(self.device)

    def forward(self, net: nn.Module, call: Step) -> Step:
        def step() -> Tensor:
            net.eval()
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                return call()

        return step

    def training(self, net: nn.Module, call: Step) -> Step:
        def step() -> Tensor:
            net.train().zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                output = call()
            loss = output.float().square().mean()
            loss.backward()
            return loss

        return step

    def seconds(self, step: Step) -> float:
        """Wall time of one step, the device waited for."""
        self._wait()
        begun = time.perf_counter()
        step()
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def in_turn(self, steps: Mapping[str, Step]) -> dict[str, float]:
        """Smallest time of each, after warming all of them up: A B A B, so that a busy moment or a drift hits all."""
        for step in steps.values():
            for _ in range(3 if self.device.type == "cuda" or self.compile else 1):
                step()
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(self.runs):
            for name, step in steps.items():
                times[name].append(self.seconds(step))
        return {name: min(found) for name, found in times.items()}

    def memory(self, net: nn.Module, step: Step) -> int:
        """Bytes of one training step, see the top of this file."""
        net.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            self._wait()
            before = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            step()
            self._wait()
            return torch.cuda.max_memory_allocated(self.device) - before
        parameters = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # a hook that returns an output itself makes a cycle, which keeps the graph alive

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            step()
        return sum(saved.values())

    def measure(self, nets: Mapping[str, tuple[nn.Module, Step, float]]) -> dict[str, dict[str, Any]]:
        """Times and memory of every net by name; each comes with its call and the GMACs of it."""
        found: dict[str, dict[str, Any]] = {name: {"gmacs": gmacs} for name, (_, _, gmacs) in nets.items()}
        for kind, passes in (("forward", 1), ("training", 3)):
            steps = {name: getattr(self, kind)(net, call) for name, (net, call, _) in nets.items()}
            for name, seconds in self.in_turn(steps).items():
                found[name][kind] = {"seconds": seconds, "ms_per_gmac": 1e3 * seconds / (passes * nets[name][2])}
            if kind == "training":
                for name, step in steps.items():
                    found[name]["training"]["memory_mib"] = self.memory(nets[name][0], step) / 2**20
        return found


def against_diffusers(bench: Bench, family: str, size: Size, batch: int) -> dict[str, Any]:
    """One family beside its opponent."""
    x, c_noise = bench.images(batch, size.side)
    built = {"msdk": ours(family, size)} | ({} if UNet2DModel is None else {"diffusers": Theirs(family, size)})
    macs = {name: macs_of(net, size.side) for name, net in built.items()}
    for name, count in macs.items():
        assert abs(count / macs["msdk"] - 1) <= 0.05, f"{family}: {name} does other work than msdk, {macs} MACs"
    nets: dict[str, tuple[nn.Module, Step, float]] = {}
    for name, net in built.items():
        prepared = bench.prepared(net)
        nets[name] = (prepared, lambda net=prepared: net(x, c_noise), macs[name] * batch / 1e9)
    found: dict[str, Any] = bench.measure(nets)
    if "diffusers" in found:
        found["speedup_per_mac"] = {
            kind: found["diffusers"][kind]["ms_per_gmac"] / found["msdk"][kind]["ms_per_gmac"]
            for kind in ("forward", "training")
        }
    return found


def against_separate(bench: Bench, size: str, batch: int) -> dict[str, Any]:
    """The multistage net on a batch of mixed stages: beside separate nets, and beside what its stages cost alone."""
    x, c_noise = bench.images(batch, 32)
    stages = torch.arange(batch) % 3
    stages = stages[torch.randperm(batch)]
    counts = torch.bincount(stages, minlength=3).tolist()
    nets: dict[str, tuple[nn.Module, Step, float]] = {}
    macs: list[int] = []
    for name in ("dpm-multistage", "separate-tp", "separate"):
        net = staged(name, size)
        own = [macs_of(StageNetwork(net.encoder(stage), net.decoders[stage]), 32) for stage in range(3)]
        bench.prepared(net)
        gmacs = sum(count * cost for count, cost in zip(counts, own, strict=True)) / 1e9
        nets[name] = (net, lambda net=net: net.route(x, c_noise, stages), gmacs)
        if name == "dpm-multistage":
            macs = own
            for stage in range(3):
                alone = (net, lambda net=net, stage=stage: net(x, c_noise, stage), own[stage] * batch / 1e9)
                nets[f"stage {stage} alone"] = alone
    found: dict[str, Any] = bench.measure(nets)
    for kind in ("forward", "training"):
        mixed = found["dpm-multistage"][kind]["seconds"]
        alone = [found[f"stage {stage} alone"][kind]["seconds"] for stage in range(3)]
        # Stage 1 has the widths of the unified net: its seconds per MAC are those of the plain network.
        by_macs = alone[1] * sum(count * cost for count, cost in zip(counts, macs, strict=True)) / (batch * macs[1])
        by_stages = sum(count * seconds for count, seconds in zip(counts, alone, strict=True)) / batch
        found[f"mixed_over_predicted_{kind}"] = {"by_stage_times": mixed / by_stages, "by_macs": mixed / by_macs}
    return found


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The results for people."""
    lines = [f"{'':32}{'GMACs':>9}{'forward s':>11}{'ms/GMAC':>9}{'training s':>12}{'ms/GMAC':>9}{'MiB':>9}"]
    for subject, found in results.items():
        for name, figures in found.items():
            title = f"{subject}: {name}"
            if "gmacs" in figures:
                forward, training = figures["forward"], figures["training"]
                lines.append(
                    f"{title:32}{figures['gmacs']:9.2f}{forward['seconds']:11.4f}{forward['ms_per_gmac']:9.3f}"
                    f"{training['seconds']:12.4f}{training['ms_per_gmac']:9.3f}{training['memory_mib']:9.1f}"
                )
            else:
                aim = "aim >= 1.2" if name == "speedup_per_mac" else "aim <= 1.05"
                lines.append(f"{title}  {', '.join(f'{key} {value:.3f}' for key, value in figures.items())}  ({aim})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", choices=["full", "small", "tiny"], help="tiny for one run, otherwise small")
    parser.add_argument("--batch", type=int, help="images, a multiple of 3 for stages of equal shares")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="bf16 runs all under autocast")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--only", choices=[*SIZES, "multistage"], help="one subject")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    size = options.size or ("tiny" if options.runs == 1 else "small")
    batch = options.batch or BATCH[size]
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    bench = Bench(device, options.runs, options.dtype == "bf16", options.channels_last, options.compile)
    if NOTE:
        print(NOTE, file=sys.stderr)
    results: dict[str, Any] = {}
    for subject in [options.only] if options.only else [*SIZES, "multistage"]:
        if subject == "multistage":
            results[subject] = against_separate(bench, size, batch)
        else:
            results[subject] = against_diffusers(bench, subject, SIZES[subject][size], batch)
    print(table(results), file=sys.stderr)
    commit = "unknown"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    print(
        json.dumps(
            {
                "benchmark": "networks",
                **{
                    key: getattr(options, key)
                    for key in ("runs", "dtype", "channels_last", "compile", "threads", "seed")
                },
                "size": size,
                "batch": batch,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
                "memory": "torch.cuda.max_memory_allocated" if device.type == "cuda" else "saved for backward",
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
