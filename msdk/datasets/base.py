"""What a data set is: a spec that knows the shape of its images, and a source that reads them."""

import abc
import io
import math
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import attrs
from attrs.validators import ge, in_, lt, matches_re, optional

from msdk.batch import Batch, Condition
from msdk.encoders.base import Shape
from msdk.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor


class Source(abc.ABC):
    """Opened images.

    Attributes:
        digest: SHA-256 that changes when the data does; lock.json and clusterings carry it.
        labels: One class per image, or None.
        unlabelled: Why `labels` is None, where there is more to say than that the data have no classes; a sentence
            without its full stop.
        class_names: The name of class 0, of class 1, ...; None where classes have no names.
        passed_over: What lies there and is no image of this source: reason -> names.
        problems: Why the data are refused, a sentence for each reason; see `Dataset.look`.
        protocol: What the images were made by, where the data say so, as `msdk data prepare` notes it.
        jpeg: How many of the images were made from JPEG files, where the data say so.
        parallel: Whether `read` may be called in several threads at a time.
    """

    digest: str
    labels: Sequence[int] | None
    unlabelled: str = ""
    class_names: Sequence[str] | None = None
    passed_over: Mapping[str, Sequence[str]] = {}
    problems: Sequence[str] = ()
    protocol: str = ""
    jpeg: int = 0
    parallel: bool = False

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


@attrs.frozen(kw_only=True)
class Dataset(abc.ABC):
    """Spec of a data set. Concrete ones are frozen attrs classes.

    Args:
        held_out: Share of the images that never trains: those whose content, hashed, is among the first such share of
            all hashes, wherever they lie. `training.validate_every` looks at the loss on them.
    """

    held_out: float = attrs.field(default=0.0, validator=[ge(0), lt(1)])

    @property
    @abc.abstractmethod
    def shape(self) -> Shape:
        """Channels and axes of an image, known without opening the data."""

    @abc.abstractmethod
    def open(self) -> Source:
        """Finds the images.

        Raises:
            DataError: They are missing, or there are none, or images would be left out or taken for what they are not.
        """

    def look(self) -> Source:
        """What `open` gives, also where that refuses the data: `problems` then says why. `msdk data info` tells it.

        Raises:
            DataError: There is nothing to look at.
        """
        return self.open()

    @classmethod
    def found_at(cls, path: Path) -> Self | None:
        """The data set of this kind that lies at a path, where one does and nothing else needs to be known of it."""
        del path
        return None


@attrs.frozen(kw_only=True)
class ImageFiles(Dataset):
    """A data set of image files, square and of one size.

    Args:
        path: Where they are.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
        protocol: What the images were made by, as `msdk data prepare` notes it; others are refused.
        sha256: Digest of the data, or how it begins; others are refused.
    """

    path: Path
    size: int = attrs.field(default=32, validator=ge(1))
    channels: int = attrs.field(default=3, validator=in_((1, 3)))
    protocol: str | None = None
    sha256: str | None = attrs.field(default=None, validator=optional(matches_re("[0-9a-f]{8,64}")))

    @property
    def shape(self) -> Shape:
        return self.channels, self.size, self.size

    def open(self) -> Source:
        if self.protocol is not None and not self.path.exists():
            raise DataError(f"there is nothing at {self.path}: set data.path, or make it by `{self._command()}`")
        source = self.look()
        problems = [*source.problems, *self._others(source)]
        if problems:
            raise DataError(problems[0])
        return source

    def _command(self) -> str:
        """What makes it, by its protocol."""
        data = (self.protocol or "").partition(":")[0]
        archive = data if data in ("cifar10", "folder") else f"{'celeba' if data == 'celebahq' else data}{self.size}"
        return (
            f"msdk data prepare {archive} ARCHIVE --size {self.size} --protocol {self.protocol} --out {self.path}"
            + (" --grey" if self.channels == 1 else "")
        )

    def _others(self, source: Source) -> Iterator[str]:
        """Why a source is not the one that the recipe means, though it lies in its place."""
        if self.protocol is not None and self.protocol != source.protocol:
            made = f"were made by {source.protocol}" if source.protocol else "do not say what they were made by"
            yield (
                f"data.protocol is {self.protocol}, but the images of {self.path} {made}: numbers of the two cannot be "
                "compared. Give data.path the right ones (`msdk data prepare` makes them), or change the recipe"
            )
        if self.sha256 is not None and not source.digest.startswith(self.sha256):
            yield f"data.sha256 is {self.sha256}, but that of {self.path} is {source.digest}: these are other images"


class ImageError(DataError):
    """One image that cannot be used.

    Attributes:
        reason: The kind of fault in a few words: "damaged", "another size".
    """

    def __init__(self, name: str, what: str, reason: str) -> None:
        super().__init__(f"the image {name} {what}")
        self.reason = reason


class FileSource(Source):
    """Images in files of their own, wherever these lie; square, and decoded by `decode`.

    Args:
        shape: Channels, height and width of an image.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """What messages call an image: its path, or its name in what."""

    @abc.abstractmethod
    def content(self, index: int, most: int) -> bytes:
        """The file of an image, of at most so many bytes.

        Raises:
            ImageError: It is larger, or cannot be read.
        """

    def read(self, indices: Sequence[int]) -> Batch:
        import numpy as np
        import torch

        # Filled by numpy, which starts no threads of its own where several read at a time.
        most, images = most_bytes(self.shape), np.empty((len(indices), *self.shape), np.uint8)
        for row, index in enumerate(indices):
            images[row] = decode(self.content(index, most), self.name(index), self.shape).numpy()
        return self.labelled(torch.from_numpy(images), indices)


FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""What image files may hold, whatever their names end in. Pillow knows many more, some of which run programs."""


LARGEST = 2**28
"""Bytes that a file of an image may have where nothing says how large images are."""


def most_bytes(shape: Shape) -> int:
    """Bytes that a file of an image may have: the pixels, and 16 MiB for colour profiles, previews and notes."""
    return 2**24 + 16 * math.prod(shape)


class Picture(NamedTuple):
    """A decoded image file.

    Attributes:
        pixels: uint8 [height, width], or [height, width, 3] of one in colour; as a viewer shows them.
        format: "PNG", "JPEG", ...
        mode: How the file keeps them, in Pillow's words: "RGB", "L" (grey), "P" (a palette), "I;16", ...
    """

    pixels: "np.ndarray[Any, np.dtype[np.uint8]]"
    format: str
    mode: str


def decode(content: bytes, name: str, shape: Shape) -> "Tensor":
    """Decodes one image file to uint8 [c, h, w].

    Raises:
        ImageError: As `picture` does.
    """
    import torch

    channels, height, width = shape  # of pictures: that is what files hold
    pixels = picture(content, name, (height, width), "L" if channels == 1 else "RGB").pixels
    return torch.from_numpy(pixels).view(height, width, -1).permute(2, 0, 1)


def picture(content: bytes, name: str, size: tuple[int, int] | None = None, mode: str | None = None) -> Picture:
    """Decodes one image file.

    Pixels are as a viewer shows them: turned as the file's Exif says, 16 bits rounded to 8, colours of a palette looked
    up. Nothing is decoded before the header has said that the size is right.

    Args:
        content: Of the file.
        name: Of the file, for messages.
        size: The height and width that it is to have; any where not given.
        mode: "L" or "RGB"; grey stays grey where not given.

    Raises:
        ImageError: It is no image, has another size, or holds what has no one right form: transparency (over which
            colour?), several frames, or levels of 32 bits.
    """
    import numpy as np

    image, form, kept = decoded(content, name, size, mode)
    return Picture(np.array(image), form, kept)


def decoded(
    content: bytes, name: str, size: tuple[int, int] | None = None, mode: str | None = None
) -> "tuple[Image.Image, str, str]":
    """What `picture` decodes, as an image of Pillow's; the file's format and mode."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        with image:
            if size is not None and image.size != size[::-1]:
                what = f"has {image.height}x{image.width} pixels, but the recipe's data.size is {size[0]}"
                raise ImageError(name, f"{what}: resize the images or change the recipe", "another size")
            _refuse_others(image, name)
            kept, form = image.mode, str(image.format)
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
            found = _bytes_of_words(image) if kept.startswith("I;16") else image
            wanted = mode or ("L" if kept in GREY else "RGB")
            return found if found.mode == wanted else found.convert(wanted), form, kept
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        what = f"cannot be read: it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ImageError(name, what, "no image inside") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(name, f"cannot be read: {error}", "too many pixels") from error
    except Exception as error:  # Pillow raises anything where files are damaged
        raise ImageError(name, f"cannot be read: {error}", "damaged") from error


GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's names for pictures without colours."""


def _refuse_others(image: "Image.Image", name: str) -> None:
    """Raises `ImageError` where an opened image has what a picture of colours alone has not."""
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # cameras keep previews as further frames
        raise ImageError(name, "has several frames: save one of them", "several frames")
    if image.mode in ("I", "F"):
        what = "has levels of 32 bits, whose range nobody knows: save it with 8 or 16"
        raise ImageError(name, what, "levels of 32 bits")
    if image.has_transparency_data and typing.cast("int", image.convert("RGBA").getchannel("A").getextrema()[0]) < 255:
        what = "has transparent pixels, whose hidden colours would be learned: put it on a background first"
        raise ImageError(name, what, "transparent pixels")


def _bytes_of_words(image: "Image.Image") -> "Image.Image":
    """Grey levels of 16 bits as 8; Pillow's own conversion takes all above 255 for white."""
    import numpy as np
    from PIL import Image

    levels = np.array(image).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
