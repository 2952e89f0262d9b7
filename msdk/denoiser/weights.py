"""Files of weights: safetensors read onto the CPU, and put into a module that they fit; and how it holds them."""

import contextlib
import json
import re
from collections.abc import Collection, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from msdk.errors import MsdkError, PartError, RunError

# --- in a module ------------------------------------------------------------------------------------------------------


def aliases(module: nn.Module) -> dict[str, str]:
    """Further names of the weights and buffers that a module has under several -> the first name of each."""
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, tensor in _named(module):
        known = first.setdefault(id(tensor), name)
        if known != name:
            found[name] = known
    return found


def _named(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


@torch.no_grad()
def settle(module: nn.Module) -> nn.Module:
    """Gives each weight and buffer of a fresh module memory of its own without gaps, whichever way it was made.

    Optimisers walk weights by memory, and what is expanded cannot be written to. A tensor under several names stays
    one.

    Returns:
        The module.

    Raises:
        PartError: A weight shares memory with another tensor without being the same: on one device a change of one
            would change the other, and on another it would not.
    """
    names = {id(tensor): (name, tensor) for name, tensor in _named(module)}
    real = [each for each in names.values() if each[1].layout == torch.strided and each[1].device.type != "meta"]
    # Fake tensors, of which budgets are counted, lie on a device but have no memory there.
    held = [each for each in real if each[1].numel() and each[1].untyped_storage().device.type != "meta"]
    places = sorted((str(tensor.device), *_extent(tensor), name, tensor) for name, tensor in held)
    widest = ("", 0, "", torch.empty(0))
    for device, start, end, name, tensor in places:
        last_device, last_end, other, before = widest
        if device == last_device and start < last_end:
            if isinstance(tensor, nn.Parameter) or isinstance(before, nn.Parameter):
                raise PartError(
                    f"{other} and {name} share memory and are two tensors, which would be one on this device and two "
                    "on another: make them one, `second.weight = first.weight`, or copy with `.clone()`"
                )
            tensor.data = tensor.data.clone()
        if device != last_device or end > last_end:
            widest = (device, end, name, tensor)
    for _, tensor in real:
        settled = tensor.is_contiguous() or (
            tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
        )
        if not settled or tensor.is_conj() or tensor.is_neg():
            tensor.data = tensor.data.resolve_conj().resolve_neg().contiguous()
    return module


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Where a tensor begins and ends in memory."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


# --- files ------------------------------------------------------------------------------------------------------------


SHARDS, OFFSETS = "DCP_SHARDING_INFO", "saved_offsets"
"""Where the header of a shard says at which row of a tensor it goes on: {name: {OFFSETS: [row, 0, ...]}}."""


class Stored:
    """Tensors of an open safetensors file, or of all files of a folder of shards, each of which has rows of them.

    Attributes:
        shapes: Of each tensor.
    """

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._pieces: dict[str, list[tuple[int, Any]]] = {}

    def add(self, file: Any, offsets: Any) -> None:
        """Takes in a file; of shards with what its header says of rows."""
        for name in file.keys():  # noqa: SIM118  a file is no mapping
            first = 0 if offsets is None else int(next(iter(offsets[name][OFFSETS]), 0))
            self._pieces.setdefault(name, []).append((first, file))

    def join(self) -> None:
        """Finds the shapes of what the files have together.

        Raises:
            ValueError: Rows of a tensor are missing, or there twice, or do not belong to each other.
        """
        for name, pieces in self._pieces.items():
            slices = [file.get_slice(name) for _, file in pieces]
            shapes = [tuple(each.get_shape()) for each in slices]
            if len({(each.get_dtype(), shape[1:]) for each, shape in zip(slices, shapes, strict=True)}) > 1:
                raise ValueError(f"the rows of {name} are not of one kind")
            if len(pieces) > 1 and () in shapes:
                raise ValueError(f"{name} is there {len(pieces)} times")
            rows = 0
            for (first, _), shape in sorted(zip(pieces, shapes, strict=True), key=lambda each: each[0][0]):
                if first != rows:
                    raise ValueError(f"the rows of {name} go on with {first} instead of {rows}")
                rows += shape[0] if shape else 0
            self.shapes[name] = (rows, *shapes[0][1:]) if shapes[0] else ()
            pieces.sort(key=lambda piece: piece[0])

    def tensor(self, name: str) -> Tensor:
        """A whole tensor, on the CPU."""
        found: list[Tensor] = [file.get_tensor(name) for _, file in self._pieces[name]]
        return found[0] if len(found) == 1 else torch.cat(found)


@contextlib.contextmanager
def opened(path: Path) -> Generator[Stored]:
    """The tensors of a safetensors file or of a folder of shards, each of which is read when it is asked for.

    Raises:
        RunError: It is missing or damaged, be that found here or by who reads.
    """
    try:
        with contextlib.ExitStack() as files:
            found = Stored()
            for each in _shards(path) if path.is_dir() else [path]:
                file: Any = files.enter_context(safe_open(each, framework="pt"))
                found.add(file, json.loads((file.metadata() or {})[SHARDS]) if path.is_dir() else None)
            found.join()
            yield found
    except MsdkError:
        raise
    except UNREADABLE as error:
        raise RunError(f"the file of weights {path} is damaged: {error}") from error


UNREADABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError)
"""What safetensors raises for a damaged file: its own, and those of making the tensors of a strange header."""

SHARD = re.compile(r"shard-(\d{5})-of-(\d{5})\.safetensors")
"""Name of what one process has written: number, from 1, and number of processes."""


def _shards(path: Path) -> list[Path]:
    found = {each.name: each for each in path.iterdir() if SHARD.fullmatch(each.name)}
    count = max((int(name[-17:-12]) for name in found), default=1)
    wanted = [f"shard-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    if sorted(found) != wanted:
        missing = next((name for name in wanted if name not in found), "")
        raise ValueError(f"{missing} is missing" if missing else "it has shards of two numbers of processes")
    return [found[name] for name in wanted]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file, or a folder of shards, onto the CPU.

    Raises:
        RunError: It is missing or damaged.
    """
    with opened(path) as file:
        return {name: file.tensor(name) for name in file.shapes}


def fill(module: nn.Module, source: Path, prefix: str = "") -> None:
    """Copies weights from a safetensors file into a module, one after the other: no second copy of all is held.

    Args:
        module: Whose names and shapes they must have.
        source: The file; what else is in it, under other prefixes, does not matter.
        prefix: What the module's names begin with there.

    Raises:
        RunError: The file is missing or damaged, or has not all of them, or numbers that are not finite.
    """
    own, also = module.state_dict(), aliases(module)
    buffers = [name for name, _ in module.named_buffers(remove_duplicate=False)]
    with opened(source) as file:
        ours = {name: tuple(value.shape) for name, value in own.items()}
        refuse_others(ours, _under(file.shapes, prefix), source, "recipe")
    for names in _pieces(own):
        # Each time anew, because what was read counts as memory of the process for as long as the file is open.
        with opened(source) as file:
            for name in names:
                value = file.tensor(prefix + name)
                refuse_unusable({name: own[name]}, {name: value}, source, buffers)
                if name in also:
                    refuse_unequal({name: value, also[name]: own[also[name]]}, {name: also[name]}, source)
                own[name].copy_(value)


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
    buffers = [name for name, _ in module.named_buffers(remove_duplicate=False)]
    refuse_misfits(module.state_dict(), weights, source, owner, buffers)
    refuse_unequal(weights, aliases(module), source)
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


def refuse_unequal(found: Mapping[str, Tensor], also: Mapping[str, str], source: Path) -> None:
    """Raises `RunError` where a file has several numbers for what is one tensor under several names, see `aliases`."""
    wrong = [
        f"{name} and {first} are one tensor of the network, and two in the file"
        for name, first in also.items()
        if name in found and first in found and not _equal(found[name], found[first])
    ]
    if wrong:
        raise RunError(f"{source} cannot be used: {_first(wrong)}")


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same, up to the kind of numbers of the second."""
    return torch.equal(one.to(other), other)


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
