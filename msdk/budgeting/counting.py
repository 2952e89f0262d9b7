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
import traceback
import unittest.mock
import warnings
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msdk.budgeting.blind_spots import late_biases, unseen
from msdk.budgeting.costs import PartCosts
from msdk.budgeting.declared import declared, in_a_trace, of_the_second_counter
from msdk.budgeting.free_operators import is_free
from msdk.budgeting.rules import RULES, SECOND, Handle, NoRuleError, macs_of
from msdk.budgeting.simulating import computed
from msdk.denoiser.building import refuse_lazy
from msdk.errors import PartError


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
    with _running(module, "cpu") as copied, _seen_through():
        analysis = _fvcore()(copied, tuple(torch.zeros(x.shape, dtype=x.dtype) for x in inputs))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        theirs: dict[str, Any] = dict(analysis._op_handles)
        own = {operator: in_a_trace(operator, rule) for operator, rule in declared(module).items()}
        # Scopes of a trace are divided by "/", which names may have.
        scopes: dict[Any, str] = {key: _scope(name) for key, name in analysis._aliases.items()}
        analysis._aliases = scopes | {scope: scope for scope in scopes.values()}
        analysis.set_op_handle(**{op: _both(op, theirs.get(op), own.get(op)) for op in {*theirs, *RULES, *own}})
        analysis.by_operator()
    found: dict[str, Counter[str]] = {"exact": Counter(), "fvcore": Counter(), "uncounted": Counter()}
    modules: dict[str, Any] = dict(analysis.by_module_and_operator())
    for row, value in modules[""].items():
        kind, _, operator = row.partition("|")
        found[kind][operator] += round(value)
    for name, part in module.named_modules():
        relabelled = getattr(part, "operator", None)  # see msdk.layers.resample.FIR
        if relabelled is not None:
            for row, value in modules.get(_scope(name), Counter()).items():
                kind, _, operator = row.partition("|")
                if kind == "exact":
                    found["exact"][operator] -= int(value)
                    found["exact"][relabelled] += int(value)
    unknown = {op: times for op, times in analysis.unsupported_ops().items() if not is_free(op)}
    return +found["exact"], +found["fvcore"], found["uncounted"] + Counter(unknown)


def _scope(name: str) -> str:
    """A module's name in a trace."""
    return name.replace("/", "|")


@contextlib.contextmanager
def _seen_through() -> Generator[None]:
    """Makes a trace see operators where it would see one opaque call.

    Fused attention of nn.MultiheadAttention and transformer layers is told to be off, and functions with their own
    gradient (reentrant checkpoints too) to run as what they are without gradients: their forward.
    """
    fused = torch.backends.mha.get_fastpath_enabled()

    def forward(cls: Any, *arguments: Any, **named: Any) -> Any:
        if cls.setup_context is not torch.autograd.Function.setup_context:
            return cls.forward(*arguments, **named)
        context: Any = torch.autograd.function.FunctionCtx()
        context.needs_input_grad = (False,) * len(arguments)
        return cls.forward(context, *arguments, **named)

    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with unittest.mock.patch.object(torch.autograd.Function, "apply", classmethod(forward)):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _both(op: str, theirs: Any, own: Handle | None) -> Handle:
    """A handle that counts one operator by our rule, or the network's, and by fvcore's: one trace serves both."""

    def handle(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
        rows: Counter[str] = Counter()
        if own is not None:
            rows.update({f"exact|{name}": macs for name, macs in own(inputs, outputs).items()})
        elif op in RULES:
            try:
                ours = macs_of(op, inputs, outputs)
            except NoRuleError as error:
                rows[f"uncounted|{error}"] += 1
            else:
                rows.update({f"exact|{name}": macs for name, macs in ours.items()})
        elif not is_free(op):
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
        rules = {**SECOND, **of_the_second_counter(declared(module))}
        with FlopCounterMode(display=False, custom_mapping=rules) as mode:
            copied(*(torch.empty(x.shape, dtype=x.dtype, device="meta") for x in inputs))
    return mode.get_total_flops() // 2, paper


@contextlib.contextmanager
def _running(module: nn.Module, device: str) -> Generator[nn.Module]:
    """A weightless copy to run once, without gradients; what it raises becomes a `PartError` that says where."""
    with weightless(module, device) as copied, torch.no_grad():
        inside: list[str] = []
        for name, part in copied.named_modules():
            part.register_forward_pre_hook(lambda part, _, name=name: inside.append(f"{name} ({type(part).__name__})"))
            part.register_forward_hook(lambda *_: inside.pop() and None)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "None of the inputs have requires_grad")  # of checkpoints: so we run
                yield copied
        except PartError:
            raise
        except Exception as error:
            place = inside[-1].lstrip() if inside else type(module).__name__
            raise PartError(
                f"{place} cannot be traced for counting: {_line_of(error)}{type(error).__name__}: "
                f"{str(error).strip().splitlines()[0] if str(error).strip() else ''}. Its forward must not branch on "
                "tensor values, need weights that are not zero (as the inverse of one does), hold tensors that are "
                "neither parameters nor buffers, or be compiled"
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
    """A copy in eval mode whose parameters and buffers are single zeros repeated over their shape, without hooks.

    Raises:
        PartError: A module is lazy: its weights have no shape yet.
    """
    refuse_lazy(module)
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers(), *computed(module)):
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
