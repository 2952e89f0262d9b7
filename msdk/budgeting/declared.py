"""Rules that networks bring for operators that msdk does not know: their own kernels, or torch's rarer functions.

A module says so by an attribute, which holds for all that runs while its network is counted:

    class Scan(nn.Module):
        operator_macs = {"mine::scan": lambda inputs, outputs: math.prod(inputs[0]) * 16, "mine::reorder": 0}
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from msdk.budgeting.free_operators import is_free
from msdk.budgeting.rules import RULES, Handle, numbers, raw
from msdk.errors import PartError

ATTRIBUTE = "operator_macs"

Macs = Callable[[Sequence[Any], Sequence[Any]], int]
"""A rule: the operator's arguments in order, and what it returns, tensors as their shapes -> MACs of the call."""


def declared(module: nn.Module) -> dict[str, Macs]:
    """Operator -> rule, of a network and all modules inside.

    Raises:
        PartError: Something declared is no rule, is msdk's own to count, or two modules disagree.
    """
    found: dict[str, tuple[object, str]] = {}
    for part in module.modules():
        owner, given = type(part).__name__, getattr(part, ATTRIBUTE, {})
        if not isinstance(given, Mapping):
            raise PartError(f"{owner}.{ATTRIBUTE} is to be operators and their rules, got {type(given).__name__}")
        for operator, rule in cast("Mapping[object, object]", given).items():
            if not isinstance(operator, str) or "::" not in operator:
                raise PartError(f"{owner}.{ATTRIBUTE} names {operator!r}: write library::operator, as budgets show it")
            if operator in RULES or is_free(operator):
                raise PartError(f"{owner}.{ATTRIBUTE} has {operator}, which msdk counts itself: leave it out")
            if not callable(rule) and not (type(rule) is int and rule == 0):
                raise PartError(
                    f"{owner}.{ATTRIBUTE}: the rule of {operator} is to be a function of shapes, or 0 for an operator "
                    f"that is free, got {rule!r}"
                )
            known, other = found.setdefault(operator, (rule, owner))
            if known is not rule and known != rule:
                raise PartError(f"{other} and {owner} declare different rules of {operator}: agree on one")
    return {operator: _checked(operator, rule, owner) for operator, (rule, owner) in found.items()}


def _checked(operator: str, rule: Any, owner: str) -> Macs:
    def macs(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        if rule == 0:
            return 0
        try:
            counted = rule(inputs, outputs)
        except Exception as error:
            raise PartError(
                f"the rule of {operator} in {owner}.{ATTRIBUTE} fails on {inputs} -> {outputs}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if type(counted) is not int or counted < 0:
            raise PartError(
                f"the rule of {operator} in {owner}.{ATTRIBUTE} gives {counted!r} on {inputs} -> {outputs}: it is to "
                "give multiply-accumulates, a whole number"
            )
        return counted

    return macs


def in_a_trace(operator: str, rule: Macs) -> Handle:
    """A rule for fvcore."""

    def handle(inputs: list[Any], outputs: list[Any]) -> "Counter[str]":
        told = [[_traced(value) for value in values] for values in (inputs, outputs)]
        return Counter({operator.rpartition("::")[2]: rule(*told)})

    return handle


def _traced(value: Any) -> Any:
    if value.node().kind() == "prim::ListConstruct" and str(value.type()) == "List[Tensor]":
        return [_traced(each) for each in value.node().inputs()]
    return tuple(value.type().sizes() or ()) if value.isCompleteTensor() else numbers(value)


def of_the_second_counter(rules: Mapping[str, Macs]) -> dict[Any, Any]:
    """The same for torch's counter, but for operators that torch has a formula of: these are counted by that."""
    found: dict[Any, Any] = {}
    for operator, rule in rules.items():
        library, _, name = operator.partition("::")
        packet: Any = getattr(getattr(torch.ops, library), name, None)
        if packet is not None and packet not in flop_registry:
            found[packet] = raw(_formula(packet, rule))
    return found


def _formula(packet: Any, rule: Macs) -> Callable[..., int]:
    (schema,) = (getattr(packet, overload)._schema for overload in packet.overloads()[:1])

    def flops(*arguments: Any, out_val: Any, **named: Any) -> int:
        given = [
            arguments[place] if place < len(arguments) else named.get(argument.name, argument.default_value)
            for place, argument in enumerate(schema.arguments)
        ]
        outputs = out_val if isinstance(out_val, (tuple, list)) else [out_val]
        return 2 * rule(_shapes(given), _shapes(cast("Sequence[object]", outputs)))

    return flops


def _shapes(values: Sequence[object]) -> list[Any]:
    return [
        tuple(value.shape)
        if isinstance(value, Tensor)
        else _shapes(cast("Sequence[object]", value))
        if isinstance(value, (list, tuple))
        else value
        for value in values
    ]
