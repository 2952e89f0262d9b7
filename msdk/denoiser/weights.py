"""Files of weights: safetensors read onto the CPU, and put into a module that they fit."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from msdk.errors import RunError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  a file is no mapping
    except (SafetensorError, OSError) as error:
        raise RunError(f"the file of weights {path} is damaged: {error}") from error


def fill(module: nn.Module, source: Path, prefix: str = "") -> None:
    """Copies weights from a safetensors file into a module, one after the other: no second copy of all is held.

    Args:
        module: Whose names and shapes they must have.
        source: The file; what else is in it, under other prefixes, does not matter.
        prefix: What the module's names begin with there.

    Raises:
        RunError: The file is missing or damaged, or has not all of them.
    """
    own = module.state_dict()
    try:
        with safe_open(source, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  no mapping
            ours = {name: tuple(value.shape) for name, value in own.items()}
            refuse_others(ours, _under(shapes, prefix), source, "recipe")
        for names in _pieces(own):
            # Each time anew, because what was read counts as memory of the process for as long as the file is open.
            with safe_open(source, framework="pt") as file:
                for name in names:
                    own[name].copy_(file.get_tensor(prefix + name))
    except (SafetensorError, OSError) as error:
        raise RunError(f"the file of weights {source} is damaged: {error}") from error


PIECE = 64 * 2**20
"""Bytes that are read while a file is open."""


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    piece, size = list[str](), 0
    for name, tensor in tensors.items():
        piece.append(name)
        size += tensor.nbytes
        if size > PIECE:
            yield piece
            piece, size = list[str](), 0
    yield piece


def _under(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def put_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path, owner: str) -> None:
    """Copies weights into a module.

    Args:
        module: Whose names and shapes they must have.
        weights: By name.
        source: The file, for the message.
        owner: What another module would belong to, for the message.

    Raises:
        RunError: They are another module's; the message lists the first keys that do not fit.
    """
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    refuse_others(own, {name: tuple(value.shape) for name, value in weights.items()}, source, owner)
    module.load_state_dict(weights)


def refuse_others(
    own: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: Path, owner: str
) -> None:
    """Raises `RunError` where a file has not the names and shapes that a module has."""
    wrong = [f"missing {key}" for key in own if key not in found]
    wrong += [f"unknown {key}" for key in found if key not in own]
    wrong += [f"{key} is {found[key]} instead of {own[key]}" for key in own if key in found and found[key] != own[key]]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise RunError(f"{source} belongs to another {owner}: {'; '.join(wrong[:3])}{more}")
