"""The network of every U-Net decoder."""

from collections.abc import Iterable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msdk.decoders.unet import UNetDecoderPlan
from msdk.encoders.base import FeatureInfo, Features
from msdk.errors import PartError
from msdk.layers import widening
from msdk.layers.attention import attention
from msdk.layers.blockwise import Blockwise
from msdk.layers.resample import ConvUpsample, resampling
from msdk.layers.residual import Middle, OutputHead, ResidualBlock, attended, block_pairs


def joined(block: ResidualBlock, attend: nn.Module, h: Tensor, skip: Tensor, embedding: Tensor) -> Tensor:
    """A block on the features beside a skip. Joined in here, they need no memory of their own where it recomputes."""
    return attended(block, attend, torch.cat([h, skip], dim=1), embedding)


class DecoderLevel(Blockwise):
    """The blocks of one resolution, its prediction if it makes one, then the way up to the next."""

    def __init__(
        self, blocks: list[ResidualBlock], attentions: list[nn.Module], head: OutputHead | None, up: nn.Module | None
    ) -> None:
        super().__init__()
        self.blocks, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)
        self.head, self.up = head, up

    def pairs(self) -> list[tuple[ResidualBlock, nn.Module]]:
        """Each block, and what attends behind it: `Attention2d`, or the identity."""
        return block_pairs(self.blocks, self.attentions)

    def forward(self, h: Tensor, skips: list[Tensor], embedding: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features for the next level, and this level's own prediction; takes its skips off their list."""
        for block, attend in self.pairs():
            h = self.block(joined, block, attend, h, skips.pop(), embedding)
        predicted = None if self.head is None else self.block(self.head, h)
        if self.up is not None:
            h = self.block(self.up, h, embedding) if isinstance(self.up, ResidualBlock) else self.up(h)
        return h, predicted


class UNetDecoderNet(nn.Module):
    """See `msdk.decoders.unet.UNetDecoder`."""

    def __init__(
        self,
        plan: UNetDecoderPlan,
        info: FeatureInfo,
        widths: tuple[int, ...],
        attends: tuple[bool, ...],
        outputs: int,
    ) -> None:
        super().__init__()
        style, width = plan.style, info.embedding
        self.bottom = info.bottom

        def up(channels: int) -> nn.Module:
            if plan.resampling == "block":
                return ResidualBlock(channels, channels, style, embedding=width, resample="up")
            return ConvUpsample(channels, style) if plan.resampling == "conv" else resampling("up", style)

        self.middle = Middle(info.bottom, style, embedding=width) if plan.middle else None
        levels: list[DecoderLevel] = []  # coarsest first
        before = info.bottom
        for index in reversed(range(len(widths))):
            channels, skips = widths[index], info.levels[index].skips
            blocks: list[ResidualBlock] = []
            for skip in reversed(skips):
                blocks.append(ResidualBlock(before + skip, channels, style, embedding=width))
                before = channels
            where = {"all": range(len(blocks)), "last": [len(blocks) - 1]}[plan.attend] if attends[index] else []
            attentions = [
                attention(channels, style, index) if i in where else nn.Identity() for i in range(len(blocks))
            ]
            head = OutputHead(channels, outputs, style) if plan.sum_outputs or index == 0 else None
            levels.append(DecoderLevel(blocks, attentions, head, up(channels) if index else None))
        self.levels = nn.ModuleList(levels)
        self.up_output = resampling("up", style) if plan.sum_outputs and len(widths) > 1 else None

    def forward(self, features: Features) -> Float[Tensor, "batch c h w"]:
        h, embedding, skips = features.bottom, features.embedding, list(features.skips)
        if self.middle is not None:
            h = self.middle(h, embedding)
        image: Tensor | None = None
        for level in cast("Iterable[DecoderLevel]", self.levels):
            own = skips[-len(level.blocks) :]
            del skips[-len(level.blocks) :]
            h, predicted = level(h, own, embedding)
            if image is not None and self.up_output is not None:
                predicted = self.up_output(image) + predicted
            image = predicted
        assert image is not None  # the finest level always predicts
        return image

    def shard_units(self) -> list[nn.Module]:
        """See `msdk.training.sharding`."""
        return [*self.levels, *([] if self.middle is None else [self.middle])]

    def widen(self, old: "UNetDecoderNet") -> None:
        """Takes weights with which it computes what a narrower one does, see `msdk.layers.widening`.

        Raises:
            PartError: There are none.
        """
        try:
            self._widen(old)
        except widening.GroupsError as error:
            raise PartError(f"{error}{self._advice(old)}") from None

    def _advice(self, old: "UNetDecoderNet") -> str:
        """What would keep groups of one size as they are; nothing where they have several."""
        norms = [[each for each in net.levels.modules() if isinstance(each, nn.GroupNorm)] for net in (old, self)]
        sizes = {each.num_channels // each.num_groups for each in norms[0]}
        smallest = self.path()[0].pairs()[0][0].style.group_width
        if sizes != {smallest}:
            return ""
        return f" (groups = {max(each.num_channels for each in norms[1]) // smallest} keeps them)"

    def _widen(self, old: "UNetDecoderNet") -> None:
        if [len(level.blocks) for level in self.path()] != [len(level.blocks) for level in old.path()]:
            raise PartError("it has another number of blocks")
        if (self.middle is None) != (old.middle is None):
            raise PartError("the middle belongs to one of the two alone")
        if self.middle is not None and old.middle is not None:
            widening.same(self.middle, old.middle)
        h = torch.arange(old.bottom)
        for level, narrow in zip(self.path(), old.path(), strict=True):
            for (block, attend), (small, attended_by) in zip(level.pairs(), narrow.pairs(), strict=True):
                skip = torch.arange(small.conv0.in_channels - int(h.max()) - 1)
                out = widening.grown(small.conv0.out_channels, block.conv0.out_channels)
                widening.residual_block(block, small, widening.beside(h, skip), out)
                h = out
                widening.attention_2d(attend, attended_by, h)
            if (level.head is None) != (narrow.head is None):
                raise PartError("a level predicts an image in one of the two alone")
            if level.head is not None and narrow.head is not None:
                widening.output_head(level.head, narrow.head, h)
            if isinstance(level.up, ResidualBlock) and isinstance(narrow.up, ResidualBlock):
                widening.residual_block(level.up, narrow.up, h, h)
            elif isinstance(level.up, ConvUpsample) and isinstance(narrow.up, ConvUpsample):
                widening.linear(level.up.conv, narrow.up.conv, h, h)
            elif type(level.up) is not type(narrow.up):
                raise PartError("it goes up to the next level in another way")

    def path(self) -> list[DecoderLevel]:
        """The levels, coarsest first."""
        return [cast("DecoderLevel", level) for level in self.levels]
