"""iU-Net: convolution and attention in shares, against its equations written out, and in its limits."""

import math

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from msdk.decoders.iunet import IUNet as IUNetDecoder
from msdk.encoders.iunet import IUNet
from msdk.errors import PartError
from msdk.layers import widening
from msdk.layers.attention import Attention2d, InceptionMixer
from msdk.layers.families import iunet_blocks, ldm_blocks

LDM = ldm_blocks(groups=4, dropout=0.0, heads=1, head_width=4, scale_shift=False)


def mixer(channels, share, *, pool=False, seed=0):
    """A mixer in float64 whose weights all matter."""
    torch.manual_seed(seed)
    style = iunet_blocks(LDM, convolution=(share,), pooled=int(pool))
    net = InceptionMixer(channels, style, 0).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    return net


# --- the equations, by hand -------------------------------------------------------------------------------------------


def shifted(x, fill):
    """The nine neighbours of every pixel, [9, b, c, h, w], row by row, with a value beyond the edge."""
    _, _, height, width = x.shape
    wide = x.new_full((*x.shape[:2], height + 2, width + 2), fill)
    wide[..., 1:-1, 1:-1] = x
    return torch.stack([wide[..., i : i + height, j : j + width] for i in range(3) for j in range(3)])


def fc(x, layer):
    found = torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], x)
    return found if layer.bias is None else found + layer.bias[:, None, None]


def depthwise(x, layer):
    return torch.einsum("nbchw,cn->bchw", shifted(x, 0.0), layer.weight.flatten(1))


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def normed(x, norm):
    groups = x.reshape(len(x), norm.num_groups, -1)
    spread = (groups.var(dim=2, unbiased=False, keepdim=True) + norm.eps).sqrt()
    flat = ((groups - groups.mean(dim=2, keepdim=True)) / spread).reshape(x.shape)
    return flat * norm.weight[:, None, None] + norm.bias[:, None, None]


def attend(x, layer, heads):
    query, key, value = (part.flatten(2).split(part.shape[1] // heads, dim=1) for part in fc(x, layer).chunk(3, dim=1))
    found = []
    for q, k, v in zip(query, key, value, strict=True):
        scores = torch.einsum("bcn,bcm->bnm", q, k) / math.sqrt(q.shape[1])
        weights = scores.exp() / scores.exp().sum(dim=2, keepdim=True)
        found.append(torch.einsum("bnm,bcm->bcn", weights, v))
    return torch.cat(found, dim=1).reshape(x.shape)


def written_out(net, x):
    """Equations 3 to 8 of Si et al. 2022, in a residual branch behind the norm."""
    z, high = normed(x, net.norm), net.high
    parts = []
    if high:
        parts.append(gelu(depthwise(fc(z[:, : high // 2], net.wide), net.deep)))
        parts.append(gelu(fc(shifted(z[:, high // 2 : high], -math.inf).amax(dim=0), net.largest)))
    if net.heads:
        low = z[:, high:]
        if net.pool:
            small = (low[..., ::2, ::2] + low[..., 1::2, ::2] + low[..., ::2, 1::2] + low[..., 1::2, 1::2]) / 4
            parts.append(attend(small, net.qkv, net.heads).repeat_interleave(2, 2).repeat_interleave(2, 3))
        else:
            parts.append(attend(low, net.qkv, net.heads))
    y = torch.cat(parts, dim=1)
    return x + fc(y + depthwise(y, net.fuse), net.proj)


@given(share=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), pool=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_mixer_is_its_equations(share, pool, seed):
    """In float64, to 1e-12, at any share, with and without pooling."""
    net = mixer(16, share, pool=pool, seed=seed)
    x = torch.randn(2, 16, 6, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), written_out(net, x), rtol=1e-12, atol=1e-12)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_share_of_zero_is_attention():
    """Without the depthwise convolution that joins branches it is LDM's attention, of the same weights."""
    net, plain = mixer(16, 0.0), Attention2d(16, LDM).double()
    assert (net.high, net.heads) == (0, 4)
    nn.init.zeros_(net.fuse.weight)
    state = {name: value for name, value in net.state_dict().items() if name != "fuse.weight"}
    plain.load_state_dict(state)
    x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("share", "reach"), [(1.0, 5), (0.5, 9)])
def test_a_share_of_one_sees_neighbours_alone(share, reach):
    """Two convolutions of 3x3 reach two pixels; with a head of attention a pixel depends on all."""
    net = mixer(16, share)
    net.norm = nn.Identity()
    x = torch.randn(1, 16, 9, 9, dtype=torch.float64, requires_grad=True)
    net(x)[0, :, 4, 4].sum().backward()
    rows = x.grad[0].abs().sum(dim=(0, 2)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == reach


def test_odd_sides_are_pooled():
    net = mixer(16, 0.5, pool=True)
    assert net(torch.randn(1, 16, 5, 3, dtype=torch.float64)).shape == (1, 16, 5, 3)


@given(heads=st.integers(1, 16), share=st.floats(0, 1))
@settings(deadline=None)
def test_attention_keeps_whole_heads(heads, share):
    """The share of convolution is as near as whole heads allow, and all channels go somewhere."""
    style = iunet_blocks(LDM, convolution=(share,), pooled=0)
    low, high = style.split(4 * heads, 0)
    assert 4 * low + high == 4 * heads
    assert abs(high / (4 * heads) - share) <= 0.5 / heads + 1e-12


# --- networks ---------------------------------------------------------------------------------------------------------


def test_levels_have_their_shares():
    """Each level its own in both halves; the last one holds for those that follow and for the middle."""
    sizes = {"channels": 16, "groups": 4, "head_width": 4}
    shares = {"convolution": (0.75, 0.5), "pooled": 1}
    encoder = IUNet(**sizes, **shares, channel_mult=(1, 1, 1), blocks=1, attention=(16, 8, 4))
    decoder = IUNetDecoder(**sizes, **shares)
    info = encoder.info((3, 16, 16))
    network, behind = encoder.build((3, 16, 16)), decoder.build(info, (3, 16, 16))
    found = [each for each in network.modules() if isinstance(each, InceptionMixer)]
    assert [each.high for each in found] == [12, 8, 8, 8]
    assert [each.pool for each in found] == [True, False, False, False]
    found = [each for level in behind.levels for each in level.modules() if isinstance(each, InceptionMixer)]
    assert [each.high for each in found] == [8, 8, 8, 8, 12, 12]


def test_what_does_not_fit_is_told():
    few = IUNet(channels=16, groups=4, channel_mult=(1, 2), convolution=(0.5, 0.5, 0.5))
    with pytest.raises(PartError, match="convolution has 3 entries for 2 levels"):
        few.info((3, 16, 16))
    info = attrs.evolve(few, convolution=(0.5,)).info((3, 16, 16))
    with pytest.raises(PartError, match="convolution has 3 entries for 2 levels"):
        IUNetDecoder(channels=16, groups=4, convolution=(0.5, 0.5, 0.5)).check(info)
    odd = IUNet(channels=15, groups=3, channel_mult=(1,), attention=(16,), head_width=5, convolution=(1 / 3,))
    with pytest.raises(PartError, match="5 of 15 channels would convolve"):
        odd.info((3, 16, 16))
    with pytest.raises(ValueError, match="convolution"):
        IUNet(convolution=(1.5,))


@pytest.mark.parametrize(("new", "old"), [(32, 16), (32, None), (None, 16)])
def test_a_mixer_is_not_widened(new, old):
    """Twice the channels pool and convolve otherwise, so it is refused, not copied wrongly."""
    wide, narrow = (nn.Identity() if width is None else mixer(width, 0.5) for width in (new, old))
    with pytest.raises(PartError, match="convolution beside attention"):
        widening.attention_2d(wide, narrow, torch.arange(16))
