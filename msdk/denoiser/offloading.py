"""Parts of a network that are loaded when their stage runs, in the place of the last stage's: one decoder at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from msdk.denoiser.weights import fill, settle
from msdk.encoders.base import Features


class Shelf:
    """Holds one part at a time.

    Args:
        path: A safetensors file with the weights of all of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name, self.part = "", nn.Module()

    def take(self, name: str, build: Callable[[], nn.Module], like: Tensor) -> nn.Module:
        """A part with its weights, in eval mode; the one that was held before is let go first.

        Args:
            name: What the names of its weights begin with, for example "decoders.1".
            build: Makes the part on the CPU.
            like: Whose device and dtype it is to have.
        """
        if name != self.name:
            self.name, self.part = "", nn.Module()
            part = settle(build()).requires_grad_(False)
            fill(part, self.path, f"{name}.")
            self.name, self.part = name, part.to(like.device, like.dtype).eval()
        return self.part


class Lazy(nn.Module):
    """Stands for a part of a staged network that a shelf holds while it runs; has no weights of its own."""

    def __init__(self, shelf: Shelf, name: str, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self._shelf, self._name, self._build = shelf, name, build

    def forward(self, first: Any, *rest: Any) -> Any:
        like: Tensor = first.bottom if isinstance(first, Features) else first
        return self._shelf.take(self._name, self._build, like)(first, *rest)


class Shelves:
    """Makes the parts of a network so that only those in use are held.

    Args:
        path: A safetensors file with the weights of the staged network.
        separate: Whether each stage has an encoder of its own; a shared one is always held.
    """

    def __init__(self, path: Path, *, separate: bool) -> None:
        self._shelves = {kind: Shelf(path) for kind in ("decoders", *(("encoders", "adapters") if separate else ()))}

    def make(self, name: str, build: Callable[[], nn.Module]) -> nn.Module:
        """See `msdk.denoiser.building.Make`."""
        shelf = self._shelves.get(name.partition(".")[0])
        return build() if shelf is None else Lazy(shelf, name, build)
