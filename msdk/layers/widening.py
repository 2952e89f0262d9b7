"""Wider layers that compute what narrower ones do (Chen et al. 2016, Net2Net, arXiv 1511.05641).

A layout says of each channel of a wide map which channel of the narrow one it equals; -1 for one that is new, whose
value nobody may depend on yet. New channels have initial weights and weigh nothing in what was there before. Where a
norm mixes all channels, there are no new ones but copies, whose weights further on are unequal parts of the old ones,
so that training tells them apart. Layers are changed in place.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from msdk.errors import PartError
from msdk.layers.attention import Attention2d, InceptionMixer
from msdk.layers.residual import OutputHead, ResidualBlock

Layout = Tensor
"""int64 [channels of the wide map], on the CPU."""


class GroupsError(PartError):
    """Groups of a norm would not hold what they held."""


def grown(old: int, new: int) -> Layout:
    """The old channels, then new ones.

    Raises:
        PartError: There would be fewer.
    """
    if new < old:
        raise PartError(f"{new} channels are fewer than {old}")
    return torch.cat([torch.arange(old), torch.full((new - old,), -1)])


def copied(old: int, new: int) -> Layout:
    """All old channels, again and again.

    Raises:
        PartError: They would not all be there equally often.
    """
    if new % old:
        raise PartError(
            f"a norm over all of its channels keeps its result if each is there equally often, but {new} is no whole "
            f"multiple of {old}"
        )
    return torch.arange(old).repeat(new // old)


def beside(*parts: Layout) -> Layout:
    """That of maps one behind the other."""
    found, first = list[Tensor](), 0
    for part in parts:
        found.append(torch.where(part >= 0, part + first, part))
        first += int(part.max()) + 1
    return torch.cat(found)


@torch.no_grad()
def linear(new: nn.Module, old: nn.Module, inputs: Layout, outputs: Layout, factor: Tensor | None = None) -> None:
    """A linear map or convolution; outputs may be multiplied with a factor, [new outputs].

    Raises:
        PartError: It is another map than of such channels.
    """
    wide, narrow = cast("nn.Linear", new), cast("nn.Linear", old)
    weight, kept = wide.weight, narrow.weight.to(wide.weight)
    wanted = (len(outputs), len(inputs), *kept.shape[2:])
    if tuple(weight.shape) != wanted or max(int(inputs.max()) - kept.shape[1], int(outputs.max()) - len(kept)) >= 0:
        raise PartError(f"a map {list(weight.shape)} cannot do what one {list(kept.shape)} does")
    rows, columns = (layout.to(weight.device) for layout in (outputs, inputs))
    of = columns.clamp(min=0)
    times = torch.bincount(columns[columns >= 0], minlength=kept.shape[1]).clamp(min=1)
    shape = (1, -1, *[1] * (kept.ndim - 2))
    shares = ((columns >= 0) / times[of]).to(kept).view(shape)
    found = kept[rows.clamp(min=0)][:, of] * shares
    if int(times.max()) > 1:
        # In double precision, so that what is added to some copies and taken from others is the same.
        noise = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
            found.device
        )
        noise = noise * found.double().square().mean().sqrt() / 2 * (columns >= 0).view(shape)
        mean = torch.zeros(len(found), *kept.shape[1:], dtype=torch.float64, device=found.device).index_add_(
            1, of, noise
        )
        found = (found.double() + noise - (mean / times.view(shape))[:, of]).to(found.dtype)
        found *= (columns >= 0).view(shape)
    scale = torch.ones(len(rows)) if factor is None else factor
    scale = scale.to(found).view(-1, *[1] * (kept.ndim - 1))
    there = (rows >= 0).view(-1, *[1] * (kept.ndim - 1))
    weight.copy_(torch.where(there, found * scale, weight))
    if wide.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]  a layer may have none
        _vector(wide.bias, narrow.bias, outputs, factor)


def _vector(new: Tensor, old: Tensor, layout: Layout, factor: Tensor | None = None) -> None:
    of = layout.to(new.device)
    found = old.to(new)[of.clamp(min=0)]
    new.copy_(torch.where(of >= 0, found if factor is None else found * factor.to(new), new))


@torch.no_grad()
def one_to_one(new: nn.Module, inputs: Layout, outputs: Layout) -> None:
    """A linear map or 1x1 convolution that passes each old channel on to all that equal it."""
    channels = int(max(inputs.max(), outputs.max())) + 1
    kind = nn.Conv2d(channels, channels, 1) if isinstance(new, nn.Conv2d) else nn.Linear(channels, channels)
    kind.weight.copy_(torch.eye(channels).view_as(kind.weight))
    nn.init.zeros_(cast("Tensor", kind.bias))
    linear(new, kind, inputs, outputs)


@torch.no_grad()
def group_norm(new: nn.GroupNorm, old: nn.GroupNorm, layout: Layout) -> None:
    """A norm whose groups hold what they held, or new channels alone.

    Raises:
        GroupsError: They would not.
        PartError: It is given other channels.
    """
    if len(layout) != new.num_channels:
        raise PartError(f"what it is given has {len(layout)} channels, and it takes {new.num_channels}")
    size = old.num_channels // old.num_groups
    for group in layout.view(new.num_groups, -1):
        known = group[group >= 0]
        first = int(known[0]) // size * size if len(known) else 0
        counts = torch.bincount(known - first, minlength=size) if len(known) and int(known.min()) >= first else None
        same = (
            counts is not None and len(counts) == size and len(set(counts.tolist())) == 1 and len(known) == len(group)
        )
        if len(known) and not same:
            raise GroupsError(
                f"{old.num_groups} groups of {size} channels would be {new.num_groups} groups of "
                f"{new.num_channels // new.num_groups}, whose means and variances are others"
            )
    _vector(new.weight, old.weight, layout)
    _vector(new.bias, old.bias, layout)


@torch.no_grad()
def layer_norm(new: nn.LayerNorm, old: nn.LayerNorm, layout: Layout) -> None:
    """A norm over channels that are all there equally often, see `copied`."""
    if old.weight is not None:  # pyright: ignore[reportUnnecessaryComparison]  it may have none
        _vector(new.weight, old.weight, layout)
        _vector(new.bias, old.bias, layout)


def residual_block(new: ResidualBlock, old: ResidualBlock, inputs: Layout, outputs: Layout) -> None:
    """A block of a U-Net.

    Raises:
        PartError: It cannot be.
    """
    group_norm(new.norm0, old.norm0, inputs)
    linear(new.conv0, old.conv0, inputs, outputs)
    if old.dense is not None and new.dense is not None:
        both = [outputs] if old.style.modulation == "shift" else [outputs, outputs]
        linear(new.dense, old.dense, torch.arange(old.dense.in_features), _chunks(both, old.conv0.out_channels))
    group_norm(new.norm1, old.norm1, outputs)
    linear(new.conv1, old.conv1, outputs, outputs)
    if old.shortcut is not None and new.shortcut is not None:
        linear(new.shortcut, old.shortcut, inputs, outputs)
    elif new.shortcut is not None:
        one_to_one(new.shortcut, inputs, outputs)
    elif old.shortcut is not None or not torch.equal(inputs, outputs):
        raise PartError("a block whose output is as wide as its input has no map from one to the other")


def _chunks(layouts: list[Layout], old: int) -> Layout:
    """That of a map that is cut into equal parts of so many old channels."""
    return torch.cat([torch.where(each >= 0, each + place * old, each) for place, each in enumerate(layouts)])


def attention_2d(new: nn.Module, old: nn.Module, layout: Layout) -> None:
    """Attention behind a block, or none.

    Raises:
        PartError: One has it alone, and it would change something; or heads are cut otherwise.
    """
    if isinstance(old, InceptionMixer) or isinstance(new, InceptionMixer):
        raise PartError("convolution beside attention is another function in another width")
    if isinstance(old, nn.Identity):
        if isinstance(new, Attention2d):
            raise PartError("there would be attention where there was none")
        return
    if not isinstance(old, Attention2d) or not isinstance(new, Attention2d):
        raise PartError("there would be no attention where there was some")
    group_norm(new.norm, old.norm, layout)
    inner, factor = _heads(new.qkv.out_channels // 3, new.heads, old.qkv.out_channels // 3, old.heads, copies=False)
    linear(new.qkv, old.qkv, layout, _chunks([inner] * 3, old.qkv.out_channels // 3), factor)
    if new.heads == old.heads:
        _silence(new.qkv, inner)
    linear(new.proj, old.proj, inner, layout)


def _heads(new: int, heads: int, old: int, before: int, *, copies: bool) -> tuple[Layout, Tensor]:
    """Channels of queries, keys or values by head; and a factor on the channels of queries, keys and values."""
    width, had = new // heads, old // before
    if heads % before or width % had if copies else not (heads == before or width == had):
        raise PartError(
            f"{before} attention heads of {had} channels would be {heads} of {width}: keep the heads, or their width"
        )
    within = copied(had, width) if copies else grown(had, width)
    if copies or heads == before:
        whole = [torch.where(within >= 0, within + head % before * had, within) for head in range(heads)]
    else:
        whole = [within + head * had if head < before else torch.full((width,), -1) for head in range(heads)]
    # q k / sqrt(width) is to be what it was, with as many products as there are copies of a channel.
    often = width / had if copies else 1.0
    ones = torch.ones(new)
    return torch.cat(whole), torch.cat([ones * (width / had) ** 0.5 / often, ones, ones])


@torch.no_grad()
def _silence(qkv: nn.Conv2d, inner: Layout) -> None:
    """Makes new channels of old heads 0 in the queries, so that they say nothing of what is alike."""
    rows = (inner < 0).nonzero().squeeze(1).to(qkv.weight.device)
    qkv.weight[rows] = 0
    if qkv.bias is not None:
        qkv.bias[rows] = 0


@torch.no_grad()
def same(new: nn.Module, old: nn.Module) -> None:
    """A part that is not wider.

    Raises:
        PartError: It is.
    """
    ours, theirs = new.state_dict(), old.state_dict()
    for name, value in ours.items():
        if name not in theirs or theirs[name].shape != value.shape:
            raise PartError(f"{name} is {list(value.shape)}, and should not have changed")
        value.copy_(theirs[name])


def output_head(new: OutputHead, old: OutputHead, layout: Layout) -> None:
    """The map to the channels of an image, which stay.

    Raises:
        PartError: It cannot be.
    """
    group_norm(new.norm, old.norm, layout)
    linear(new.conv, old.conv, layout, torch.arange(old.conv.out_channels))


def attention_1d(new: nn.Module, old: nn.Module, layout: Layout) -> None:
    """Timm's attention over tokens, all of whose channels are copies.

    Raises:
        PartError: Heads are cut otherwise.
    """
    wide, narrow = cast("Any", new), cast("Any", old)
    had: int = narrow.qkv.out_features // 3
    inner, factor = _heads(wide.qkv.out_features // 3, wide.num_heads, had, narrow.num_heads, copies=True)
    linear(wide.qkv, narrow.qkv, layout, _chunks([inner] * 3, had), factor)
    linear(wide.proj, narrow.proj, inner, layout)


def mlp(new: nn.Module, old: nn.Module, layout: Layout) -> None:
    """Timm's MLP, whose hidden layer has new channels.

    Raises:
        PartError: It would have fewer.
    """
    wide, narrow = cast("Any", new), cast("Any", old)
    hidden = grown(narrow.fc1.out_features, wide.fc1.out_features)
    linear(wide.fc1, narrow.fc1, layout, hidden)
    linear(wide.fc2, narrow.fc2, hidden, layout)
