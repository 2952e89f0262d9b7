"""Which part of a plugin makes numbers that are not finite: the image is drawn again, and every part is watched."""

from collections.abc import Callable, Iterable
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from msdk.denoiser import Denoiser
from msdk.samplers.base import Denoise
from msdk.sampling.batches import draw
from msdk.sampling.settings import Settings
from msdk.schedules.base import Schedule
from msdk.wrappers.base import Wrapper


def culprit(denoiser: Denoiser, settings: Settings, seed: int) -> object:
    """The first part whose numbers are not finite although those that it was given are.

    Args:
        denoiser: That drew the image.
        settings: By which it was drawn.
        seed: Of an image that is not finite.
    """
    schedule, recipe = denoiser.schedule, denoiser.recipe
    for t in settings.sampler.times(schedule, settings.steps):
        numbers = torch.tensor([schedule.alpha(t), schedule.sigma(t)]) if t else torch.zeros(1)
        if not numbers.isfinite().all():
            return schedule
        if t and not torch.tensor(attrs.astuple(denoiser.parameterization.coefficients(schedule, t))).isfinite().all():
            return denoiser.parameterization
    blamed: list[object] = []
    network = denoiser.network
    watched: list[tuple[object, Iterable[nn.Module]]] = []
    if recipe is not None:
        watched = [(spec, [module]) for spec, module in zip(recipe.built_encoders, network.encoders, strict=True)]
        watched += [(spec, [module]) for spec, module in zip(recipe.decoders, network.decoders, strict=True)]
    handles = [module.register_forward_hook(_blaming(part, blamed)) for part, each in watched for module in each]
    try:
        wrap = [_Watched(wrapper, blamed) for wrapper in settings.wrap]
        once = attrs.evolve(settings, seeds=[seed], wrap=wrap)
        ((_, latents),) = draw(denoiser, once, decode=False)
    finally:
        for handle in handles:
            handle.remove()
    if blamed:
        return blamed[0]
    return recipe.autoencoder if recipe is not None and _finite(latents) else settings.sampler


def _blaming(part: object, blamed: list[object]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook of a part's network."""

    def look(module: nn.Module, given: Any, made: Any) -> None:
        if not _finite(made) and _finite(given):
            blamed.append(part)

    return look


@attrs.frozen
class _Watched(Wrapper):
    """A wrapper whose estimates are looked at."""

    inner: Wrapper
    blamed: list[object]

    def around(self, denoise: Denoise, schedule: Schedule) -> Denoise:
        given: list[Tensor] = []

        def seen(x: Tensor, t: float) -> Tensor:
            given.append(denoise(x, t))
            return given[-1]

        own = self.inner.around(seen, schedule)

        def call(x: Tensor, t: float) -> Tensor:
            given.clear()
            made = own(x, t)
            if not _finite(made) and _finite((x, *given)):
                self.blamed.append(self.inner)
            return made

        return call


def _finite(value: Any) -> bool:
    """Whether all numbers of tensors, at whatever depth of tuples, are finite."""
    if isinstance(value, tuple):
        return all(map(_finite, value))
    return not isinstance(value, Tensor) or bool(value.isfinite().all())
