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
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msdk.budgeting.blind_spots import late_biases, unseen
from msdk.budgeting.costs import PartCosts
from msdk.errors import PartError

Handle = Callable[[list[Any], list[Any]], "Counter[str]"]
"""A rule of fvcore: jit values of inputs and outputs -> MACs by the operator's name."""

_FREE = """
__and__ abs adaptive_avg_pool2d adaptive_max_pool2d add add_ addcdiv addcmul all alpha_dropout amax amin any arange
argmax argmin atan atan2 avg_pool2d batch_norm ceil celu channel_shuffle clamp_max clamp_min clone cos cosh cumprod
cumsum div div_ dropout elu elu_ embedding empty_like eq erf exp exp2 expand_as expm1 feature_dropout fill_ flip floor
fmod frac full_like gather ge gelu gelu_ ger glu grid_sampler group_norm gt hardsigmoid hardsigmoid_ hardswish
hardswish_ hardtanh hardtanh_ index_add index_select instance_norm layer_norm le leaky_relu leaky_relu_ lerp
lift_fresh linalg_vector_norm log log10 log1p log2 log_softmax logical_and logical_not logical_or logsumexp lt
masked_fill masked_fill_ max max_pool2d maximum mean meshgrid min minimum mish mul mul_ nan_to_num native_dropout ne
neg new_empty new_full new_ones new_zeros norm numpy_T ones_like outer pad pixel_shuffle pixel_unshuffle pow prelu
prod reciprocal reflection_pad2d relu6 relu6_ remainder repeat repeat_interleave replication_pad2d reshape_as rms_norm
roll round rsqrt rsub scatter scatter_add selu sigmoid sigmoid_ sign silu silu_ sin sinh softmax softplus softsign
sort sqrt square std std_mean sub sub_ sum swapaxes tan tanh topk tril triu trunc type_as unflatten unfold
upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
upsample_trilinear3d var var_mean view_as where zeros_like
"""
FREE = frozenset(f"aten::{name}" for name in _FREE.split())
"""Operators that cost no MACs; anything else without a rule is shown, never silently zero.

fvcore counts norms, upsampling and pooling in additions and multiplications per element, which are no MACs.
"""


def count(module: nn.Module, inputs: Sequence[Tensor]) -> PartCosts:
    """Parameters and MACs of a module for one input, by every convention; one trace on the CPU, one pass on meta.

    Args:
        module: Left as it is: weights, buffers, hooks, training mode and random state, also after a failure.
        inputs: Shapes to count for; their values do not matter.

    Raises:
        PartError: The module cannot be traced; the message has the place, the reason and what to do.
    """
    exact, fvcore, uncounted = _traced(module, inputs)
    second, paper = count_on_meta(module, inputs)
    return PartCosts(
        params=sum(parameter.numel() for parameter in module.parameters()),  # a shared tensor is listed once
        trained=sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
        by_operator={"exact": exact, "paper": paper, "fvcore": fvcore},
        second=second,
        uncounted=uncounted,
    )


def _traced(module: nn.Module, inputs: Sequence[Tensor]) -> "tuple[Counter[str], Counter[str], Counter[str]]":
    """MACs by operator, exact and as fvcore counts without our rules, and the operators without a rule."""
    with _running(module, "cpu") as copied:
        analysis = _fvcore()(copied, tuple(torch.zeros(x.shape, dtype=x.dtype) for x in inputs))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        theirs: dict[str, Any] = dict(analysis._op_handles)
        analysis.set_op_handle(**{op: _both(op, theirs.get(op)) for op in {*theirs, *_RULES}})
        analysis.by_operator()
    found: dict[str, Counter[str]] = {"exact": Counter(), "fvcore": Counter(), "uncounted": Counter()}
    modules: dict[str, Any] = dict(analysis.by_module_and_operator())
    for row, value in modules[""].items():
        kind, _, operator = row.partition("|")
        found[kind][operator] += round(value)
    for name, part in module.named_modules():
        relabelled = getattr(part, "operator", None)  # see msdk.layers.resample.FIR
        if relabelled is not None:
            for row, value in modules.get(name, Counter()).items():
                kind, _, operator = row.partition("|")
                if kind == "exact":
                    found["exact"][operator] -= int(value)
                    found["exact"][relabelled] += int(value)
    unknown = {op: times for op, times in analysis.unsupported_ops().items() if op not in FREE}
    return +found["exact"], +found["fvcore"], found["uncounted"] + Counter(unknown)


def _both(op: str, theirs: Any) -> Handle:
    """A handle that counts one operator by our rule and by fvcore's, so that one trace serves both."""

    def handle(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
        rows: Counter[str] = Counter()
        if op in _RULES:
            try:
                ours = _RULES[op](inputs, outputs)
            except _NoRuleError as error:
                rows[f"uncounted|{error}"] += 1
            else:
                rows.update({f"exact|{name}": macs for name, macs in ours.items()})
        elif op not in FREE:
            rows[f"uncounted|{op}"] += 1
        if theirs is not None:
            try:
                counted = theirs(inputs, outputs)
            except Exception:  # of a matrix times a vector, for one: its own total then lacks the operator
                return rows
            name = op.rpartition("::")[2]
            counted = counted.items() if isinstance(counted, Counter) else [(name.lstrip("_"), counted)]
            rows.update({f"fvcore|{name}": value for name, value in counted})
        return rows

    return handle


class _NoRuleError(Exception):
    """A use of an operator that its rule does not cover; the text names both."""


def count_on_meta(module: nn.Module, inputs: Sequence[Tensor]) -> "tuple[int, Counter[str]]":
    """MACs by torch's FlopCounterMode, an independent check of the exact convention, and by the paper's convention.

    One pass on the meta device, which is faster than a trace. The paper's are those of Conv2d and Linear, and one
    addition per output for the bias of a Conv2d, without what its tool did not see (`msdk.budgeting.blind_spots`).
    """
    from torch.utils.flop_counter import FlopCounterMode

    paper: Counter[str] = Counter()
    kernels: dict[nn.Module, int] = {}

    with _running(module, "meta") as copied:
        left_out, late = set(unseen(copied)), late_biases(copied)
        biased_later = set(late.values())

        def see(part: nn.Module, _: object, output: Tensor) -> None:
            if isinstance(part, nn.Conv2d):
                paper["conv"] += output.numel() * kernels[part]
                paper["conv_bias"] += output.numel() if part.bias is not None and part not in biased_later else 0
            elif isinstance(part, nn.Linear):
                paper["linear"] += output.numel() * part.in_features
            else:
                paper["conv_bias"] += output.numel()

        for part in copied.modules():
            if isinstance(part, nn.Conv2d):
                # Not in the hook: a weight may be computed where it is asked for, and would be counted there.
                kernels[part] = part.weight[0].numel()
            if part in late or (isinstance(part, (nn.Conv2d, nn.Linear)) and part not in left_out):
                part.register_forward_hook(see)
        with FlopCounterMode(display=False, custom_mapping=_SECOND) as mode:
            copied(*(torch.empty(x.shape, dtype=x.dtype, device="meta") for x in inputs))
    return mode.get_total_flops() // 2, paper


def _vector(left: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(left)


_SECOND: dict[Any, Any] = {torch.ops.aten.mv: _vector, torch.ops.aten.dot: _vector}
"""Rules that torch's counter lacks: products with a vector, which it counts as zero."""


@contextlib.contextmanager
def _running(module: nn.Module, device: str) -> Generator[nn.Module]:
    """A weightless copy to run once, without gradients; what it raises becomes a `PartError` that says where."""
    with weightless(module, device) as copied, torch.no_grad():
        inside: list[str] = []
        for name, part in copied.named_modules():
            part.register_forward_pre_hook(lambda part, _, name=name: inside.append(f"{name} ({type(part).__name__})"))
            part.register_forward_hook(lambda *_: inside.pop() and None)
        try:
            yield copied
        except Exception as error:
            place = inside[-1].lstrip() if inside else type(module).__name__
            raise PartError(
                f"{place} cannot be traced for counting: {_line_of(error)}{type(error).__name__}: "
                f"{str(error).strip().splitlines()[0] if str(error).strip() else ''}. Its forward must not branch on "
                "tensor values, hold tensors that are neither parameters nor buffers, or be compiled"
            ) from error


def _line_of(error: Exception) -> str:
    """The line of source that raised, of the innermost frame that is neither torch's nor fvcore's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(f"/{package}/" in frame.filename for package in ("torch", "fvcore")) and frame.filename != __file__
    ]
    return f"`{frames[-1].line}` ({Path(frames[-1].filename).name}:{frames[-1].lineno}): " if frames else ""


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


def _tensordot(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    sizes = (math.prod(_shape(x)) for x in (inputs[0], inputs[1], outputs[0]))
    return Counter(matmul=math.isqrt(math.prod(sizes)))  # every letter stands in two of the three


def _bilinear(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    return Counter(linear=math.prod(_shape(inputs[2])) * math.prod(_shape(inputs[0])[:-1]))


def _einsum(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
    equation = inputs[0].toIValue().replace(" ", "")
    operands = [_shape(x) for x in inputs[1].node().inputs()]
    if len(operands) == 1:
        return Counter()
    if len(operands) > 2 or "." in equation:
        raise _NoRuleError(f"aten::einsum '{equation}'")
    letters = equation.split("->")[0].split(",")
    sizes = {
        letter: size
        for names, shape in zip(letters, operands, strict=True)
        for letter, size in zip(names, shape, strict=True)
    }
    return Counter(einsum=math.prod(sizes.values()))


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
    "aten::tensordot": _tensordot,
    "aten::bilinear": _bilinear,
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _attention,
}
