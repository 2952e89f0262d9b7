"""Which stages a step has images of, and how evenly processes share its work, by the law that draws stages."""

from collections.abc import Sequence

import torch
from torch import Generator

from msdk.denoiser import Denoiser
from msdk.recipe import Recipe
from msdk.training.drawing import draw_times, mixed_seed

DRAWN = 64
"""Batches that are drawn to see how unevenly they fall."""


def presence(recipe: Recipe, images: int) -> list[float]:
    """The chance that so many images of a batch have at least one of each stage, as a mean over the training.

    1 - (1 - p)^groups where each group of images draws its stage, see `StageDraw.steps`.
    """
    options = recipe.training
    groups = max(options.groups(options.batch_size) * images // options.batch_size, 1)
    steps = recipe.stage_draw.steps(options.iterations, recipe.natural_shares(), groups)
    return [count / options.iterations for count in steps]


def excess(recipe: Recipe, denoiser: Denoiser, processes: int, flops: Sequence[float]) -> float:
    """FLOPs by which the process with most to do exceeds an equal share, as a mean over batches that training may draw.

    Batches are dealt out as `msdk.training.dealing.deal` does it, micro-batch by micro-batch; a test compares the two.

    Args:
        recipe: Its training is used.
        denoiser: Says which noise levels stages have.
        processes: Divide the micro-batches.
        flops: Of a training image in each stage.
    """
    options = recipe.training
    generator = Generator().manual_seed(mixed_seed(options.seed, "attendance"))
    price = torch.tensor(flops, dtype=torch.float64)
    more = 0.0
    for batch in range(DRAWN):
        iteration = batch * options.iterations // DRAWN  # laws may change on the way
        stages, _ = draw_times(recipe, denoiser, options.batch_size, generator, iteration)
        parts = [price @ hands(own, processes, len(flops)) for own in stages.chunk(options.accumulation)]
        more += float(torch.stack(parts).sum(0).max() - price[stages].sum() / processes)
    return more / DRAWN


def hands(stages: torch.Tensor, processes: int, count: int) -> torch.Tensor:
    """Images of each stage that each process works on in a micro-batch: float64 [stages, processes].

    One that is dealt none of a stage that others have runs it on a repeated image.

    Args:
        stages: int64 [images], of the micro-batch; processes divide it.
        processes: That it is dealt to.
        count: Stages that there are.
    """
    dealt = stages.sort().values.view(-1, processes)
    images = torch.stack([(dealt == stage).sum(0) for stage in range(count)]).double()
    return torch.where((images == 0) & (images.sum(1, keepdim=True) > 0), 1.0, images)
