"""Tokens in, tokens out: the layers of DiT and U-ViT, on timm's attention, MLP and block."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from timm.layers.activations import GELUTanh
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.patch_embed import PatchEmbed as TimmPatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.errors import PartError
from msdk.layers.conv import Linear, variance_scaling_
from msdk.layers.embedding import class_rows, timestep
from msdk.layers.style import Init, TransformerStyle

STD = 0.02
"""Standard deviation of the weights that both papers draw from a normal law."""


class PatchEmbed(nn.Module):
    """timm's patch embedding, for images of one shape.

    Args:
        shape: Channels, height and width of the images.
        patch: Side of a patch in pixels.
        width: Channels of a token.
        init: Law of the initial weights; "xavier" is that of the linear map of a patch.
    """

    def __init__(self, shape: Sequence[int], patch: int, width: int, *, init: Init) -> None:
        super().__init__()
        self.shape = shape
        self.embed = TimmPatchEmbed(None, patch, shape[0], width)  # no size: its check is an assertion, ours is below
        if init == "xavier":
            with torch.no_grad():
                variance_scaling_(self.embed.proj.weight.flatten(1), 1.0)
            _zero_bias(self.embed.proj)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch n d"]:
        if tuple(x.shape[1:]) != self.shape:
            given, built = ("x".join(str(int(size)) for size in sizes) for sizes in (x.shape[1:], self.shape))
            raise PartError(
                f"this transformer was built for images of {built}, which its position embedding depends on, and got "
                f"{given}: build it for that shape"
            )
        return self.embed(x)


def patch_grid(shape: Sequence[int], patch: int) -> tuple[int, int]:
    """Rows and columns of patches of an image."""
    return shape[1] // patch, shape[2] // patch


def unpatchify(
    tokens: Float[Tensor, "batch n d"], grid: tuple[int, int], patch: int
) -> Float[Tensor, "batch c height width"]:
    """Tokens of patch^2 c values each, the channel running fastest, to the image that they tile row by row."""
    return rearrange(tokens, "b (h w) (p q c) -> b c (h p) (w q)", h=grid[0], w=grid[1], p=patch, q=patch)


def sincos_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "n width"]:
    """[sin(x f_i), cos(x f_i), sin(y f_i), cos(y f_i)], f_i = 10000^(-i / (width/4)), of column x and row y.

    Source: the code of DiT (Peebles and Xie 2023), after MAE; timm's own has the channels in another order.
    """
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in grid)
    frequencies = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    x = (columns[:, None] * frequencies).repeat(grid[0], 1)
    y = (rows[:, None] * frequencies).repeat_interleave(grid[1], 0)
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1).float()


class ClassTable(nn.Module):
    """One learned vector per class; "no class" is zeros, or a learned vector too.

    Args:
        classes: Number of classes; with 0, labels are refused.
        width: Channels of the vectors.
        null: Whether "no class" is learned.
        std: Standard deviation of the initial vectors.
    """

    def __init__(self, classes: int, width: int, *, null: bool, std: float) -> None:
        super().__init__()
        self.classes, self.null = classes, null
        self.table = nn.Parameter(std * torch.randn(classes + null, width)) if classes else None

    def forward(self, label: Tensor | None, like: Float[Tensor, "some d"]) -> Float[Tensor, "batch_or_1 d"]:
        """The vectors of class numbers [batch], -1 for none, or of rows [batch, classes]; `like` gives dtype and width.

        Numbers are looked up, which costs no product with the table; only rows are multiplied with it.
        """
        if label is None:
            return self.table[-1:] if self.table is not None and self.null else torch.zeros_like(like[:1])
        if self.table is None:
            raise PartError("this encoder takes no class labels: set its `classes`")
        if label.ndim == 1:
            known = (label >= 0) & (label < self.classes)
            vectors = F.embedding(torch.where(known, label, self.classes if self.null else 0), self.table)
            return vectors if self.null else vectors * known[:, None]
        rows = class_rows(label, self.classes, self.table)
        if self.null:
            rows = torch.cat([rows, 1 - rows.sum(dim=1, keepdim=True)], dim=1)
        return rows @ self.table


class ConditionEmbedding(nn.Module):
    """silu(out(silu(hidden(timestep features))) + vector of the class).

    The last SiLU, which DiT writes in front of every modulation, is here: the same numbers, computed once.
    Source: Peebles and Xie 2023, arXiv 2212.09748; 256 features as in their code.
    """

    FEATURES = 256

    def __init__(self, width: int, classes: int, *, null: bool) -> None:
        super().__init__()
        self.hidden, self.out = Linear(self.FEATURES, width), Linear(width, width)
        nn.init.normal_(self.hidden.weight, std=STD)
        nn.init.normal_(self.out.weight, std=STD)
        self.classes = ClassTable(classes, width, null=null, std=STD)

    def forward(self, c_noise: Float[Tensor, " levels"], label: Tensor | None = None) -> Float[Tensor, "vectors d"]:
        """One vector per image; a single one where the batch has one noise level and no labels."""
        features = timestep(c_noise, self.FEATURES).to(self.hidden.weight.dtype)
        h = self.out(F.silu(self.hidden(features)))
        return F.silu(h + self.classes(label, h))


def modulation(embedding: int, width: int, parts: int) -> Linear:
    """The map from the condition to `parts` vectors of a block, 0 at first ("zero" of adaLN-zero)."""
    return Linear(embedding, parts * width, init="torch", scale=0.0)


def modulated(norm: nn.LayerNorm, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """norm(x) (1 + scale) + shift."""
    return norm(x) * (1 + scale) + shift


class AdaLNBlock(nn.Module):
    """x + gate attention(modulated norm of x), then x + gate mlp(modulated norm of x); the identity at first.

    Source: adaLN-zero, Peebles and Xie 2023, arXiv 2212.09748, section 3.2.

    Args:
        style: Sizes of the block.
        embedding: Width of the condition.
    """

    def __init__(self, style: TransformerStyle, embedding: int) -> None:
        super().__init__()
        self.width = width = style.width
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, style.heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = Mlp(width, int(width * style.mlp_ratio), act_layer=GELUTanh)
        for layer in (*self.attention.modules(), *self.mlp.modules()):
            if isinstance(layer, nn.Linear):
                variance_scaling_(layer.weight, 1.0)
                _zero_bias(layer)
        self.modulation = modulation(embedding, width, 6)

    def forward(
        self, x: Float[Tensor, "batch n d"], embedding: Float[Tensor, "batch_or_1 e"]
    ) -> Float[Tensor, "batch n d"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(embedding)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(modulated(self.norm1, x, shift1, scale1))
        return x + gate2 * self.mlp(modulated(self.norm2, x, shift2, scale2))


class AdaLNHead(nn.Module):
    """linear(modulated norm of x), 0 at first.

    Args:
        width: Channels of a token.
        outputs: Values per token.
        embedding: Width of the condition.
    """

    def __init__(self, width: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = modulation(embedding, width, 2)
        self.linear = Linear(width, outputs, init="torch", scale=0.0)

    def forward(
        self, x: Float[Tensor, "batch n d"], embedding: Float[Tensor, "batch_or_1 e"]
    ) -> Float[Tensor, "batch n values"]:
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=2)
        return self.linear(modulated(self.norm, x, shift, scale))


def plain_block(style: TransformerStyle) -> Block:
    """Timm's pre-norm block as U-ViT has it: no bias of queries, keys and values, an epsilon of 1e-5."""
    block = Block(style.width, style.heads, style.mlp_ratio, qkv_bias=False, norm_layer=nn.LayerNorm)
    block.apply(init_plain)
    return block


def init_plain(layer: nn.Module) -> None:
    """U-ViT's law of initial weights: linear maps of standard deviation 0.02, biases of 0."""
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=STD)
        _zero_bias(layer)


def _zero_bias(layer: nn.Linear | nn.Conv2d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
