"""What a data set is: a spec that knows the shape of its images, and a source that reads them."""

import abc
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import ge, in_

from msdk.batch import Batch, Condition
from msdk.encoders.base import Shape
from msdk.errors import DataError

if TYPE_CHECKING:
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


def decode(content: bytes, name: str, shape: Shape) -> "Tensor":
    """Decodes one image file to uint8 [c, h, w].

    Raises:
        DataError: It is no image, or has another size than `shape`.
    """
    import numpy as np
    import torch
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape  # of pictures: that is what files hold
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"the image {name} cannot be read: {error}") from error
    if pixels.shape[:2] != (height, width):
        raise DataError(
            f"the image {name} has {pixels.shape[0]}x{pixels.shape[1]} pixels, but the recipe's data.size is {height}: "
            "resize the images or change the recipe"
        )
    return torch.from_numpy(pixels).view(height, width, -1).permute(2, 0, 1).contiguous()
