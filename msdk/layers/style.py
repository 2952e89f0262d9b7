"""What the published U-Nets differ in beside their widths: data alone, so that a recipe is checked without torch."""

import math
from typing import Literal

import attrs

from msdk.errors import PartError

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
"""The filter of NCSN++ (Song et al. 2021, arXiv 2011.13456, appendix H, after StyleGAN2)."""


def even_taps(_: object, __: object, taps: "tuple[float, ...]") -> None:
    """Validator of resampling filters: one of odd length would shift the image by half a pixel.

    Raises:
        ValueError: The length is odd.
    """
    if len(taps) % 2:
        raise ValueError(f"must have an even number of entries, got {len(taps)}")
    if max(taps) > 1e6 or sum(taps) < 1e-6:
        raise ValueError(f"must be numbers around 1, got {list(taps)}")


Family = Literal["ddpmpp", "ddpm", "song", "adm", "ldm", "iunet", "autoencoder"]

Init = Literal["xavier", "torch", "torch-all"]
"""Law of initial weights: "xavier" is uniform over the mean of fan-in and fan-out with biases of 0 (score_sde, Song),
"torch" is torch's own, uniform over fan-in (ADM, LDM). Layers that end a residual branch start at nearly 0 in both;
"torch-all" is torch's own for them too (autoencoders)."""


@attrs.frozen(kw_only=True)
class BlockStyle:
    """How residual and attention blocks are made.

    Attributes:
        groups: Cap on the groups of the norms.
        group_width: Fewest channels of a group: the norms have min(groups, channels / group_width) groups.
        eps: Epsilon of the norms.
        skip_scale: Factor of the sum of block and shortcut.
        modulation: "shift" adds the embedding in front of the second norm, "scale-shift" scales and shifts behind it.
        project_resampled: Whether a block that resamples has a 1x1 shortcut even where the width stays.
        shortcut_scale: Scale of the initial weights of 1x1 shortcuts under "xavier".
        taps: FIR filter that resampling uses; None means 2x2 means and repeated pixels.
        dropout: Probability in front of the second convolution.
        heads: Attention heads, where `head_width` is None.
        head_width: Channels per attention head; a narrower map then has no attention.
        init: Law of initial weights.
        family: Which published networks have blocks like these, see `msdk.layers.families`.
        convolution: Share of the channels that convolution has beside attention, by level, finest first, of which the
            last one holds for all that follow; None for attention alone, see `msdk.layers.attention.InceptionMixer`.
        pooled: Levels, from the finest, at which attention beside convolution sees means of 2x2 pixels.
    """

    groups: int = 32
    group_width: int = 4
    eps: float = 1e-6
    skip_scale: float = math.sqrt(0.5)
    modulation: Literal["shift", "scale-shift"] = "shift"
    project_resampled: bool = True
    shortcut_scale: float = 1.0
    taps: tuple[float, ...] | None = None
    dropout: float = 0.0
    heads: int = 1
    head_width: int | None = None
    init: Init = "xavier"
    family: Family = "ddpmpp"
    convolution: tuple[float, ...] | None = None
    pooled: int = 0

    def group_count(self, channels: int) -> int:
        """Groups of a norm over that many channels; at least 1."""
        return max(min(channels // self.group_width, self.groups), 1)

    def head_count(self, channels: int) -> int:
        """Attention heads over that many channels; 0 means no attention."""
        return self.heads if self.head_width is None else channels // self.head_width

    def split(self, channels: int, level: int) -> tuple[int, int]:
        """Of a map of that many channels the heads that attend, and the channels that convolve.

        The share of convolution is rounded so that attention keeps whole heads.
        """
        shares = self.convolution or (0.0,)
        heads, share = self.head_count(channels), shares[min(level, len(shares) - 1)]
        low = math.floor((1 - share) * heads + 0.5)
        return low, channels - low * (channels // heads)

    def check(self, channels: int, where: str, *, attention: bool = False, pixels: int = 0, level: int = -1) -> None:
        """Raises `PartError` where the channels do not split into groups, or into heads if there is attention.

        Args:
            channels: Of the map.
            where: What is looked at, for the message.
            attention: Whether there is attention.
            pixels: Of the map; 0 where that is not known.
            level: Of the map.
        """
        groups = self.group_count(channels)
        if channels % groups:
            raise PartError(
                f"{where}: {channels} channels cannot be split into {groups} groups; set another `groups` or width"
            )
        if pixels == 1 and groups == channels:
            raise PartError(
                f"{where}: a norm of {groups} groups over {channels} channels of a single pixel has one number in "
                "each, which it makes 0: lower `groups`, or take fewer levels"
            )
        heads = self.head_count(channels) if attention else 1
        if heads and channels % heads:
            raise PartError(f"{where}: {channels} channels cannot be split into {heads} attention heads")
        if attention and heads and self.split(channels, level)[1] % 2:
            raise PartError(
                f"{where}: {self.split(channels, level)[1]} of {channels} channels would convolve, half of them pooled "
                "first, and they have no half: use heads of an even width"
            )


@attrs.frozen(kw_only=True)
class EmbeddingStyle:
    """How the noise level and the labels become one vector.

    Attributes:
        kind: "positional" is [sin, cos] with the last frequency at 1/10000 (score_sde, Song), "timestep" is [cos, sin]
            that stops short of it (ADM, LDM, DiT), "fourier" has random frequencies.
        features: Values that the noise level becomes first.
        width: Values of the result.
        log: Whether Fourier features are of the logarithm of what is fed.
        fourier_scale: Standard deviation of the random frequencies.
        fourier_parameter: Whether these are stored as a parameter that is not trained, instead of a buffer.
        classes: Classes of the labels; 0 takes none.
        augment: Augmentation labels per image; 0 takes none.
        label_at: Whether class labels join before the first layer or after the second.
        label_bias: Whether the map of class labels has a bias.
        label_scale: Whether class labels are scaled by the root of their number.
        init: Law of initial weights.
    """

    kind: Literal["positional", "timestep", "fourier"]
    features: int
    width: int
    log: bool = False
    fourier_scale: float = 16.0
    fourier_parameter: bool = False
    classes: int = 0
    augment: int = 0
    label_at: Literal["input", "output"] = "input"
    label_bias: bool = True
    label_scale: bool = True
    init: Init = "xavier"


@attrs.frozen(kw_only=True)
class TransformerStyle:
    """The sizes of transformer blocks.

    Attributes:
        width: Channels of a token.
        heads: Attention heads.
        mlp_ratio: Width of the MLPs' hidden layer, as a multiple of `width`.
    """

    width: int
    heads: int
    mlp_ratio: float

    def check(self) -> None:
        """Raises `PartError` where the width does not split into heads."""
        if self.width % self.heads:
            raise PartError(
                f"a width of {self.width} cannot be split into {self.heads} attention heads: set another `width` or "
                "`heads`"
            )
        if not 1 <= self.width * self.mlp_ratio <= 2**24:
            raise PartError(
                f"mlp_ratio = {self.mlp_ratio:g} times a width of {self.width} is no width of a hidden layer: set it "
                "to a number around 4"
            )
