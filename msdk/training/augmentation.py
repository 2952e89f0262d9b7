"""EDM's geometric augmentation: random changes of the training images, each of which the network is told about.

Told of a change, the network need not put it into what it generates (non-leaky augmentation); sampling tells of none.
Source: Karras et al. 2022, arXiv 2206.00364, appendix F.2, after Karras et al. 2020 (StyleGAN2-ADA), arXiv 2006.06676.
"""

import functools
import math
from collections.abc import Callable, Sequence

import attrs
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

SCALE_STD = 0.2
"""Of the binary logarithm of a change of size or of aspect."""

TRANSLATION_STD = 0.125
"""Of a shift, in image widths and heights."""

ANALYSIS = (0.602949018236, 0.266864118443, -0.078223266529, -0.016864118443, 0.026748757411)
SYNTHESIS = (1.115087052457, 0.591271763114, -0.057543526229, -0.091271763114)
"""Right halves of two symmetric low-pass filters for halving and doubling an image: halving a doubled one is exact.

Source: the 9/7 wavelets of Cohen, Daubechies and Feauveau 1992, scaled to gains 1 and 2.
"""

MIDPOINTS = (1.0, 9 / 16, 0.0, -1 / 16)
"""Right half of a filter that doubles a smooth image and keeps its pixels (Deslauriers and Dubuc 1989)."""


@attrs.frozen(eq=False)
class Changes:
    """What is done to the images of a batch, on the CPU; each image is scaled, rotated, squeezed, then shifted.

    Attributes:
        mirrored: bool [batch], left to right.
        upended: bool [batch], top to bottom.
        log_scale: [batch], size becomes 2^(SCALE_STD log_scale) times the old one.
        angle: [batch], counter-clockwise rotation in radians.
        log_aspect: [batch], stretched by 2^(SCALE_STD log_aspect) along an axis and by its inverse across it.
        axis: [batch], that axis, in radians counter-clockwise from the right.
        shift: [batch, 2], to the right and down, in units of TRANSLATION_STD of width and height.
    """

    mirrored: Tensor
    upended: Tensor
    log_scale: Tensor
    angle: Tensor
    log_aspect: Tensor
    axis: Tensor
    shift: Tensor

    def select(self, index: Int[Tensor, " n"]) -> "Changes":
        """Those of some images, by their positions."""
        return Changes(*(getattr(self, field.name)[index] for field in attrs.fields(Changes)))

    def labels(self) -> Float[Tensor, "batch 9"]:
        """What the network is told: 0 wherever nothing was done."""
        columns = (
            self.mirrored,
            self.upended,
            self.log_scale,
            self.angle.cos() - 1,
            self.angle.sin(),
            self.log_aspect * self.axis.cos(),
            self.log_aspect * self.axis.sin(),
            *self.shift.unbind(1),
        )
        return torch.stack([column.float() for column in columns], dim=1)

    def apply(self, images: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        """The changed images, on their device; those that are only mirrored are moved pixel by pixel, exactly.

        Everything is decided on the host, so no device is waited for.
        """

        def chosen(which: Tensor) -> Tensor:
            return which.to(images.device, non_blocking=True).view(-1, 1, 1, 1)

        images = torch.where(chosen(self.mirrored), images.flip(-1), images)
        images = torch.where(chosen(self.upended), images.flip(-2), images)
        strengths = torch.stack([self.log_scale, self.angle, self.log_aspect, *self.shift.unbind(1)])
        bent = (strengths != 0).any(0).nonzero().squeeze(1)
        if len(bent):
            index = bent.to(images.device, non_blocking=True)
            maps = self._maps(images.shape[2], images.shape[3])[bent]
            images = images.index_copy(0, index, resampled(images.index_select(0, index), maps))
        return images

    def _maps(self, height: int, width: int) -> Float[Tensor, "batch 3 3"]:
        """Where a pixel goes: affine maps of (x right, y down, 1), in pixels from the image's centre, in float64."""
        ones = torch.ones_like(self.angle)
        size, aspect = (2 ** (SCALE_STD * logarithm) for logarithm in (self.log_scale, self.log_aspect))
        shift = self.shift * TRANSLATION_STD
        moved = _matrix([[ones, 0, shift[:, 0] * width], [0, ones, shift[:, 1] * height], [0, 0, ones]])
        squeezed = _rotation(self.axis) @ _matrix([[aspect, 0, 0], [0, 1 / aspect, 0], [0, 0, ones]])
        squeezed = squeezed @ _rotation(-self.axis)
        return moved @ squeezed @ _rotation(self.angle) @ _matrix([[size, 0, 0], [0, size, 0], [0, 0, ones]])


def draw_changes(batch: int, probability: float, generator: Generator) -> Changes:
    """Draws the changes of a batch.

    Mirroring left to right has probability 1/2, as a mirrored photograph is as good as the other; everything else
    happens with the given probability, one change independently of the others: sizes and aspects are log-normal, angles
    uniform, half of the stretches are along the image's sides, shifts are normal.

    Args:
        batch: Images.
        probability: Of each change; 0 changes nothing, not even by mirroring.
        generator: On the CPU.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    def uniform() -> Tensor:
        return torch.rand(batch, generator=generator, dtype=torch.float64)

    def some(values: Tensor, chance: float = probability) -> Tensor:
        """The values where the change happens, 0 elsewhere."""
        happens = uniform() < chance
        return torch.where(happens if values.ndim == 1 else happens[:, None], values, torch.zeros_like(values))

    def angles() -> Tensor:
        return (2 * uniform() - 1) * math.pi

    return Changes(
        mirrored=(uniform() < 0.5) & (probability > 0),
        upended=some(uniform()) > 0.5,
        log_scale=some(normal()),
        angle=some(angles()),
        log_aspect=some(normal()),
        axis=some(angles(), 0.5),
        shift=some(normal(2)),
    )


def resampled(images: Float[Tensor, "batch c h w"], maps: Float[Tensor, "batch 3 3"]) -> Float[Tensor, "batch c h w"]:
    """Images under affine maps of the plane, reflected at their borders.

    The image is doubled by a low-pass filter and, for a finer grid to interpolate in, by midpoints; it is sampled at
    twice its resolution, and halved by the matching filter, which removes what the result could not hold. Under the
    identity this is exact.

    Args:
        images: At least 2 pixels in each direction.
        maps: As `Changes` makes them; on the CPU.
    """
    height, width = images.shape[2:]
    reach = len(ANALYSIS) - 1
    # grid_sample puts the outermost pixels at -1 and 1, so these numbers mean the same place in every doubled grid.
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2, 1.0], dtype=torch.float64)
    back = (torch.linalg.inv(maps) * half / half[:, None])[:, :2]
    across, down = (
        torch.arange(-reach, 2 * side - 1 + reach, dtype=torch.float64) / (side - 1) - 1 for side in (width, height)
    )
    back, across, down = (values.to(images.device, images.dtype, non_blocking=True) for values in (back, across, down))
    x = back[:, :, 0, None, None] * across + back[:, :, 1, None, None] * down[:, None] + back[:, :, 2, None, None]

    def along(matrix: Callable[[int], Tensor], values: Tensor) -> Tensor:
        rows, columns = (matrix(side).to(images.device, images.dtype, non_blocking=True) for side in (height, width))
        return rows @ values @ columns.T

    fine = torch.nn.functional.grid_sample(
        along(_quadrupling, images), x.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=True
    )
    return along(_halving, fine)


@functools.cache
def _quadrupling(side: int) -> Float[Tensor, "fine side"]:
    return _doubling(2 * side - 1, MIDPOINTS) @ _doubling(side, SYNTHESIS)


def _doubling(side: int, taps: Sequence[float]) -> Float[Tensor, "fine side"]:
    """A matrix that puts 2 side - 1 pixels, every second of them in an old place, where there were `side`."""
    fine, period = 2 * side - 1, max(2 * (side - 1), 1)
    matrix = torch.zeros(fine, side, dtype=torch.float64)
    for offset in range(1 - len(taps), len(taps)):
        rows = torch.arange(offset % 2, fine, 2)
        source = (rows - offset).div(2, rounding_mode="floor").abs() % period
        source = torch.where(source < side, source, period - source)  # reflected about the outermost pixels
        matrix.index_put_((rows, source), matrix.new_tensor(taps[abs(offset)]), accumulate=True)
    return matrix


@functools.cache
def _halving(side: int) -> Float[Tensor, "side wide"]:
    """A matrix that takes every second pixel of a filtered line, whose margins are as wide as the filter's reach."""
    reach = len(ANALYSIS) - 1
    matrix = torch.zeros(side, 2 * side - 1 + 2 * reach, dtype=torch.float64)
    rows = torch.arange(side)
    for offset in range(-reach, reach + 1):
        matrix[rows, 2 * rows + reach + offset] = ANALYSIS[abs(offset)]
    return matrix


def _rotation(angle: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 3"]:
    """Counter-clockwise for a reader, whose y axis points up where that of the pixels points down."""
    cos, sin = angle.cos(), angle.sin()
    return _matrix([[cos, sin, 0], [-sin, cos, 0], [0, 0, torch.ones_like(angle)]])


def _matrix(rows: list[list[Tensor | int]]) -> Float[Tensor, "batch 3 3"]:
    """Matrices of per-image entries, and of zeros."""
    (like, *_) = (entry for row in rows for entry in row if isinstance(entry, Tensor))
    entries = [entry if isinstance(entry, Tensor) else torch.zeros_like(like) for row in rows for entry in row]
    return torch.stack(entries, dim=-1).view(-1, 3, 3)
