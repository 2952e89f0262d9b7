"""Rules of the counters: MACs of every operator that multiplies matrices, from the shapes of its inputs and outputs."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Handle = Callable[[list[Any], list[Any]], "Counter[str]"]
"""A rule of fvcore: jit values of inputs and outputs -> MACs by the operator's name."""


class NoRuleError(Exception):
    """A use of an operator that its rule does not cover; the text names both."""


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _convolution(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    x, weight, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    transposed = inputs[6].toIValue()
    side = math.prod((x if transposed else out)[2:])
    return Counter(conv=x[0] * math.prod(weight) * side)


def _convolution_mode(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    return Counter(conv=_shape(inputs[0])[0] * math.prod(_shape(inputs[1])) * math.prod(_shape(outputs[0])[2:]))


def _linear(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    return Counter(linear=math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1])


def _addmm(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    return Counter(linear=math.prod(_shape(outputs[0])) * _shape(inputs[1])[-1])


def _matmul(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    left, right = _shape(inputs[0]), _shape(inputs[1])
    return Counter(matmul=math.prod(left) if len(right) == 1 else math.prod(_shape(outputs[0])) * left[-1])


def _batched_addmm(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    left, right = _shape(inputs[1]), _shape(inputs[2])
    return Counter(matmul=math.prod(left) * right[-1])


def _attention(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    query, key, value = (_shape(x) for x in inputs[:3])
    # Heads and batch are those of the output: any operand may be broadcast.
    return Counter(attention=math.prod(_shape(outputs[0])[:-1]) * key[-2] * (query[-1] + value[-1]))


def _tensordot(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    sizes = (math.prod(_shape(x)) for x in (inputs[0], inputs[1], outputs[0]))
    return Counter(matmul=math.isqrt(math.prod(sizes)))  # every letter stands in two of the three


def _bilinear(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    return Counter(linear=math.prod(_shape(inputs[2])) * math.prod(_shape(inputs[0])[:-1]))


def _einsum(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    equation = inputs[0].toIValue().replace(" ", "")
    operands = [_shape(x) for x in inputs[1].node().inputs()]
    path = list(inputs[2].toIValue() or ()) if len(inputs) > 2 else []
    try:
        return Counter(einsum=einsum_macs(equation, operands, path))
    except ValueError as error:
        raise NoRuleError(f"aten::einsum '{equation}'") from error


def einsum_macs(equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] = ()) -> int:
    """MACs of an einsum as torch does it: operands in pairs, each pair a batched product of matrices.

    What is summed in one operand alone is summed before, and a pair with nothing to sum is multiplied element by
    element; neither has MACs.

    Args:
        equation: Without spaces; axes behind `...` are aligned at their ends.
        shapes: Of the operands; an axis of length 1 is broadcast.
        path: Places of the operands of each pair in the list of those that are left; results go to its end. From left
            to right when not given.

    Raises:
        ValueError: The equation does not fit the shapes.
    """
    given, arrow, kept = equation.partition("->")
    if not arrow:
        kept = "..." + "".join(sorted(letter for letter in set(given) - {",", "."} if given.count(letter) == 1))
    sizes = [_axes(names, shape) for names, shape in zip(given.split(","), shapes, strict=True)]
    # Axes of an ellipsis are negative numbers, which only "..." keeps.
    stays = set(kept.replace(".", "")) | (
        {axis for own in sizes for axis in own if isinstance(axis, int)} if "." in kept else set()
    )
    total, pairs = 0, iter(path)
    while len(sizes) > 1:
        places = sorted(itertools.islice(pairs, 2)) if path else [0, 1]
        right, left = sizes.pop(places[1]), sizes.pop(places[0])
        both = {axis: max(left.get(axis, 1), right.get(axis, 1)) for axis in {**left, **right}}
        waiting = {axis for own in sizes for axis, size in own.items() if size != 1}
        over = {axis for axis in both if axis not in stays and axis not in waiting}
        summed = {axis for axis in over if left.get(axis, 1) != 1 and right.get(axis, 1) != 1}
        if summed:
            total += math.prod(size for axis, size in both.items() if axis not in over or axis in summed)
        result = {axis: size for axis, size in both.items() if axis not in over}
        sizes.insert(len(sizes) if path else 0, result)
    return total


def _axes(names: str, shape: Sequence[int]) -> dict[str | int, int]:
    """Length of each axis of an operand, by its letter, or by its place from the end of an ellipsis."""
    before, dots, after = names.partition("...")
    hidden = len(shape) - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise ValueError(f"'{names}' does not name the axes of {list(shape)}")
    letters: list[str | int] = [*before, *range(-hidden, 0), *after]
    found: dict[str | int, int] = {}
    for letter, size in zip(letters, shape, strict=True):
        found[letter] = max(size, found.get(letter, 1))  # a letter that stands twice is a diagonal
    return found


def _recurrent(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    """Every weight matrix of every layer and direction multiplies each step of each sequence once."""
    packed = str(inputs[2].type()) != "List[Tensor]"  # data, lengths, state, weights; else data, state, weights
    data, weights = _shape(inputs[0]), [_shape(x) for x in inputs[3 if packed else 2].node().inputs()]
    return Counter(recurrent=math.prod(data[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) == 2))


def _inner(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    left, right = _shape(inputs[0]), _shape(inputs[1])
    return Counter(matmul=math.prod(_shape(outputs[0])) * left[-1] if left and right else 0)


def _matrix_of_addmv(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    return Counter(matmul=math.prod(_shape(inputs[1])))


RULES: dict[str, Handle] = {
    "aten::_convolution": _convolution,
    "aten::_convolution_mode": _convolution_mode,
    "aten::linear": _linear,
    "aten::addmm": _addmm,
    "aten::mm": _matmul,
    "aten::bmm": _matmul,
    "aten::matmul": _matmul,
    "aten::mv": _matmul,
    "aten::dot": _matmul,
    "aten::baddbmm": _batched_addmm,
    "aten::addbmm": _batched_addmm,
    "aten::tensordot": _tensordot,
    "aten::bilinear": _bilinear,
    "aten::einsum": _einsum,
    "aten::inner": _inner,
    "aten::vdot": _matmul,
    "aten::addmv": _matrix_of_addmv,
    "aten::gru": _recurrent,
    "aten::lstm": _recurrent,
    "aten::rnn_tanh": _recurrent,
    "aten::rnn_relu": _recurrent,
    "aten::scaled_dot_product_attention": _attention,
}
"""Operator -> MACs. What has no rule and is not free (`msdk.budgeting.free_operators`) is shown as uncounted."""


# --- rules that torch's counter lacks ---------------------------------------------------------------------------------


def _vector(left: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(left)


def _plus_vector(_: object, matrix: Sequence[int], *__: object, **___: object) -> int:
    return 2 * math.prod(matrix)


def _three(*arguments: Any, **_: object) -> int:
    operands: tuple[Tensor, ...] = arguments[:3]
    shapes: list[torch.Size] = []
    for operand, new in zip(operands, arguments[3:6], strict=True):
        whole = operand
        for axis in new:
            whole = whole.unsqueeze(axis)
        shapes.append(whole.shape)
    return 2 * math.prod(torch.broadcast_shapes(*shapes))


_three._get_raw = True  # pyright: ignore[reportFunctionMemberAccess]  how the counter knows rules that want tensors

SECOND: dict[Any, Any] = {
    torch.ops.aten.mv: _vector,
    torch.ops.aten.dot: _vector,
    torch.ops.aten.vdot: _vector,
    torch.ops.aten.addmv: _plus_vector,
    torch.ops.aten._trilinear: _three,
}
"""FLOPs of products with a vector and of bilinear maps, which torch's counter takes for nothing."""
