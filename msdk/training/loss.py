"""What one training step draws, and the loss of it."""

import hashlib
from collections.abc import Sequence

import attrs
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from msdk.batch import Condition
from msdk.denoiser import Denoiser, per_image
from msdk.noise_levels.base import stage_probabilities
from msdk.recipe import Recipe


@attrs.frozen
class Draw:
    """The noise levels of a batch, on the CPU, so that routing them waits for no device.

    Attributes:
        stages: int64 [batch].
        times: float64 [batch], each inside its stage.
    """

    stages: Tensor
    times: Tensor


def draw_times(recipe: Recipe, denoiser: Denoiser, batch: int, generator: Generator) -> Draw:
    """Draws a stage per image (or one for all of them), then a time inside each."""
    noise, schedule, partition = recipe.training.noise, denoiser.schedule, denoiser.partition
    chances = stage_probabilities(recipe.training.stage_draw, noise.shares(schedule, partition))
    count = batch if recipe.training.mixed else 1
    weights = torch.tensor(chances, dtype=torch.float64)
    stages = torch.multinomial(weights, count, replacement=True, generator=generator).expand(batch)
    return Draw(stages, noise.draw(schedule, partition, stages, generator))


def to_range(images: UInt8[Tensor, "batch c h w"], *, unit_range: bool = False) -> Float[Tensor, "batch c h w"]:
    """Pixels 0 .. 255 to [-1, 1], or to [0, 1] for networks that want that."""
    return images.float() / 255 if unit_range else images.float() / 127.5 - 1


@torch.no_grad()
def encoded(recipe: Recipe, denoiser: Denoiser, images: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
    """What the network learns to denoise: images in [-1, 1], or their scaled latents under the recipe's precision."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.training.precision == "bf16"):
        return denoiser.encode(images).float()


def losses(
    recipe: Recipe,
    denoiser: Denoiser,
    x_0: Float[Tensor, "batch c h w"],
    times: Tensor,
    label: Tensor | None = None,
    augment: Tensor | None = None,
    noise: Float[Tensor, "batch c h w"] | None = None,
) -> Float[Tensor, " batch"]:
    """Weighted squared error of every image, averaged over its pixels.

    The error is taken at the network's output, where target and weight are exact in float64 per image:
    w(t) c_out(t)^2 |F - (a x_0 + b eps)|^2 equals w(t) |x_0 estimate - x_0|^2.

    Args:
        recipe: Its weighting and precision are used.
        denoiser: On the device of the images.
        x_0: Clean images in [-1, 1], or clean latents.
        times: float64 [batch], on the CPU.
        label: Class numbers int64 [batch], -1 for none, on the device of the images.
        augment: Augmentation labels [batch, n], on the device of the images.
        noise: Standard normal noise of the shape of x_0; drawn here when not given.
    """

    def beside(values: Tensor) -> Tensor:
        return per_image(values, x_0)

    schedule, parameterization = denoiser.schedule, denoiser.parameterization
    noise = torch.randn_like(x_0) if noise is None else noise
    x_t = beside(schedule.alpha(times)) * x_0 + beside(schedule.sigma(times)) * noise
    with torch.autocast(x_0.device.type, torch.bfloat16, enabled=recipe.training.precision == "bf16"):
        output, _ = denoiser.output(x_t, times, Condition(label, augment))
    of_image, of_noise = parameterization.target_weights(schedule, times)
    target = beside(of_image) * x_0 + beside(of_noise) * noise
    c_out = parameterization.coefficients(schedule, times).c_out
    weight = beside(recipe.weighting.weight(schedule, times) * c_out * c_out)
    return (weight * (output.float() - target).square()).mean(dim=(1, 2, 3))


def flipped(images: Tensor, generator: Generator) -> Tensor:
    """Mirrors each image left to right with probability 1/2."""
    mirror = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirror.view(-1, 1, 1, 1), images.flip(-1), images)


def batch_indices(first: int, batch: int, images: int, seed: int) -> Sequence[int]:
    """Which images a step reads: position `first` onwards in an endless shuffled order that only the seed decides."""
    found: list[int] = []
    while len(found) < batch:
        epoch, offset = divmod(first + len(found), images)
        order = torch.randperm(images, generator=Generator().manual_seed(mixed_seed(seed, "order", epoch)))
        found += order[offset : offset + batch - len(found)].tolist()
    return found


def mixed_seed(*parts: object) -> int:
    """A 63-bit seed that depends on every part."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1
