"""Files of weights: safetensors read onto the CPU, and put into a module that they fit."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from msdk.errors import MsdkError, RunError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  a file is no mapping
    except UNREADABLE as error:
        raise RunError(f"the file of weights {path} is damaged: {error}") from error


UNREADABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError, OverflowError)
"""What safetensors raises for a damaged file: its own, and those of making the tensors of a strange header."""


def fill(module: nn.Module, source: Path, prefix: str = "") -> None:
    """Copies weights from a safetensors file into a module, one after the other: no second copy of all is held.

    Args:
        module: Whose names and shapes they must have.
        source: The file; what else is in it, under other prefixes, does not matter.
        prefix: What the module's names begin with there.

    Raises:
        RunError: The file is missing or damaged, or has not all of them, or numbers that are not finite.
    """
    own = module.state_dict()
    buffers = [name for name, _ in module.named_buffers()]
    try:
        with safe_open(source, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  no mapping
            ours = {name: tuple(value.shape) for name, value in own.items()}
            refuse_others(ours, _under(shapes, prefix), source, "recipe")
        for names in _pieces(own):
            # Each time anew, because what was read counts as memory of the process for as long as the file is open.
            with safe_open(source, framework="pt") as file:
                for name in names:
                    value = file.get_tensor(prefix + name)
                    refuse_unusable({name: own[name]}, {name: value}, source, buffers)
                    own[name].copy_(value)
    except MsdkError:
        raise
    except UNREADABLE as error:
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
        RunError: They are another module's, and the message lists the first keys that do not fit; or not finite.
    """
    refuse_misfits(module.state_dict(), weights, source, owner, [name for name, _ in module.named_buffers()])
    module.load_state_dict(weights)


def refuse_misfits(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], source: Path, owner: str, buffers: Collection[str] = ()
) -> None:
    """Raises `RunError` where a file has not the names, shapes and kinds of numbers that are wanted, all finite.

    Args:
        own: Tensors that are wanted.
        found: Those of the file.
        source: The file, for the message.
        owner: What others would belong to, for the message.
        buffers: Names of tensors that may be infinite, as masks are.
    """
    wanted, given = ({name: tuple(value.shape) for name, value in each.items()} for each in (own, found))
    refuse_others(wanted, given, source, owner)
    refuse_unusable(own, found, source, buffers)


def refuse_unusable(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], source: Path, buffers: Collection[str] = ()
) -> None:
    """Raises `RunError` where numbers of a file are of another kind than is wanted, or not finite."""
    wrong = [
        f"{name} is {_dtype(value)} instead of {_dtype(own[name])}"
        for name, value in found.items()
        if (value.is_floating_point(), value.is_complex()) != (own[name].is_floating_point(), own[name].is_complex())
    ]
    wrong += [f"{name} is not finite" for name in not_finite(found, buffers)]
    if wrong:
        raise RunError(f"{source} cannot be used: {_first(wrong)}")


def not_finite(tensors: Mapping[str, Tensor], buffers: Collection[str] = ()) -> list[str]:
    """Names of the tensors with a nan or an infinity; buffers may hold the latter. Waits for each device once."""
    flags: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if value.is_floating_point() or value.is_complex():
            wrong = value.isnan() if name in buffers else ~value.isfinite()
            flags.setdefault(value.device, {})[name] = wrong.any()
    found = {name for some in flags.values() for name, bad in _told(some).items() if bad}
    return [name for name in tensors if name in found]


def _told(flags: Mapping[str, Tensor]) -> dict[str, bool]:
    return dict(zip(flags, torch.stack(list(flags.values())).tolist(), strict=True))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first(wrong: list[str]) -> str:
    return "; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")


def refuse_others(
    own: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: Path, owner: str
) -> None:
    """Raises `RunError` where a file has not the names and shapes that a module has."""
    wrong = [f"missing {key}" for key in own if key not in found]
    wrong += [f"unknown {key}" for key in found if key not in own]
    wrong += [f"{key} is {found[key]} instead of {own[key]}" for key in own if key in found and found[key] != own[key]]
    if wrong:
        raise RunError(f"{source} belongs to another {owner}: {_first(wrong)}")
