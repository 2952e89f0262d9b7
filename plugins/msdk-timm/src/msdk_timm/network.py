"""The network of the timm encoder."""

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.errors import PartError
from msdk.layers.conv import Conv2d
from msdk.layers.embedding import NoiseEmbedding
from msdk.layers.residual import ResidualBlock
from msdk.layers.style import BlockStyle, EmbeddingStyle
from msdk_timm import backbone

if TYPE_CHECKING:
    from msdk_timm.encoder import Timm

GROUPS = 32
"""Cap on the groups of the norms of the middle, as in DDPM++."""


class Modulation(nn.Module):
    """x (1 + scale) + shift; both are linear in the activated noise embedding, per channel, and 0 at first.

    Args:
        channels: Channels of the feature map.
        embedding: Width of the noise embedding.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.dense = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(
        self, x: Float[Tensor, "batch c h w"], embedding: Float[Tensor, "batch_or_1 e"]
    ) -> Float[Tensor, "batch c h w"]:
        scale, shift = self.dense(embedding)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class TimmEncoder(nn.Module):
    """See `msdk_timm.encoder.Timm`."""

    def __init__(self, spec: "Timm", shape: Shape, info: FeatureInfo) -> None:
        super().__init__()
        maps = spec.maps(shape)
        self.embedding = NoiseEmbedding(EmbeddingStyle(kind="positional", features=spec.channels, width=info.embedding))
        self.stem = Conv2d(shape[0], spec.channels)
        self.backbone = backbone.create(spec.backbone, shape, maps, pretrained=spec.pretrained)
        mapped = {found.reduction for found in maps}
        self.mapped = tuple(level.reduction in mapped for level in info.levels[1:])  # else a bridge
        widths = [level.skips[-1] for level in info.levels]
        self.bridges = nn.ModuleList(
            Conv2d(above, width, stride=2)
            for above, width, here in zip(widths[:-1], widths[1:], self.mapped, strict=True)
            if not here
        )
        self.modulations = nn.ModuleList(Modulation(width, info.embedding) for width in widths)
        style = BlockStyle(groups=_groups(info.bottom))
        self.middle = ResidualBlock(info.bottom, info.bottom, style, embedding=info.embedding)

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch_or_1"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Features:
        if label is not None or augment is not None:
            raise PartError("the timm encoder takes no class or augmentation labels")
        embedding = self.embedding(c_noise)
        maps, bridges = iter(self.backbone(x)), iter(self.bridges)
        h = self.stem(x)
        levels: list[Tensor] = [h]
        for mapped in self.mapped:
            h = next(maps) if mapped else next(bridges)(F.silu(h))
            levels.append(h)
        skips = tuple(modulate(h, embedding) for modulate, h in zip(self.modulations, levels, strict=True))
        return Features(skips, self.middle(skips[-1], embedding), embedding)


def _groups(channels: int) -> int:
    """The most groups up to `GROUPS` and a quarter of the channels that divide them: a backbone's widths are given."""
    return next(groups for groups in range(max(min(channels // 4, GROUPS), 1), 0, -1) if channels % groups == 0)
