"""Images of which a part is known; no recipe has it, because it needs an image."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from msdk.errors import PartError
from msdk.samplers.base import Denoise
from msdk.schedules.base import Schedule
from msdk.schedules.cld import CLD
from msdk.schedules.pfgm import PFGM
from msdk.wrappers.base import Wrapper

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@attrs.frozen(eq=False)
class Known:
    """What is known of every image that is drawn.

    Attributes:
        image: Clean, in [-1, 1]: [channels, *axes] for all images, or [images, channels, *axes] with one for each.
        mask: 1 where it is known, 0 elsewhere, of as many axes as the image; broadcasts, [1, h, w] for example.
    """

    image: "Tensor"
    mask: "Tensor"

    def select(self, places: Sequence[int], axes: int) -> "Known":
        """What is known of some of the images, by their places; all of them where one image stands for every one.

        Args:
            places: Among the images.
            axes: Of one image, its channels counted.
        """
        wanted = list(places)
        image, mask = (part[wanted] if part.ndim > axes and len(part) > 1 else part for part in (self.image, self.mask))
        return Known(image, mask)

    def check(self, images: int, axes: int) -> None:
        """Raises `PartError` where there is neither one image for all nor one for each."""
        for name, part in (("image", self.image), ("mask", self.mask)):
            if part.ndim > axes and len(part) not in (1, images):
                raise PartError(f"{len(part)} known {name}s for {images} images: give one for all, or one for each")

    def digest(self) -> str:
        """SHA-256 of both, which tells what an image was drawn around."""
        parts = (self.image, self.mask)
        return hashlib.sha256(b"".join(part.cpu().contiguous().numpy().tobytes() for part in parts)).hexdigest()


@attrs.frozen(eq=False)
class Inpaint(Wrapper):
    """The known part is replaced in what the network sees and says: replacement, with one draw of noise for all calls.

    The network is fed mask (alpha known + sigma noise) + (1 - mask) x_t, and its estimate becomes mask known +
    (1 - mask) x_0. Where the noise of each image follows from its seed, so does the image.
    Source: Song et al. 2021, arXiv 2011.13456, appendix I.2.

    Args:
        known: In the range of the network's images.
        noise: Standard normal [batch, c, h, w], one for each image; on the device of the images.
    """

    known: Known
    noise: "Tensor"

    def around(self, denoise: Denoise, schedule: Schedule) -> Denoise:
        if isinstance(schedule, (CLD, PFGM)):
            raise PartError(
                f"a part of an image cannot be known under the schedule {type(schedule).__name__}, whose noise is not "
                "normal noise on the image alone: use a model of another schedule"
            )
        image, mask = (part.to(self.noise) for part in (self.known.image, self.known.mask))

        def estimate(x_t: "Tensor", t: float) -> "Tensor":
            seen = schedule.alpha(t) * image + schedule.sigma(t) * self.noise
            x_0 = denoise(mask * seen + (1 - mask) * x_t, t)
            return mask * image + (1 - mask) * x_0

        return estimate


def read_known(image: Path, mask: Path, shape: tuple[int, ...]) -> Known:
    """Reads what is known from two pictures of the size that the model draws.

    Args:
        image: The picture; what is not known of it does not matter.
        mask: White where it is known, black elsewhere.
        shape: Channels, height and width that the model draws.

    Raises:
        PartError: A file is no picture, has another size, or a mask is neither black nor white.
    """
    import numpy as np
    import torch

    channels, *axes = shape
    if channels not in (1, 3) or len(axes) != 2:
        raise PartError(
            f"{image} and {mask} are pictures, grey or in colour, but this model draws {list(shape)}: pass `Known` "
            "from Python"
        )
    pixels = _pixels(image, "L" if channels == 1 else "RGB", shape)
    shades = _pixels(mask, "L", shape)
    odd = np.setdiff1d(shades, (0, 255))
    if odd.size:
        raise PartError(f"{mask}: a mask is white (255) where the image is known and black (0) elsewhere, got {odd[0]}")
    known = torch.from_numpy(pixels.reshape(*shape[1:], channels)).permute(2, 0, 1).float() / 127.5 - 1
    return Known(known, torch.from_numpy(shades).float()[None] / 255)


def _pixels(file: Path, mode: str, shape: tuple[int, ...]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    import numpy as np
    from PIL import Image

    try:
        with Image.open(file) as picture:
            wide, high = picture.size  # known before anything is decoded
            found = np.array(picture.convert(mode)) if (high, wide) == shape[1:] else None
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PartError(f"{file} cannot be read as a picture: {error}") from error
    if found is None:
        raise PartError(f"{file} is {wide} x {high}, but the model draws {shape[2]} x {shape[1]}: resize it")
    return found
