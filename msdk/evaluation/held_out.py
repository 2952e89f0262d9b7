"""What a denoiser is shown where it is judged itself."""

import torch

from msdk.batch import Batch
from msdk.denoiser import Denoiser
from msdk.metrics.base import Evidence
from msdk.recipe import Recipe
from msdk.training.holding_out import hashes_of, hold_out
from msdk.training.validation import shown

AT_A_TIME = 64


@torch.no_grad()
def shown_to_denoiser(denoiser: Denoiser, recipe: Recipe, most: int | None) -> Evidence:
    """Real images as the network sees them: those that are held out, in the order of their hashes, else all.

    Args:
        denoiser: In eval mode.
        recipe: Its data are read.
        most: Images at most: the first ones of those held out, or of all those with the smallest hashes.
    """
    source = recipe.data.open()
    if recipe.data.held_out:
        split = hold_out(source, recipe.data.held_out)
        held = list(zip(split.hashes, split.held, strict=True))
    else:
        held = sorted(zip(hashes_of(source), range(len(source)), strict=True))
    held = held[:most]
    found: list[Batch] = []
    for start in range(0, len(held), AT_A_TIME):
        read = source.batch([index for _, index in held[start : start + AT_A_TIME]])
        found.append(shown(recipe, denoiser, read, denoiser.place.device))
    whole = found[0]
    for each in found[1:]:
        whole = Batch(torch.cat([whole.images, each.images]), whole.condition.beside(each.condition))
    return Evidence(denoiser=denoiser, recipe=recipe, real=whole, hashes=[content for content, _ in held])
