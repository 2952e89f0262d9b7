"""What comes in together: images, and what each of them is conditioned on.

Both are named tuples, because compilers cannot trace the making of a frozen class.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Shape = tuple[int, ...]
"""Channels, then the axes: (channels, height, width) of pictures, one axis of signals, three of videos."""

NO_CLASS = -1
"""The class number of an image that has none."""


class Text(NamedTuple):
    """Embedded texts.

    Attributes:
        embeddings: [batch, tokens, channels].
        mask: bool [batch, tokens], true where a token belongs to the text.
    """

    embeddings: "Tensor"
    mask: "Tensor"


class Condition(NamedTuple):
    """What a batch is conditioned on, as one value that is passed on whole; None is what nobody gave.

    Attributes:
        label: Class numbers int64 [batch], -1 for none, or rows [batch, classes].
        augment: Augmentation labels [batch, n].
        text: Embedded texts.
    """

    label: "Tensor | None" = None
    augment: "Tensor | None" = None
    text: Text | None = None

    @classmethod
    def of(cls, label: "Condition | Tensor | None", augment: "Tensor | None" = None) -> "Condition":
        """The condition that labels alone stand for, which is the short way to say it; a whole one stays as it is."""
        return label if isinstance(label, Condition) else cls(label, augment)

    def split(self, sizes: int | Sequence[int]) -> "tuple[Condition, ...]":
        """The conditions of the first images, of the next, ...; `sizes` as torch's `split` takes them, views.

        A condition without any tensor splits into as many as there are sizes, so an `int` needs a tensor.
        """
        parts = [value.split(sizes if isinstance(sizes, int) else list(sizes)) for value in self._tensors()]
        count = len(parts[0]) if parts else len([] if isinstance(sizes, int) else sizes)
        return tuple(self._rebuilt([each[index] for each in parts]) for index in range(count))

    def select(self, index: "Tensor") -> "Condition":
        """The conditions of some images, by their positions int64 [n]."""
        return self._mapped(lambda value: value.to(index.device).index_select(0, index))

    def to(self, device: "str | torch.device") -> "Condition":
        """The same on a device, without waiting for it."""
        return self._mapped(lambda value: value.to(device, non_blocking=True))

    def without(self) -> "Condition":
        """The same images without class and text, for guidance: no class, and texts of which no token counts."""
        import torch

        label, text = self.label, self.text
        if label is not None:
            label = torch.zeros_like(label) if label.ndim > 1 else torch.full_like(label, NO_CLASS)
        if text is not None:
            text = Text(torch.zeros_like(text.embeddings), torch.zeros_like(text.mask))
        return self._replace(label=label, text=text)

    def beside(self, other: "Condition") -> "Condition":
        """The conditions of both batches, one behind the other. Both have the same of it."""
        import torch

        return self._rebuilt([torch.cat(pair) for pair in zip(self._tensors(), other._tensors(), strict=True)])

    def inputs(self) -> "dict[str, Any]":
        """What an encoder's forward is given beside images and noise levels, by name; what nobody gave is left out."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    def _tensors(self) -> "list[Tensor]":
        found = [value for value in (self.label, self.augment) if value is not None]
        return found if self.text is None else [*found, *self.text]

    def _rebuilt(self, tensors: "Sequence[Tensor]") -> "Condition":
        rest = iter(tensors)
        return Condition(
            None if self.label is None else next(rest),
            None if self.augment is None else next(rest),
            None if self.text is None else Text(next(rest), next(rest)),
        )

    def _mapped(self, change: "Callable[[Tensor], Tensor]") -> "Condition":
        return self._rebuilt([change(value) for value in self._tensors()])


class Batch(NamedTuple):
    """Images as they lie in a data set, and their conditions.

    Attributes:
        images: [batch, channels, *axes]: uint8 images, 0 .. 255, or floats in the range that the networks see.
        condition: Of each image.
    """

    images: "Tensor"
    condition: Condition = Condition()

    def to(self, device: "str | torch.device") -> "Batch":
        """The same on a device, without waiting for it."""
        return self._replace(images=self.images.to(device, non_blocking=True), condition=self.condition.to(device))

    def split(self, size: int | Sequence[int]) -> "tuple[Batch, ...]":
        """Pieces of so many images, or of these sizes; views."""
        images = self.images.split(size if isinstance(size, int) else list(size))
        conditions = self.condition.split([len(piece) for piece in images])
        return tuple(self._replace(images=own, condition=each) for own, each in zip(images, conditions, strict=True))


class Encoded(Batch):
    """What an autoencoder has made of images, in their place: see `msdk.training.latents`."""


def per_image(values: "Tensor", images: "Tensor") -> "Tensor":
    """[batch] -> [batch, 1, 1, ...] beside the images, in their dtype and on their device, without waiting for it."""
    return values.to(images.device, images.dtype, non_blocking=True).view(-1, *[1] * (images.ndim - 1))
