"""Rules of the counters: MACs of every operator that multiplies matrices, from the shapes of its inputs and outputs."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, shape_wrapper

Handle = Callable[[list[Any], list[Any]], "Counter[str]"]
"""A rule of fvcore: jit values of inputs and outputs -> MACs by the operator's name."""


class NoRuleError(Exception):
    """A use of an operator that its rule does not cover; the text names both."""


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def numbers(value: Any) -> Any:
    """What is no tensor: a number, a list of them, or None."""
    if value.node().kind() == "prim::ListConstruct":
        return [each.toIValue() for each in value.node().inputs()]
    return value.toIValue()


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


def fft_macs(numbers: int, lengths: Sequence[int], *, real: bool) -> int:
    """MACs of Fourier transforms by the usual account, which no algorithm is far from, whatever it does in detail.

    A transform of n complex numbers is 5 n log2(n) FLOPs, of real ones (to or from half a spectrum) half of that.
    Source: benchFFT, the benchmark of FFTW (Frigo and Johnson 2005, doi 10.1109/JPROC.2004.840301).

    Args:
        numbers: In all transforms together, on the side where they are real, if one is.
        lengths: Of the axes that are transformed.
        real: Whether one side is real.
    """
    return round((1.25 if real else 2.5) * numbers * math.log2(max(math.prod(lengths), 1)))


def _fourier(axes: int | None, spectrum: Literal["whole", "half", "back"]) -> Handle:
    """The rule of a family of torch.fft: transforms of one axis, of two, or (None) of any.

    Args:
        axes: How many.
        spectrum: "whole" in and out, "half" of it for a real input, or "back" from a half to a real output.
    """

    def rule(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
        shape, given, dims = _shape(outputs[0]), numbers(inputs[1]), numbers(inputs[2])
        if axes == 1:
            given, dims = None if given is None else [given], [dims]
        if dims is None:
            dims = list(range(-len(shape if given is None else given), 0))
        if spectrum == "half":
            shape[dims[-1]] = _shape(inputs[0])[dims[-1]] if given is None or given[-1] == -1 else given[-1]
        real = spectrum != "whole" or (axes == 1 and not _is_complex(inputs[0]))
        return Counter(fft=fft_macs(math.prod(shape), [shape[dim] for dim in dims], real=real))

    return rule


def _stft(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    """Each frame is one transform."""
    length, out = inputs[1].toIValue(), _shape(outputs[0])
    frames = math.prod(out[:-3]) * out[-2] if not _is_complex(outputs[0]) else math.prod(out[:-2]) * out[-1]
    return Counter(fft=fft_macs(frames * length, [length], real=not _is_complex(inputs[0])))


def _is_complex(value: Any) -> bool:
    return "Complex" in str(value.type().scalarType())


def _cdist(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    """Euclidean distances: a difference squared and summed is a MAC; for many points torch multiplies matrices."""
    (*_, few, width), (*_, many, _), p = _shape(inputs[0]), _shape(inputs[1]), inputs[2].toIValue()
    if p != 2:
        raise NoRuleError(f"aten::cdist of p = {p:g}")
    mode = inputs[3].toIValue() or 0
    product = mode == 1 or (mode == 0 and max(few, many) > 25)  # of [-2 x, |x|^2, 1] and [y, 1, |y|^2]
    return Counter(matmul=math.prod(_shape(outputs[0])) * (width + 2 if product else width))


def _inner(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    left, right = _shape(inputs[0]), _shape(inputs[1])
    return Counter(matmul=math.prod(_shape(outputs[0])) * left[-1] if left and right else 0)


def _vecdot(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    """Of two vectors a product; of many torch multiplies element by element and sums, which costs no MACs."""
    sizes = [_shape(x) for x in inputs[:2]]
    return Counter(matmul=sizes[0][0] if len(sizes[0]) == len(sizes[1]) == 1 else 0)


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
    "aten::linalg_vecdot": _vecdot,
    "aten::addmv": _matrix_of_addmv,
    "aten::gru": _recurrent,
    "aten::lstm": _recurrent,
    "aten::rnn_tanh": _recurrent,
    "aten::rnn_relu": _recurrent,
    "aten::scaled_dot_product_attention": _attention,
    "aten::cdist": _cdist,
    "aten::stft": _stft,
    "aten::fft_fft": _fourier(1, "whole"),
    "aten::fft_ifft": _fourier(1, "whole"),
    "aten::fft_fft2": _fourier(2, "whole"),
    "aten::fft_ifft2": _fourier(2, "whole"),
    "aten::fft_fftn": _fourier(None, "whole"),
    "aten::fft_ifftn": _fourier(None, "whole"),
    "aten::fft_rfft": _fourier(1, "half"),
    "aten::fft_ihfft": _fourier(1, "half"),
    "aten::fft_rfft2": _fourier(2, "half"),
    "aten::fft_rfftn": _fourier(None, "half"),
    "aten::fft_irfft": _fourier(1, "back"),
    "aten::fft_hfft": _fourier(1, "back"),
    "aten::fft_irfft2": _fourier(2, "back"),
    "aten::fft_irfftn": _fourier(None, "back"),
}
"""Operator -> MACs of real numbers. What has no rule and is not free (`msdk.budgeting.free_operators`) is uncounted."""


COMPLEX = 4
"""MACs of real numbers in one of complex ones."""


def macs_of(operator: str, inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    """MACs of one call of an operator that has a rule, of real numbers.

    Raises:
        NoRuleError: The rule does not cover this use.
    """
    found = RULES[operator](inputs, outputs)
    if _is_complex(outputs[0]) and "fft" not in found:
        return Counter({name: COMPLEX * macs for name, macs in found.items()})
    return found


# --- rules that torch's counter lacks ---------------------------------------------------------------------------------


def _vector(left: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(left)


def _plus_vector(_: object, matrix: Sequence[int], *__: object, **___: object) -> int:
    return 2 * math.prod(matrix)


def _plus_batches(_: object, left: Sequence[int], right: Sequence[int], *__: object, **___: object) -> int:
    return 2 * math.prod(left) * right[-1]


def _three(*arguments: Any, **_: object) -> int:
    operands: tuple[Tensor, ...] = arguments[:3]
    shapes: list[torch.Size] = []
    for operand, new in zip(operands, arguments[3:6], strict=True):
        whole = operand
        for axis in new:
            whole = whole.unsqueeze(axis)
        shapes.append(whole.shape)
    return 2 * math.prod(torch.broadcast_shapes(*shapes))


def _whole_spectrum(x: Tensor, dims: Sequence[int], *_: object, **__: object) -> int:
    return 2 * fft_macs(x.numel(), [x.shape[dim] for dim in dims], real=False)


def _to_half_spectrum(x: Tensor, dims: Sequence[int], *_: object, **__: object) -> int:
    return 2 * fft_macs(x.numel(), [x.shape[dim] for dim in dims], real=True)


def _from_half_spectrum(x: Tensor, dims: Sequence[int], *_: object, out_val: Tensor, **__: object) -> int:
    return 2 * fft_macs(out_val.numel(), [out_val.shape[dim] for dim in dims], real=True)


def _distances(x: Tensor, y: Tensor, p: float, *_: object, out_val: Tensor, **__: object) -> int:
    return 2 * out_val.numel() * x.shape[-1] if p == 2 else 0


def _distances_by_product(x: Tensor, y: Tensor, *, out_val: Tensor) -> int:
    return 2 * out_val.numel() * (x.shape[-1] + 2)


def raw(rule: Callable[..., int]) -> Callable[..., int]:
    """Marks a rule that wants tensors; the counter gives others their shapes."""
    rule._get_raw = True  # pyright: ignore[reportFunctionMemberAccess]
    return rule


def _of_complex(rule: Callable[..., int]) -> Callable[..., int]:
    """A product's rule that counts complex numbers as real ones; it is handed tensors."""

    def counted(*arguments: Any, **named: Any) -> int:
        is_complex = any(isinstance(value, Tensor) and value.is_complex() for value in arguments)
        return (COMPLEX if is_complex else 1) * rule(*arguments, **named)

    return raw(counted)


_PRODUCTS = (
    torch.ops.aten.mm,
    torch.ops.aten.addmm,
    torch.ops.aten.bmm,
    torch.ops.aten.baddbmm,
    torch.ops.aten.convolution,
    torch.ops.aten._convolution,
)

SECOND: dict[Any, Any] = {
    **{operator: _of_complex(flop_registry[operator]) for operator in _PRODUCTS},
    torch.ops.aten.mv: _of_complex(shape_wrapper(_vector)),
    torch.ops.aten.dot: _of_complex(shape_wrapper(_vector)),
    torch.ops.aten.vdot: _of_complex(shape_wrapper(_vector)),
    torch.ops.aten.addmv: _of_complex(shape_wrapper(_plus_vector)),
    torch.ops.aten.addbmm: _of_complex(shape_wrapper(_plus_batches)),
    torch.ops.aten._trilinear: raw(_three),
    torch.ops.aten._fft_c2c: raw(_whole_spectrum),
    torch.ops.aten._fft_r2c: raw(_to_half_spectrum),
    torch.ops.aten._fft_c2r: raw(_from_half_spectrum),
    torch.ops.aten._cdist_forward: raw(_distances),
    torch.ops.aten._euclidean_dist: raw(_distances_by_product),
}
"""FLOPs of what torch's counter takes for nothing, and of complex numbers, which it takes for real ones."""
