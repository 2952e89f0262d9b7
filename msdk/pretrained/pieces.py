"""How the tensors of a published checkpoint become ours: one piece per original key, in the original's order."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import torch
from einops import rearrange
from torch import Tensor, nn

from msdk.denoiser import StagedNetwork
from msdk.denoiser.building import Parts
from msdk.errors import PartError
from msdk.layers.attention import Attention2d
from msdk.partition import Partition

Convert = Callable[[Tensor], Tensor]


@attrs.frozen
class Piece:
    """One tensor of the original.

    Attributes:
        key: Its name there.
        shape: Its shape there.
        ours: The tensor of ours that it is, or whose next rows it is (q, k and v are one of ours); empty for a
            constant, which msdk computes itself.
        convert: From its layout to ours.
        trained: Whether the original lists it among its trained parameters.
        value: What a constant must be.
    """

    key: str
    shape: tuple[int, ...]
    ours: str = ""
    convert: Convert = lambda tensor: tensor
    trained: bool = True
    value: Tensor | None = None


class Pieces:
    """Collects the pieces of a network while a family walks through it in the original's order.

    Args:
        network: Ours; its modules give names and shapes.
    """

    def __init__(self, network: nn.Module) -> None:
        self.found: list[Piece] = []
        self._names = {module: name for name, module in network.named_modules()}

    def same(self, key: str, module: nn.Module | None) -> None:
        """Weight and bias that have one layout in both; nothing for a module that is not there."""
        if module is None:
            return
        for leaf, parameter in module.named_parameters(recurse=False):
            self.add(f"{key}.{leaf}", tuple(parameter.shape), module, leaf)

    def add(
        self,
        key: str,
        shape: tuple[int, ...],
        module: nn.Module,
        leaf: str,
        convert: Convert | None = None,
        *,
        trained: bool = True,
    ) -> None:
        """A tensor `leaf` of ours, or its next rows, from an original of another layout."""
        self.found.append(Piece(key, shape, f"{self._names[module]}.{leaf}", convert or (lambda x: x), trained))

    def constant(self, key: str, value: Tensor) -> None:
        """A buffer of the original that follows from its configuration."""
        self.found.append(Piece(key, tuple(value.shape), trained=False, value=value))

    def nin(self, key: str, conv: nn.Conv2d | None, rows: int | None = None) -> None:
        """score_sde's NIN: W [in, out] is the transpose of a 1x1 convolution; `rows` for a part of one of ours."""
        if conv is None:
            return
        outputs = rows or conv.out_channels
        self.add(f"{key}.W", (conv.in_channels, outputs), conv, "weight", lambda w: w.T[:, :, None, None])
        self.add(f"{key}.b", (outputs,), conv, "bias")

    def qkv(self, key: str, attention: Attention2d, order: str, *, flat: bool = False) -> None:
        """One projection to q, k and v whose channels the original orders otherwise than we: "(n heads c)".

        Args:
            key: Its name there.
            attention: Ours.
            order: The original's order of channels, say "(heads c n)".
            flat: Whether it is a 1-D convolution there.
        """

        def reordered(tensor: Tensor) -> Tensor:
            tensor = rearrange(tensor, f"{order} ... -> (n heads c) ...", n=3, heads=attention.heads)
            return tensor[..., None] if flat and tensor.ndim == 3 else tensor

        for leaf, parameter in attention.qkv.named_parameters():
            shape = tuple(parameter.shape[:3] if flat else parameter.shape)
            self.add(f"{key}.{leaf}", shape, attention.qkv, leaf, reordered)

    def flat_conv(self, key: str, conv: nn.Conv2d) -> None:
        """A 1x1 convolution that is 1-D in the original."""
        self.add(f"{key}.weight", tuple(conv.weight.shape[:3]), conv, "weight", lambda w: w[..., None])
        self.add(f"{key}.bias", tuple(conv.weight.shape[:1]), conv, "bias")


M = TypeVar("M", bound=nn.Module)


def each(modules: Iterable[nn.Module], kind: type[M]) -> Iterator[M]:
    """Modules of a list that are known to be of one kind."""
    for module in modules:
        assert isinstance(module, kind)
        yield module


@attrs.frozen
class Original:
    """What the configuration of a published network means.

    Attributes:
        parts: Ours that compute the same.
        partition: Its stages.
        pieces: Network built of the parts -> the original's tensors.
    """

    parts: Parts
    partition: Partition
    pieces: Callable[[StagedNetwork], Pieces]


MOST = 20
"""Keys that an error lists of one kind."""


def assembled(pieces: Sequence[Piece], state: Mapping[str, Any], what: str) -> dict[str, Tensor]:
    """The state dict of ours, in float32.

    Raises:
        PartError: Keys are missing, unknown or misshapen, or a constant contradicts the configuration; all are listed.
    """
    by_key = {piece.key: piece for piece in pieces}
    wrong: list[str] = []
    _list(wrong, "missing", [key for key in by_key if key not in state])
    _list(wrong, "unknown", [key for key in state if key not in by_key])
    _list(wrong, "no tensors", [key for key, value in state.items() if not isinstance(value, Tensor)])
    tensors = {key: state[key].detach() for key in by_key if isinstance(state.get(key), Tensor)}
    misshapen = [
        f"{key} is {_shape(tensor.shape)} instead of {_shape(by_key[key].shape)}"
        for key, tensor in tensors.items()
        if tuple(tensor.shape) != by_key[key].shape
    ]
    _list(wrong, "misshapen", misshapen)
    if not wrong:
        constants = [(piece.key, piece.value) for piece in pieces if piece.value is not None]
        others = [key for key, value in constants if not _alike(tensors[key], value)]
        _list(wrong, "constants that the config contradicts", others)
    if wrong:
        raise PartError(f"this is no checkpoint of {what} with that config:\n  " + "\n  ".join(wrong))
    rows: dict[str, list[Tensor]] = {}
    for piece in pieces:
        if piece.ours:
            rows.setdefault(piece.ours, []).append(piece.convert(tensors[piece.key].float()))
    return {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in rows.items()}


def listed(pieces: Sequence[Piece], averages: Sequence[Tensor]) -> dict[str, Tensor]:
    """Names for a list of averages over the trained parameters, in the original's order (score_sde's `shadow_params`).

    Raises:
        PartError: The list has another length.
    """
    keys = [piece.key for piece in pieces if piece.trained]
    if len(keys) != len(averages):
        raise PartError(f"the list of averaged weights has {len(averages)} tensors, but the network trains {len(keys)}")
    return dict(zip(keys, averages, strict=True))


def filter_kernel(taps: Sequence[float]) -> Tensor:
    """EDM's buffer of a resampling filter: [1, 1, n, n], of sum 1."""
    line = torch.tensor(taps, dtype=torch.float64)
    return (torch.outer(line, line) / line.sum() ** 2)[None, None]


def _alike(found: Tensor, wanted: Tensor) -> bool:
    """Equal, but for the rounding of tables that originals build in float32, or store as float16."""
    return torch.allclose(found.double(), wanted.double().to(found.device), rtol=2e-3, atol=1e-6)


def _list(wrong: list[str], kind: str, keys: list[str]) -> None:
    if keys:
        more = f" and {len(keys) - MOST} more" if len(keys) > MOST else ""
        wrong.append(f"{len(keys)} {kind}: {', '.join(keys[:MOST])}{more}")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) if shape else "a single number"
