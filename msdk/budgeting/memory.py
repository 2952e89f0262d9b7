"""How much memory training and sampling take: simulated on tensors without storage, before any of it is needed.

The order of events counts: old gradients are freed before activations are made, activations while new gradients come.
So a whole step is run, on tensors without storage (`msdk.budgeting.simulating`).
"""

from collections.abc import Iterable, Sequence
from typing import cast

import attrs
import torch
from torch import Tensor, nn

from msdk.budgeting.backward import stage_flops
from msdk.budgeting.requested import Memory, Precision, StageMemory
from msdk.budgeting.simulating import simulated, tensors_of
from msdk.budgeting.training_price import held
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
from msdk.denoiser.declared import built
from msdk.recipe import Recipe
from msdk.threads import threads_for
from msdk.training.drawing import layout
from msdk.training.step import autocast


@threads_for(0)
def memory(recipe: Recipe, *, batch: int | None = None, dtype: Precision | None = None) -> Memory:
    """Simulates training and sampling of a recipe.

    Args:
        recipe: Its stage edges must be known. `accumulation` and `recompute` of its training are honoured.
        batch: Images per step; the recipe's when not given.
        dtype: "fp32", "bf16" or "fp16"; the recipe's precision when not given.

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
    objective = cast("nn.Module", built(options.loss, lambda: options.loss.build(denoiser)))
    weights = [*network.parameters(), *objective.parameters()]
    trained = [parameter for parameter in weights if parameter.requires_grad]
    shares = recipe.training_shares()
    peaks, mixed = training_peaks(recipe, denoiser, micro, shares)
    drawn = [peak for peak, share in zip(peaks, shares, strict=True) if share > 0]
    sampled = min(recipe.sampling.batch_size, recipe.sampling.images)
    return Memory(
        dtype=dtype,
        batch=batch,
        micro_batch=micro,
        held=held(
            options,
            _bytes(weights),
            _bytes(trained),
            autoencoder=0 if denoiser.autoencoder is None else _bytes(tensors_of(denoiser.autoencoder)),
            counters=STEP_COUNTER * len(trained),
        ),
        stages=tuple(
            StageMemory(stage, image, saved, peak)
            for stage, (image, saved, peak) in enumerate(
                zip(activations(recipe, denoiser, 1), activations(recipe, denoiser, micro), peaks, strict=True)
            )
        ),
        peak=max(drawn) if mixed is None else mixed,
        sampling_batch=sampled,
        sampling_peak=sampling_peak(recipe, denoiser, sampled),
        backward_over_forward=tuple(flops.backward / flops.forward for flops in stage_flops(recipe, denoiser)),
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
        x = torch.empty(batch, *copied.fed, memory_format=layout(len(copied.shape) + 1))
        told = condition(recipe, copied, batch, x.device)
        features, of_encoder = None, dict[int, int]()
        with autocast(recipe, x.device):
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
    accumulation = recipe.training.accumulation
    parts = min(accumulation, 2)  # a third micro-batch finds what the second found
    recipe = attrs.evolve(recipe, training=attrs.evolve(recipe.training, accumulation=parts))
    with simulated(denoiser) as (copied, live):
        step = started(recipe, copied)

        def peak(counts: Counts) -> int:
            live.peak = live.now
            step(*trial(recipe, copied, [counts] * parts), 0)
            return live.peak

        alone = [peak({stage: micro}) for stage in range(len(shares))]
        groups = min(max(recipe.training.groups(micro * accumulation) // accumulation, 1), micro)
        mixed = groups > 1 and sum(share > 0 for share in shares) > 1
        return alone, peak(grouped_counts(micro, groups, shares)) if mixed else None


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


def grouped_counts(batch: int, groups: int, shares: Sequence[float]) -> dict[int, int]:
    """Images of each stage in a batch that is cut into groups of one stage each; see `expected_counts`."""
    sizes, rest = divmod(batch, groups)
    counts = {stage: sizes * count for stage, count in expected_counts(groups, shares).items()}
    first = next(iter(counts))
    return {**counts, first: counts[first] + rest}


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
