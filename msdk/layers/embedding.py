"""Embedding of the noise level, of class labels and of augmentation labels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name every torch reader knows

from msdk.errors import PartError
from msdk.layers.conv import Linear
from msdk.layers.style import EmbeddingStyle


def positional(c_noise: Float[Tensor, " batch"], width: int, *, endpoint: bool) -> Float[Tensor, "batch width"]:
    """[sin(c f_i), cos(c f_i)] with f_i = 10000^(-i / (width/2 - 1)), or / (width/2) without the endpoint.

    Source: score_sde's sinusoidal embedding (after Vaswani et al. 2017). An odd width gets a column of zeros.
    """
    half = width // 2
    steps = torch.arange(half, dtype=c_noise.dtype, device=c_noise.device)
    angle = c_noise[:, None] * torch.exp(-math.log(10000) * steps / (half - 1 if endpoint else half))
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, width % 2))


def timestep(c_noise: Float[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """[cos(c f_i), sin(c f_i)] with f_i = 10000^(-i / (width/2)); an odd width gets a column of zeros.

    Source: Dhariwal and Nichol 2021, arXiv 2105.05233, in their code; LDM, DiT and U-ViT have it from there.
    """
    sin, cos = positional(c_noise, width // 2 * 2, endpoint=False).chunk(2, dim=1)
    return F.pad(torch.cat([cos, sin], dim=1), (0, width % 2))


class Fourier(nn.Module):
    """[sin(2 pi c f_i), cos(2 pi c f_i)] with random frequencies that are drawn once.

    Source: Tancik et al. 2020, arXiv 2006.10739; as in NCSN++.
    """

    def __init__(self, style: EmbeddingStyle) -> None:
        super().__init__()
        self.log = style.log
        frequencies = style.fourier_scale * torch.randn(style.features // 2)
        if style.fourier_parameter:
            self.frequencies = nn.Parameter(frequencies, requires_grad=False)
        else:
            self.register_buffer("frequencies", frequencies)

    def forward(self, c_noise: Float[Tensor, " batch"]) -> Float[Tensor, "batch f"]:
        position = c_noise.log() if self.log else c_noise
        angle = 2 * math.pi * position[:, None] * self.frequencies.to(c_noise.dtype)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


def class_rows(label: Tensor, classes: int, like: Tensor) -> Float[Tensor, "batch classes"]:
    """Class numbers [batch] to rows with a single 1; a number outside the classes, say -1, is no class: zeros.

    Rows [batch, classes] stay as they are. Works without reading the labels, so no device waits.
    """
    if label.ndim == 1:
        label = label[:, None] == torch.arange(classes, device=label.device)
    if label.shape[1:] != (classes,):
        raise PartError(f"class labels are numbers [batch] or rows [batch, {classes}], got {tuple(label.shape)}")
    return label.to(like.device, like.dtype)


class NoiseEmbedding(nn.Module):
    """silu(out(silu(hidden(features of the noise level)))), with labels added where the style says.

    The last SiLU, which some families write in front of every use instead, is here: the same numbers, computed once.
    """

    def __init__(self, style: EmbeddingStyle) -> None:
        super().__init__()
        self.style = style
        self.fourier = Fourier(style) if style.kind == "fourier" else None
        init = style.init
        self.label = self.augment = None
        if style.classes:
            width = style.features if style.label_at == "input" else style.width
            self.label = Linear(style.classes, width, bias=style.label_bias, init=init)
            if style.label_at == "output":
                nn.init.normal_(self.label.weight)
        if style.augment:
            self.augment = Linear(style.augment, style.features, bias=False, init=init, scale=float(init == "xavier"))
        self.hidden = Linear(style.features, style.width, init=init)
        self.out = Linear(style.width, style.width, init=init)

    def forward(
        self, c_noise: Float[Tensor, " batch_or_1"], label: Tensor | None = None, augment: Tensor | None = None
    ) -> Float[Tensor, "rows e"]:
        style, like = self.style, self.hidden.weight
        labels = self._labels(label, like)
        # Angles of hundreds of radians lose their last digits in float32; Apple's devices have nothing better.
        precise = c_noise.float() if c_noise.device.type == "mps" else c_noise.double()
        h = self._features(precise).to(like.dtype)
        if labels is not None and style.label_at == "input":
            h = h + labels
        if augment is not None:
            if self.augment is None:
                raise PartError("this encoder takes no augmentation labels: set its `augment`")
            h = h + self.augment(augment.to(like.device, like.dtype))
        h = self.out(F.silu(self.hidden(h)))
        if labels is not None and style.label_at == "output":
            h = h + labels
        return F.silu(h)

    def _features(self, c_noise: Tensor) -> Tensor:
        if self.fourier is not None:
            return self.fourier(c_noise)
        if self.style.kind == "positional":
            return positional(c_noise, self.style.features, endpoint=True)
        return timestep(c_noise, self.style.features)

    def _labels(self, label: Tensor | None, like: Tensor) -> Tensor | None:
        if self.label is None:
            if label is not None:
                raise PartError("this encoder takes no class labels: set its `classes`")
            return None
        classes = self.style.classes
        rows = like.new_zeros(1, classes) if label is None else class_rows(label, classes, like)
        return self.label(rows * math.sqrt(classes) if self.style.label_scale else rows)
