"""How fast a recipe really is on a device: images per second of every stage, beside what the device can do at best."""

import contextlib
import functools
import platform
from collections.abc import Callable, Generator
from pathlib import Path

import attrs
import torch

from msdk.budgeting.assembling import budget
from msdk.budgeting.memory import training_peaks
from msdk.budgeting.requested import Precision, StageTiming, Timing
from msdk.budgeting.trials import Counts, micro_batch, started, trial, without_weights
from msdk.denoiser import Denoiser
from msdk.denoiser.building import build, pick_device
from msdk.errors import RunError
from msdk.recipe import Recipe
from msdk.recipe.quantities import written
from msdk.threads import network_macs, threads_for
from msdk.training.step import DTYPES, autocast, in_training

MATRICES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
"""Sides of the square matrices whose products are timed; the fastest counts."""

MAPS = {"cpu": (4, 256, 32), "cuda": (64, 512, 32)}
"""Images, channels and side of the maps whose convolutions are timed too."""


def measure(
    recipe: Recipe,
    *,
    device: str | None = None,
    batch: int | None = None,
    dtype: Precision | None = None,
    seconds: float = 2.0,
) -> Timing:
    """Times network calls and training steps of every stage on made-up images.

    Rates are of the networks: reading and augmenting data, which the loop does between steps, is not in them, encoding
    of latents is.

    Args:
        recipe: Its stage edges must be known.
        device: "cpu", "cuda", "cuda:1", ...
        batch: Images per step, and per network call; the recipe's batch size when not given.
        dtype: "fp32", "bf16" or "fp16", for training and sampling; the recipe's precision when not given.
        seconds: How long to time each of them; at least two runs are made.

    Raises:
        PartError: There is no such device, or the stage edges are not known yet.
        RunError: The device has not enough memory.
    """
    device = pick_device(device)
    where, options = torch.device(device), recipe.training
    batch, dtype = batch or options.batch_size, dtype or options.precision
    micro = micro_batch(recipe, batch)
    costs = budget(recipe, convention="exact")
    recipe = attrs.evolve(without_weights(recipe), training=attrs.evolve(options, batch_size=batch, precision=dtype))
    if where.type == "cpu":
        _refuse_too_large(recipe, micro)
    work = network_macs(build(recipe, "meta").network, recipe.shape, micro)
    with _memory_told(device, batch), torch.random.fork_rng(), threads_for(work):
        threads = torch.get_num_threads()
        peak = matmul_peak(where, dtype, seconds)
        denoiser = build(recipe, where)
        calls = [_call(recipe, denoiser.eval(), stage, batch) for stage in range(len(costs.stages))]
        sampling = [_seconds(call, where, seconds) for call in calls]
        step = started(recipe, in_training(denoiser))

        def update(counts: Counts) -> object:
            return step(*trial(recipe, denoiser, [counts] * options.accumulation), 0)

        training = [
            _seconds(functools.partial(update, {stage: micro}), where, seconds) for stage in range(len(costs.stages))
        ]
    stages = tuple(
        StageTiming(
            index=cost.index,
            sampling_images_per_second=batch / call,
            sampling_utilisation=2 * cost.macs * batch / call / peak,
            training_images_per_second=batch / update,
            training_utilisation=(price.forward + price.backward) * batch / update / peak,
        )
        for cost, price, call, update in zip(costs.stages, costs.image_flops, sampling, training, strict=True)
    )
    images = options.iterations * options.batch_size
    return Timing(
        device=device,
        name=processor(where),
        threads=threads,
        dtype=dtype,
        batch=batch,
        matmul_flops_per_second=peak,
        stages=stages,
        hours=images
        / 3600
        * sum(
            (cost.weights["training"] or 0.0) / stage.training_images_per_second
            for cost, stage in zip(costs.stages, stages, strict=True)
        ),
    )


def matmul_peak(device: torch.device, dtype: Precision, seconds: float) -> float:
    """FLOP/s of the fastest product of matrices in a dtype, on the threads that there are.

    Convolutions are products of matrices too, by another library: on a CPU that MKL is not made for, oneDNN's are twice
    as fast as `torch.mm`. So both are tried.
    """
    found: list[float] = []

    def attempt(flops: int, product: Callable[..., object], *factors: torch.Tensor) -> None:
        run = functools.partial(product, *(factor.to(device, DTYPES[dtype]) for factor in factors))
        found.append(flops / _seconds(run, device, seconds / 4))

    with _as_fast_as_convolutions(device), torch.no_grad():
        for side in MATRICES[device.type]:
            attempt(2 * side**3, torch.mm, torch.randn(side, side), torch.randn(side, side))
        batch, channels, side = MAPS[device.type]
        maps = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
        for kernel in (1, 3):
            weight = torch.randn(channels, channels, kernel, kernel).to(memory_format=torch.channels_last)
            convolve = functools.partial(torch.conv2d, padding=kernel // 2)
            attempt(2 * batch * side**2 * weight.numel(), convolve, maps, weight)
    return max(found)


def processor(device: torch.device) -> str:
    """The name of a device's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(info) if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextlib.contextmanager
def _as_fast_as_convolutions(device: torch.device) -> Generator[None]:
    """On CUDA convolutions may round float32 to TF32 where products of matrices may not: the peak is that of both."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _call(recipe: Recipe, denoiser: Denoiser, stage: int, batch: int) -> Callable[[], object]:
    """A function that estimates x_0 in the middle of a stage, as samplers do."""
    device = next(denoiser.parameters()).device
    low, high = denoiser.partition.times(denoiser.schedule)[stage]
    x = torch.randn(batch, *denoiser.fed, device=device)
    label = torch.zeros(batch, dtype=torch.int64, device=device) if denoiser.classes else None

    def call() -> object:
        with torch.no_grad(), autocast(recipe, device):
            return denoiser(x, (low + high) / 2, label)

    return call


def _seconds(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The median time of a call. torch's timer waits for the device around a block of calls, not between them."""
    from torch.utils.benchmark import Timer

    run()  # kernels are chosen and memory is taken at the first
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
        return timer.blocked_autorange(min_run_time=seconds).median


def _refuse_too_large(recipe: Recipe, micro: int) -> None:
    """A system may end a process that takes more memory than there is, so it is estimated first."""
    available = [int(line.split()[1]) * 1024 for line in _lines(Path("/proc/meminfo")) if "MemAvailable" in line]
    if not available:
        return
    stages = len(recipe.decoders)
    needed = max(training_peaks(recipe, build(recipe, "meta").train(), micro, [1 / stages] * stages)[0])
    if needed > available[0]:
        raise RunError(
            f"training steps of {recipe.training.batch_size} images take about {written(needed, 'B')}, but "
            f"{written(available[0], 'B')} are free: {_SMALLER}"
        )


@contextlib.contextmanager
def _memory_told(device: str, batch: int) -> Generator[None]:
    """Turns a device's lack of memory into words."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = str(error)
        short = "out of memory" in words or "allocate memory" in words or "not enough memory" in words
        if not isinstance(error, MemoryError) and not short:
            raise
        raise RunError(f"{device} has not enough memory for steps of {batch} images: {_SMALLER}") from error


_SMALLER = "use a smaller --batch, or set training.accumulation or training.recompute"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
