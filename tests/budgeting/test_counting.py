"""Promises of msdk.budgeting.counting: the rules are right, and counting leaves no trace."""

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from msdk.budgeting import blind_spots
from msdk.budgeting.counting import count, count_on_meta
from msdk.errors import PartError
from msdk.layers import families
from msdk.layers.attention import Attention2d
from msdk.layers.resample import FIR
from msdk.layers.residual import ResidualBlock
from msdk.layers.style import BlockStyle


class Calls(nn.Module):
    """A module that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), [(1, 2, 8, 4)] * 3, 2 * 8 * 8 * 8),
        (lambda a, b: a @ b, [(1, 3, 4), (5, 4, 7)], 5 * 3 * 4 * 7),
        (lambda a, b: a @ b, [(3, 4), (4,)], 12),
        (lambda a, b: torch.einsum("bij,bkj->bik", a, b), [(2, 3, 4), (2, 5, 4)], 2 * 3 * 4 * 5),
        (lambda a, b, c: torch.baddbmm(a, b, c), [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (lambda x, w: F.conv2d(x, w, padding="same"), [(1, 3, 8, 8), (5, 3, 3, 3)], 8 * 8 * 5 * 27),
        (lambda x, w: F.conv_transpose2d(x, w, stride=2), [(1, 3, 4, 4), (3, 5, 2, 2)], 4 * 4 * 3 * 5 * 4),
        (lambda x: F.silu(x) * x.exp() + x.mean(), [(2, 3)], 0),
        (lambda x: F.group_norm(x, 2), [(1, 4, 3, 3)], 0),
    ],
)
def test_rules(function, shapes, macs):
    """Every operator that multiplies matrices costs what its formula says, and nothing else costs anything."""
    counted = count(Calls(function), [torch.zeros(shape) for shape in shapes])
    assert counted.macs("exact") == counted.second == macs
    assert not counted.uncounted


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 3]), st.integers(1, 2))
def test_the_two_counters_agree(batch, channels_in, channels_out, kernel, stride):
    """Fvcore with our rules and torch's counter give the same integer for convolution, linear map and attention."""
    net = nn.Sequential(
        nn.Conv2d(channels_in, 4 * channels_out, kernel, stride=stride, padding=kernel // 2),
        Attention2d(4 * channels_out, BlockStyle()),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    x = torch.zeros(batch, channels_in, 6, 6)
    net(x)
    assert count(net, [x]).macs("exact") == count_on_meta(net, [x])[0] > 0


def test_filters_are_a_row_of_their_own():
    """Resampling filters are not mixed with learned convolutions."""
    counted = count(nn.Sequential(nn.Conv2d(3, 4, 1), FIR("down")), [torch.zeros(1, 3, 8, 8)])
    assert counted.by_operator["exact"] == {"conv": 64 * 12, "conv_fir": 16 * 4 * 16}


def test_paper_convention_sees_only_ordinary_layers():
    """Conv2d with its bias additions and Linear are counted; attention and what says so itself are not."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Attention2d(8, BlockStyle()))
    assert count(net, [torch.zeros(1, 3, 4, 4)]).by_operator["paper"] == {"conv": 16 * 8 * 27, "conv_bias": 16 * 8}


def test_fvcore_convention_is_fvcore_untouched():
    """The fvcore column has its quirks: norms count, fused attention does not."""
    net = nn.Sequential(nn.GroupNorm(2, 4), Calls(lambda x: F.scaled_dot_product_attention(x, x, x)))
    assert count(net, [torch.zeros(1, 4, 4, 4)]).by_operator["fvcore"] == {"group_norm": 5 * 64}


def test_an_operator_without_a_rule_is_shown():
    """What nobody knows how to count is listed with its number of runs, never silently zero."""
    assert count(Calls(torch.cdist), [torch.zeros(2, 3)] * 2).uncounted["aten::cdist"] == 1


def test_counting_leaves_no_trace():
    """Weights, buffers, training mode, hooks and random state are as before, also after a failure."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    net.register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    broken = nn.Sequential(net, Calls(lambda x: x if x.sum().item() > 0 else torch.linalg.no_such_thing(x)))
    count(net, [torch.zeros(1, 1, 4, 4)])
    with pytest.raises(PartError, match=r"1 \(Calls\) cannot be traced for counting: .*no_such_thing.*AttributeError"):
        count(broken, [torch.zeros(1, 1, 4, 4)])
    assert net.training
    assert len(net._forward_hooks) == 1
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_papers_blind_spots_are_one_table():
    """No layer says of itself what the paper's tool saw: the counter's table does, by class and family."""
    unseen = {style.family: set(blind_spots.unseen(Attention2d(8, style))) for style in STYLES}
    assert {family for family, layers in unseen.items() if layers} == {"ddpm", "ddpmpp", "ldm"}
    shortcuts = {style.family for style in STYLES if set(blind_spots.unseen(block(style)))}
    assert shortcuts == {"ddpm"}
    assert not any("paper" in name for style in STYLES for name in attrs.asdict(style))
    assert not any("paper" in name for name in vars(block(STYLES[0]).conv0))


STYLES = (
    families.ddpm_blocks(groups=4, dropout=0.0),
    families.ddpmpp_blocks(groups=4, dropout=0.0, fir=True),
    families.song_blocks(groups=4, dropout=0.0, taps=(1.0, 1.0)),
    families.adm_blocks(groups=4, dropout=0.0, head_width=4),
    families.ldm_blocks(groups=4, dropout=0.0, heads=1, head_width=None, scale_shift=False),
    families.autoencoder_blocks(groups=4),
)


def block(style):
    return ResidualBlock(8, 16, style, embedding=None)
