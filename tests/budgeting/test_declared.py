"""Promises of rules that networks bring: both counters use them, and what is no rule is told."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from msdk.budgeting.counting import count
from msdk.errors import PartError


@torch.library.custom_op("msdk_tests::scan", mutates_args=())
def scan(x: Tensor, steps: int = 2) -> Tensor:
    return x.cumsum(-1)


@torch.library.custom_op("msdk_tests::joined", mutates_args=())
def joined(pieces: list[Tensor], sizes: list[int]) -> tuple[Tensor, Tensor]:
    return pieces[0].clone(), pieces[1].clone()


@torch.library.custom_op("msdk_tests::known", mutates_args=())
def known(x: Tensor) -> Tensor:
    return x.clone()


scan.register_fake(lambda x, steps=2: torch.empty_like(x))
joined.register_fake(lambda pieces, sizes: (torch.empty_like(pieces[0]), torch.empty_like(pieces[1])))
known.register_fake(torch.empty_like)


@register_flop_formula(torch.ops.msdk_tests.known)
def _(shape, out_shape=None):
    return 2 * math.prod(shape)


def network(function, macs):
    """A linear map and a module that calls `function` and declares rules."""
    inner = type("Own", (nn.Module,), {"forward": lambda self, x: function(x), "operator_macs": macs})
    return nn.Sequential(nn.Linear(4, 4), inner())


def test_rules_see_shapes_and_settings():
    """Tensors as shapes, lists of them too, numbers as they are, defaults filled in; by both counters."""
    seen = []

    def rule(inputs, outputs):
        seen.append((inputs, outputs))
        return 5

    net = network(lambda x: joined([scan(x), x], [1, 2])[1], {"msdk_tests::scan": rule, "msdk_tests::joined": rule})
    counted = count(net, [torch.zeros(3, 4)])
    of_scan, of_joined = ([(3, 4), 2], [(3, 4)]), ([[(3, 4), (3, 4)], [1, 2]], [(3, 4), (3, 4)])
    assert seen == [of_scan, of_joined] * 2
    assert counted.by_operator["exact"] == {"linear": 48, "scan": 5, "joined": 5}
    assert counted.second == 58
    assert not counted.uncounted


def test_free_operators_and_rare_functions_of_torch():
    """0 declares that an operator costs nothing, one of torch that msdk has no rule of as well."""
    net = network(lambda x: scan(torch.linalg.qr(x)[0]), {"msdk_tests::scan": 0, "aten::linalg_qr": 0})
    counted = count(net, [torch.zeros(3, 4)])
    assert counted.macs("exact") == counted.second == 48
    assert not counted.uncounted
    bare = count(network(scan, {}), [torch.zeros(3, 4)])
    assert bare.uncounted == {"msdk_tests::scan": 1}


def test_torchs_own_formula_checks_a_rule():
    """Where torch was told a formula of the operator, the second counter goes by that: a wrong rule is seen."""
    right, wrong = (
        count(
            network(known, {"msdk_tests::known": lambda inputs, _, f=f: f * math.prod(inputs[0])}), [torch.ones(3, 4)]
        )
        for f in (1, 2)
    )
    assert right.macs("exact") == right.second == 60
    assert wrong.macs("exact") == wrong.second + 12


@pytest.mark.parametrize(
    ("macs", "words"),
    [
        (7, r"Own\.operator_macs is to be operators and their rules, got int"),
        ({"scan": 0}, r"names 'scan': write library::operator"),
        ({"aten::linear": 0}, r"has aten::linear, which msdk counts itself: leave it out"),
        ({"aten::add_": 0}, r"has aten::add_, which msdk counts itself"),
        ({"msdk_tests::scan": 3}, r"is to be a function of shapes, or 0 for an operator that is free, got 3"),
        ({"msdk_tests::scan": lambda inputs, outputs: 1.5}, r"gives 1\.5 on \[\(3, 4\), 2\] -> .*a whole number"),
        ({"msdk_tests::scan": lambda inputs, outputs: -1}, r"gives -1 on"),
        ({"msdk_tests::scan": lambda inputs, outputs: inputs[9]}, r"fails on \[\(3, 4\), 2\] -> .*IndexError"),
    ],
)
def test_what_is_no_rule_is_told(macs, words):
    """With the module that declares it, before or while it is used."""
    with pytest.raises(PartError, match=words):
        count(network(scan, macs), [torch.zeros(3, 4)])


def test_two_modules_agree():
    """Different rules of one operator are refused, naming both modules."""
    net = nn.Sequential(network(scan, {"msdk_tests::scan": 0}), network(scan, {"msdk_tests::scan": lambda *_: 1}))
    with pytest.raises(PartError, match=r"Own and Own declare different rules of msdk_tests::scan: agree on one"):
        count(net, [torch.zeros(3, 4)])
