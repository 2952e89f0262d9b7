"""How much memory training and sampling take: simulated on tensors without storage, before any of it is needed.

The order of events counts: old gradients are freed before activations are made, activations while new gradients come.
So a whole step is run, on tensors without storage (`msdk.budgeting.simulating`).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from msdk.budgeting.backward import stage_flops
from msdk.budgeting.simulating import simulated, tensors_of
from msdk.budgeting.trials import (
    Counts,
    condition,
    fed,
    micro_batch,
    sampling_call,
    sampling_calls,
    started,
    trial,
    without_weights,
)
from msdk.denoiser import Denoiser, scaled
from msdk.denoiser.building import build
from msdk.noise_levels.base import stage_probabilities
from msdk.recipe import Recipe
from msdk.threads import threads_for
from msdk.training.drawing import layout

Precision = Literal["fp32", "bf16"]


@attrs.frozen
class StageMemory:
    """One stage.

    Attributes:
        index: Of the stage.
        activations_per_image: Bytes that the forward pass of one image leaves for the backward pass: encoder and
            decoder together, what both keep once, without weights and copies of them in another dtype.
        activations: The same for a micro-batch whose images are all in this stage.
        peak: Largest number of bytes in use during a training step whose images are all in this stage.
        backward_over_forward: FLOPs of the backward pass, without recomputation, over those of the forward pass.
    """

    index: int
    activations_per_image: int
    activations: int
    peak: int
    backward_over_forward: float

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "activations_per_image": self.activations_per_image,
            "activations": self.activations,
            "peak": self.peak,
        }


@attrs.frozen
class Memory:
    """What the training and the sampling of a recipe hold in memory, in bytes.

    Attributes:
        dtype: "fp32", or "bf16" for autocast; weights, gradients and averages are float32 in both.
        batch: Images per step.
        micro_batch: Images in memory at a time.
        params: Parameters of the networks.
        gradients: Gradients of those that are trained, of all stages.
        optimizer: What the optimiser keeps: of Adam two moments and a step counter for each trained parameter.
        ema: Averaged weights.
        autoencoder: Weights and buffers of the frozen autoencoder.
        stages: By stage, least noise first.
        peak: Largest number of bytes in use during training. Where batches mix stages, it is that of a micro-batch with
            the expected share of each stage, and at least one image; elsewhere, that of the dearest stage.
        sampling_batch: Images per network call in sampling, before guidance doubles them.
        sampling_peak: Largest number of bytes in use while one batch is sampled and decoded, without what the sampler
            remembers of earlier calls.
    """

    dtype: Precision
    batch: int
    micro_batch: int
    params: int
    gradients: int
    optimizer: int
    ema: int
    autoencoder: int
    stages: tuple[StageMemory, ...]
    peak: int
    sampling_batch: int
    sampling_peak: int

    def as_json(self) -> dict[str, Any]:
        """The object `memory` of docs/contracts.md."""
        return {
            "dtype": self.dtype,
            "batch": self.batch,
            "micro_batch": self.micro_batch,
            "bytes": {
                "params": self.params,
                "gradients": self.gradients,
                "optimizer": self.optimizer,
                "ema": self.ema,
                "autoencoder": self.autoencoder,
            },
            "stages": [stage.as_json() for stage in self.stages],
            "peak": self.peak,
            "sampling_batch": self.sampling_batch,
            "sampling_peak": self.sampling_peak,
            "backward_over_forward": [stage.backward_over_forward for stage in self.stages],
        }


@threads_for(0)
def memory(recipe: Recipe, *, batch: int | None = None, dtype: Precision | None = None) -> Memory:
    """Simulates training and sampling of a recipe.

    Args:
        recipe: Its stage edges must be known. `accumulation` and `recompute` of its training are honoured.
        batch: Images per step; the recipe's when not given.
        dtype: "fp32" or "bf16"; the recipe's precision when not given.

    Raises:
        PartError: The stage edges are not known yet, micro-batches do not divide the batch, or a network does what
            cannot be simulated; the message names the module and the operator.
    """
    options = recipe.training
    batch, dtype = batch or options.batch_size, dtype or options.precision
    micro = micro_batch(recipe, batch)
    recipe = attrs.evolve(without_weights(recipe), training=attrs.evolve(options, batch_size=batch, precision=dtype))
    denoiser = build(recipe, "meta").train()
    network = denoiser.network
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    shares = stage_probabilities(options.stage_draw, options.noise.shares(denoiser.schedule, denoiser.partition))
    peaks, mixed = training_peaks(recipe, denoiser, micro, shares)
    drawn = [peak for peak, share in zip(peaks, shares, strict=True) if share > 0]
    sampled = min(recipe.sampling.batch_size, recipe.sampling.images)
    return Memory(
        dtype=dtype,
        batch=batch,
        micro_batch=micro,
        params=_bytes(network.parameters()),
        gradients=_bytes(trained),
        optimizer=sum(options.rule.moments * _bytes([parameter]) + STEP_COUNTER for parameter in trained),
        ema=_bytes(network.parameters()),
        autoencoder=0 if denoiser.autoencoder is None else _bytes(tensors_of(denoiser.autoencoder)),
        stages=tuple(
            StageMemory(stage, image, saved, peak, flops.backward / flops.forward)
            for stage, (image, saved, peak, flops) in enumerate(
                zip(
                    activations(recipe, denoiser, 1),
                    activations(recipe, denoiser, micro),
                    peaks,
                    stage_flops(recipe, denoiser),
                    strict=True,
                )
            )
        ),
        peak=max(drawn) if mixed is None else mixed,
        sampling_batch=sampled,
        sampling_peak=sampling_peak(recipe, denoiser, sampled),
    )


STEP_COUNTER = 4
"""Bytes of the counter of steps that AdamW has for each parameter; others have less."""


def activations(recipe: Recipe, denoiser: Denoiser, batch: int) -> list[int]:
    """Bytes that the forward pass of a batch saves for the backward pass, for every stage that it may be in.

    A shared encoder runs once, and each decoder once on its features.
    """
    found = list[int]()
    with simulated(denoiser) as (copied, live):
        network = copied.network
        network.set_recompute(recipe.training.recompute)
        x = torch.empty(batch, *copied.shape, memory_format=layout(len(copied.shape) + 1))
        told = condition(recipe, copied, batch, x.device)
        features, of_encoder = None, dict[int, int]()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.training.precision == "bf16"):
            for stage, decoder in enumerate(network.decoders):
                if features is None or not network.shared:
                    c_noise = torch.full((batch,), fed(copied, stage), dtype=torch.float64)
                    with live.saving() as of_encoder:
                        features = network.features(x, c_noise, stage, told)
                with live.saving() as of_decoder:
                    output = scaled(decoder(features), features)
                found.append(sum({**of_encoder, **of_decoder}.values()))
                del output
    return found


def training_peaks(
    recipe: Recipe, denoiser: Denoiser, micro: int, shares: Sequence[float]
) -> tuple[list[int], int | None]:
    """The peak of a training step with all images in one stage, for every stage; and that of a step of mixed stages."""
    parts = min(recipe.training.accumulation, 2)  # a third micro-batch finds what the second found
    recipe = attrs.evolve(recipe, training=attrs.evolve(recipe.training, accumulation=parts))
    with simulated(denoiser) as (copied, live):
        step = started(recipe, copied)

        def peak(counts: Counts) -> int:
            live.peak = live.now
            step(*trial(recipe, copied, [counts] * parts), 0)
            return live.peak

        alone = [peak({stage: micro}) for stage in range(len(shares))]
        mixed = recipe.training.mixed and len(shares) > 1
        return alone, peak(expected_counts(micro, shares)) if mixed else None


def sampling_peak(recipe: Recipe, denoiser: Denoiser, batch: int) -> int:
    """The peak of the network calls of one batch, and of decoding it."""
    with simulated(denoiser) as (copied, live), torch.no_grad():
        copied.eval()
        call = sampling_call(recipe, copied, batch, torch.device("cpu"))
        for t in sampling_calls(recipe, copied).values():
            call(t)
        copied.decode(torch.empty(batch, *copied.shape))
        return live.peak


def expected_counts(batch: int, shares: Sequence[float]) -> dict[int, int]:
    """Images of each stage in a batch: its share, rounded by largest remainders, but one image at least.

    Where the batch is too small for that, the stages with the largest shares get one image each.
    """
    present = sorted((stage for stage, share in enumerate(shares) if share > 0), key=lambda stage: -shares[stage])
    present = sorted(present[:batch])
    counts = dict.fromkeys(present, 1)
    for _ in range(batch - len(present)):
        # The stage that lies furthest below its share gets the next image.
        counts[max(present, key=lambda stage: batch * shares[stage] - counts[stage])] += 1
    return counts


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
