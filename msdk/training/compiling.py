"""Compiling networks in place: one graph for each part, whatever the mix of stages in a batch.

A part is an encoder, an adapter or a decoder. torch.compile makes another graph wherever a guard fails, and decoders
see what changes from step to step: how many images they get, and where in the batch these begin. So every input says
that its first axis may have any length; a single image, whose 1 a compiler would take for a constant, goes in twice;
and what lies further back in the memory of its batch is handed on as if it lay there alone, without a copy.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, cast

import torch
from torch import Tensor

from msdk.denoiser import StagedNetwork
from msdk.errors import RunError

BACKEND = "inductor"
"""What torch.compile hands graphs to."""


def compile_parts(network: StagedNetwork) -> None:
    """Compiles every part of a network in place: its weights, their names and its hooks stay as they are."""
    for part in (*network.encoders, *network.adapters, *network.decoders):
        # Parts of one class would share the number of graphs that torch allows; older versions know no better.
        own = "isolate_recompiles" in inspect.signature(torch.compile).parameters
        part.compile(backend=BACKEND, **({"isolate_recompiles": True} if own else {}))
        # torch has no place for what is done to the inputs of a compiled module before they are guarded.
        part._compiled_call_impl = _steady(cast("Callable[..., Any]", part._compiled_call_impl))  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


def _steady(call: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled call whose guards hold for any number of images."""

    @functools.wraps(call)
    def called(*inputs: Any, **conditions: Any) -> Any:
        single = _images(inputs[0]) == 1
        given, named = _mapped((inputs, conditions), _twice if single else _at_start)
        _mapped((given, named), _any_length)
        found = call(*given, **named)
        return _mapped(found, lambda tensor: tensor[:1]) if single else found

    return called


def _images(value: Any) -> int:
    """How many images a tensor, or the features of an encoder, are of."""
    return len(value if isinstance(value, Tensor) else value.bottom)


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """A value with every tensor in its tuples and dictionaries changed; tensors of no axis are of no image."""
    if isinstance(value, Tensor):
        return change(value) if value.ndim else value
    if isinstance(value, tuple):
        members = [_mapped(member, change) for member in cast("tuple[Any, ...]", value)]
        return cast("Any", type(value))(*members) if hasattr(value, "_fields") else tuple(members)
    if isinstance(value, dict):
        return {name: _mapped(member, change) for name, member in cast("dict[str, Any]", value).items()}
    return value


def _twice(tensor: Tensor) -> Tensor:
    return cast("Tensor", _Twice.apply(tensor)) if len(tensor) == 1 else tensor


def _any_length(tensor: Tensor) -> None:
    # torch documents it under this name. Where a network does depend on a length, it makes a graph for that one.
    torch._dynamo.maybe_mark_dynamic(tensor, 0)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportPrivateImportUsage]


def _at_start(tensor: Tensor) -> Tensor:
    # Guards are of the batch behind a view too, which a batch of one stage alone has not.
    return cast("Tensor", _Alone.apply(tensor)) if tensor.storage_offset() or tensor._is_view() else tensor


class _Twice(torch.autograd.Function):
    """One image two times, lying in memory as in a batch: guards are of strides too, and `cat` chooses its own."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        strides = (tensor.numel(), *tensor.stride()[1:])
        if 0 in strides:  # of axes that are no numbers of their own
            return torch.cat([tensor, tensor])
        return tensor.new_empty_strided((2, *tensor.shape[1:]), strides).copy_(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient.sum(0, keepdim=True)


class _Alone(torch.autograd.Function):
    """The same numbers in the same memory, as a tensor that knows nothing of what lies before them."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.from_dlpack(tensor.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient


@contextlib.contextmanager
def compilable() -> Generator[None]:
    """Turns what a compiler raises into words: one that is missing, or a network that it cannot compile."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RunError(
            f"torch.compile cannot compile the network here ({reason}): set training.compile to false. On a CPU it "
            "needs a C++ compiler, on CUDA it needs Triton"
        ) from error
