"""Counting the multiply-accumulates (MACs) of a module, three ways.

fvcore is the primary counter, with our own rule for every operator that multiplies matrices, because its defaults miss
fused attention, misjudge broadcasts and mix the cost of norms into the total. torch's FlopCounterMode, on the meta
device, is the second. The third is the paper's convention, counted by hooks. All three see a copy of the module whose
weights are one repeated zero, so counting half a billion parameters needs no memory for them, and neither the module,
nor its hooks, nor the random state is touched.
"""

import contextlib
import copy
import functools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from msdk.errors import PartError

Handle = Callable[[list[Any], list[Any]], "Counter[str]"]
"""A rule of fvcore: jit values of inputs and outputs -> MACs by the operator's name."""


@attrs.frozen
class Count:
    """What one module costs for one input.

    Attributes:
        by_operator: MACs by operator; resampling filters are a row of their own, `conv_fir`.
        uncounted: Operators without a rule that are not known to be free of MACs, and how often they ran.
    """

    by_operator: "Counter[str]"
    uncounted: "Counter[str]"

    @property
    def total(self) -> int:
        return sum(self.by_operator.values())


_FREE = """
__and__ abs add add_ addcmul amax amin arange argmin avg_pool2d clone cos cumsum div div_ embedding eq erf exp
expand_as feature_dropout fill_ ge gelu gelu_ hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_
index_select leaky_relu lift_fresh log log_softmax lt max_pool2d mean min mul mul_ native_dropout neg new_ones numpy_T
ones_like pad pixel_shuffle pixel_unshuffle pow reciprocal repeat repeat_interleave rms_norm rsqrt rsub sigmoid
sigmoid_ silu silu_ sin softmax sqrt square std sub sub_ sum swapaxes tanh unflatten unfold var where
"""
FREE = frozenset(f"aten::{name}" for name in _FREE.split())
"""Operators that are known to cost no MACs; anything else without a rule is shown, never silently zero."""


def count(module: nn.Module, inputs: Sequence[Tensor]) -> Count:
    """Exact MACs by fvcore with our rules. `inputs` are shapes to count for; their values do not matter.

    Raises:
        PartError: The module cannot be traced; the message has the reason.
    """
    analysis = _analysis(module, inputs, {**dict.fromkeys(_MIXED_UNITS, _nothing), **_RULES})
    by_operator: Counter[str] = Counter({op: int(macs) for op, macs in analysis.by_operator().items() if macs})
    modules = analysis.by_module_and_operator()
    for name, part in module.named_modules():
        relabelled = getattr(part, "operator", None)  # see msdk.layers.resample.FIR
        if relabelled is not None:
            for op, macs in modules.get(name, Counter()).items():
                by_operator[op] -= int(macs)
                by_operator[relabelled] += int(macs)
    unknown = {op: times for op, times in analysis.unsupported_ops().items() if op not in FREE}
    return Count(+by_operator, Counter(unknown))


def count_fvcore(module: nn.Module, inputs: Sequence[Tensor]) -> Count:
    """What fvcore counts without our rules: MACs plus 4 or 5 per normalised element, attention missing."""
    analysis = _analysis(module, inputs, {})
    return Count(Counter({op: round(macs) for op, macs in analysis.by_operator().items()}), Counter())


def count_second(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """MACs by torch's FlopCounterMode on the meta device: an independent check of `count`."""
    from torch.utils.flop_counter import FlopCounterMode

    with weightless(module, "meta") as copied, FlopCounterMode(display=False) as mode, torch.no_grad():
        copied(*(torch.empty(x.shape, dtype=x.dtype, device="meta") for x in inputs))
    return mode.get_total_flops() // 2


def count_paper(module: nn.Module, inputs: Sequence[Tensor]) -> Count:
    """The paper's convention: MACs of Conv2d and Linear, and one addition per output for the bias of a Conv2d.

    Layers with `paper_counted = False` are left out, as the paper's tool did not see them: attention, resampling
    filters and the input pyramid.
    """
    found: Counter[str] = Counter()

    def see(part: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(part, nn.Conv2d):
            found["conv"] += output.numel() * part.weight[0].numel()
            found["conv_bias"] += output.numel() if part.bias is not None else 0
        elif isinstance(part, nn.Linear):
            found["linear"] += output.numel() * part.in_features

    with weightless(module, "meta") as copied, torch.no_grad():
        for part in copied.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)) and getattr(part, "paper_counted", True):
                part.register_forward_hook(see)
        copied(*(torch.empty(x.shape, dtype=x.dtype, device="meta") for x in inputs))
    return Count(found, Counter())


@contextlib.contextmanager
def weightless(module: nn.Module, device: str) -> Generator[nn.Module]:
    """A copy in eval mode whose parameters and buffers are single zeros repeated over their shape, without hooks."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        zeros = torch.zeros((), dtype=tensor.dtype, device=device).expand(tensor.shape)
        memo[id(tensor)] = nn.Parameter(zeros, requires_grad=False) if isinstance(tensor, nn.Parameter) else zeros
    copied = copy.deepcopy(module, memo).eval()
    for part in copied.modules():
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            getattr(part, hooks).clear()
    with torch.random.fork_rng(devices=[]):
        yield copied


def _analysis(module: nn.Module, inputs: Sequence[Tensor], rules: dict[str, Handle]) -> Any:
    with weightless(module, "cpu") as copied, torch.no_grad():
        analysis = _fvcore()(copied, tuple(torch.zeros(x.shape, dtype=x.dtype) for x in inputs))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle(**rules)
        try:
            analysis.by_operator()
        except Exception as error:
            raise PartError(
                f"{type(module).__name__} cannot be traced for counting: {type(error).__name__}: {error}. Its forward "
                "must not branch on tensor values, hold tensors that are neither parameters nor buffers, or be compiled"
            ) from error
        return analysis


@functools.cache
def _fvcore() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore.nn scripts functions at import, which torch deprecates loudly
        from fvcore.nn import FlopCountAnalysis  # pyright: ignore[reportMissingTypeStubs]  untyped library
    return FlopCountAnalysis


# --- rules ------------------------------------------------------------------------------------------------------------


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
    return Counter(attention=math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def _einsum(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    equation = inputs[0].toIValue().replace(" ", "")
    operands = [_shape(x) for x in inputs[1].node().inputs()]
    if len(operands) == 1:
        return Counter()
    if len(operands) > 2 or "." in equation:
        raise PartError(f"einsum '{equation}' has no counting rule: use two operands and no ellipsis")
    letters = equation.split("->")[0].split(",")
    sizes = {
        letter: size
        for names, shape in zip(letters, operands, strict=True)
        for letter, size in zip(names, shape, strict=True)
    }
    return Counter(einsum=math.prod(sizes.values()))


def _nothing(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    return Counter()


_RULES: dict[str, Handle] = {
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
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _attention,
}
_MIXED_UNITS = (
    "aten::batch_norm",
    "aten::group_norm",
    "aten::layer_norm",
    "aten::instance_norm",
    "aten::upsample_nearest2d",
    "aten::upsample_bilinear2d",
    "aten::adaptive_avg_pool2d",
    "aten::grid_sampler",
)
"""fvcore counts these in additions and multiplications per element, which are no MACs."""
