"""What the tool behind the paper's Table 2 did not see of the networks: the convention "paper" leaves it out.

The tool (torchstat) counts Conv2d and Linear and nothing else. What the published code writes otherwise (einsum,
Conv1d, products of tensors, filters as functions) has no cost there, though it is a Conv2d here. One table says which
of our layers that is.
Source: torchstat 0.0.7 run on the published networks of score_sde, EDM and latent diffusion.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from msdk.layers.attention import Attention2d
from msdk.layers.resample import PyramidDownsample
from msdk.layers.residual import ResidualBlock

UNSEEN: Mapping[type[nn.Module], Callable[[Any], list[nn.Module | None]]] = {
    # Projections are einsum in score_sde and Conv1d in LDM; in EDM, ADM and autoencoders they are Conv2d: seen.
    Attention2d: lambda layer: [layer.qkv, layer.proj] if layer.family in ("ddpm", "ddpmpp", "ldm") else [],
    # The 1x1 shortcuts of DDPM are einsum; those of all others are Conv2d.
    ResidualBlock: lambda block: [block.shortcut] if block.style.family == "ddpm" else [],
    # score_sde's pyramid is one function that filters and convolves; EDM's copy convolves in a Conv2d.
    PyramidDownsample: lambda level: [] if level.conv_first else [level.conv],
}
"""Class of a layer -> those of its own layers that the tool did not see."""

BIAS_LATER: Mapping[type[nn.Module], Callable[[Any], nn.Conv2d | None]] = {
    PyramidDownsample: lambda level: level.conv if level.conv_first else None,
}
"""Class of a layer -> that one of its convolutions whose bias it adds to its own output, and which is counted there."""


def unseen(network: nn.Module) -> Iterator[nn.Module]:
    """All layers of a network that the paper's tool did not see."""
    for layer in network.modules():
        for kind, of in UNSEEN.items():
            if isinstance(layer, kind):
                yield from (part for part in of(layer) if part is not None)


def late_biases(network: nn.Module) -> dict[nn.Module, nn.Conv2d]:
    """Layer -> its convolution whose bias it adds itself."""
    found = {
        layer: of(layer) for layer in network.modules() for kind, of in BIAS_LATER.items() if isinstance(layer, kind)
    }
    return {layer: convolution for layer, convolution in found.items() if convolution is not None}
