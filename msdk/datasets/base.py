"""What a data set is: a spec that knows the shape of its images, and a source that reads them."""

import abc
import io
import math
import typing
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import ge, in_

from msdk.batch import Batch, Condition
from msdk.encoders.base import Shape
from msdk.errors import DataError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


class Source(abc.ABC):
    """Opened images.

    Attributes:
        digest: SHA-256 that changes when the data does; lock.json and clusterings carry it.
        labels: One class per image, or None.
    """

    digest: str
    labels: Sequence[int] | None

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abc.abstractmethod
    def read(self, indices: Sequence[int]) -> Batch:
        """Images as uint8 [len(indices), channels, *axes], with their conditions, on the CPU.

        Raises:
            DataError: An image cannot be decoded or has another size; the message names its file.
        """

    def batch(self, indices: Sequence[int]) -> Batch:
        """What `read` gives. Sources that plugins wrote for msdk 0.1 read images alone; these get their labels here."""
        found: Any = self.read(indices)
        return found if isinstance(found, Batch) else self.labelled(found, indices)

    def labelled(self, images: "Tensor", indices: Sequence[int]) -> Batch:
        """Images with the classes that they have in `labels`."""
        import torch

        if self.labels is None:
            return Batch(images)
        return Batch(images, Condition(torch.tensor([self.labels[index] for index in indices], dtype=torch.int64)))


class Dataset(abc.ABC):
    """Spec of a data set. Concrete ones are frozen attrs classes."""

    @property
    @abc.abstractmethod
    def shape(self) -> Shape:
        """Channels and axes of an image, known without opening the data."""

    @abc.abstractmethod
    def open(self) -> Source:
        """Finds the images.

        Raises:
            DataError: They are missing, or there are none.
        """


@attrs.frozen(kw_only=True)
class ImageFiles(Dataset):
    """A data set of image files, square and of one size.

    Args:
        path: Where they are.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
    """

    path: Path
    size: int = attrs.field(default=32, validator=ge(1))
    channels: int = attrs.field(default=3, validator=in_((1, 3)))

    @property
    def shape(self) -> Shape:
        return self.channels, self.size, self.size


FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""What image files may hold, whatever their names end in. Pillow knows many more, some of which run programs."""


def most_bytes(shape: Shape) -> int:
    """Bytes that a file of an image may have: the pixels, and 16 MiB for colour profiles, previews and notes."""
    return 2**24 + 16 * math.prod(shape)


def decode(content: bytes, name: str, shape: Shape) -> "Tensor":
    """Decodes one image file to uint8 [c, h, w].

    Pixels are as a viewer shows them: turned as the file's Exif says, 16 bits rounded to 8, colours of a palette looked
    up. Nothing is decoded before the header has said that the size is right.

    Raises:
        DataError: It is no image, has another size than `shape`, or holds what has no one right form: transparency
            (over which colour?), several frames, or levels of 32 bits.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps, UnidentifiedImageError

    channels, height, width = shape  # of pictures: that is what files hold
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        with image:
            if image.size != (width, height):
                raise DataError(
                    f"the image {name} has {image.height}x{image.width} pixels, but the recipe's data.size is "
                    f"{height}: resize the images or change the recipe"
                )
            told = _no_picture(image)
            if told:
                raise DataError(f"the image {name} {told}")
            ImageOps.exif_transpose(image, in_place=True)
            grey = _bytes_of_words(image) if image.mode.startswith("I;16") else image
            pixels = np.array(grey.convert("L" if channels == 1 else "RGB"))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"the image {name} cannot be read: it is no {', '.join(FORMATS[:-1])} or BMP") from error
    except Exception as error:  # Pillow raises anything where files are damaged
        raise DataError(f"the image {name} cannot be read: {error}") from error
    return torch.from_numpy(pixels).view(height, width, -1).permute(2, 0, 1).contiguous()


def _no_picture(image: "Image.Image") -> str:
    """What an opened image has that a picture of colours alone has not, and the fix; or nothing."""
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # cameras keep previews as further frames
        return "has several frames: save one of them"
    if image.mode in ("I", "F"):
        return "has levels of 32 bits, whose range nobody knows: save it with 8 or 16"
    if image.has_transparency_data and typing.cast("int", image.convert("RGBA").getchannel("A").getextrema()[0]) < 255:
        return "has transparent pixels, whose hidden colours would be learned: put it on a background first"
    return ""


def _bytes_of_words(image: "Image.Image") -> "Image.Image":
    """Grey levels of 16 bits as 8; Pillow's own conversion takes all above 255 for white."""
    import numpy as np
    from PIL import Image

    levels = np.array(image).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
