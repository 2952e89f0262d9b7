"""How many images are drawn at a time: as many as the recipe says, fewer where memory is short."""

import weakref
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from msdk.denoiser import Denoiser
from msdk.denoiser.memory import free_memory
from msdk.sampling import draw
from msdk.sampling.settings import Settings

SHARE = 0.5
"""Of the free memory, what a batch may take: what libraries and allocators take on top is not seen."""


def fitting(denoiser: Denoiser, settings: Settings, sharing: int) -> Settings:
    """Settings whose batch fits into memory: half of it, again and again, until it does.

    It is found by drawing the first image. Where memory suffices nothing changes, so that the same images are drawn by
    any number of processes, in training and afterwards; where it is short, images may differ by rounding.

    Args:
        denoiser: On the device to use.
        settings: How images are drawn.
        sharing: Processes that share the memory of the host; a GPU has one.
    """
    device = denoiser.place.device
    needed = memory_of_an_image(denoiser, settings)
    allowed = SHARE * free_memory(device) / (sharing if device.type == "cpu" else 1)
    size = settings.batch_size
    while size > 1 and size * needed > allowed:
        size //= 2
    return attrs.evolve(settings, batch_size=size)


def memory_of_an_image(denoiser: Denoiser, settings: Settings) -> int:
    """The most bytes that drawing one image holds at a time, weights left out."""
    with _Following(denoiser) as live:
        for _ in draw(denoiser, attrs.evolve(settings, seeds=[settings.seeds[0]])):
            pass
    return live.peak


class _Following(TorchDispatchMode):
    """Follows the storages of what operators return until they are freed."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.now = self.peak = 0
        # Views of weights have their storage.
        self.weights = [each.untyped_storage() for each in (*denoiser.parameters(), *denoiser.buffers())]
        self.known: dict[int, object] = {id(storage): None for storage in self.weights}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self._see(each.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.known:
            return

        def freed(_: object) -> None:
            del self.known[key]
            self.now -= size

        self.known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)
