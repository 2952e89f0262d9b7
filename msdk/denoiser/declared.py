"""What parts have declared of their outputs, and whether those are so: told before anything is trained or drawn.

Tensors of a wrong shape need not fail: they are broadcast, cut or added up, and a network trains on something else.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from msdk.encoders.base import FeatureInfo, Features, Shape
from msdk.errors import PartError, PartFaultError
from msdk.registry.faults import whose

if TYPE_CHECKING:
    from msdk.autoencoders.base import Autoencoder
    from msdk.decoders.base import Decoder
    from msdk.encoders.base import Encoder


class Declared:
    """The outputs that encoders and decoders have declared, and which of them have been looked at.

    Args:
        encoders: Whose features: one for all stages, or one per stage.
        decoders: Whose predictions, one per stage.
        infos: The features, as each encoder declares them.
        shape: Of what decoders predict.
    """

    def __init__(
        self, encoders: "Sequence[Encoder]", decoders: "Sequence[Decoder]", infos: Sequence[object], shape: Shape
    ) -> None:
        self.encoders, self.decoders, self.shape = tuple(encoders), tuple(decoders), shape
        self.infos: list[FeatureInfo] = []
        for encoder, info in zip(encoders, infos, strict=True):
            if not isinstance(info, FeatureInfo):
                _refuse(encoder, f"`info` returns {type(info).__name__}, and must return FeatureInfo")
            self.infos.append(info)
        self.seen: set[str] = set()

    def __deepcopy__(self, memo: object) -> "Declared":
        # Specs are values, and the outputs of a copy are looked at anew.
        return Declared(self.encoders, self.decoders, self.infos, self.shape)

    @property
    def foreign(self) -> bool:
        """Whether a part is not msdk's own, whose outputs nobody here has tested."""
        return any(whose(type(part)) for part in (*self.encoders, *self.decoders))

    def networks(self, encoders: "Sequence[object]", decoders: "Sequence[object]") -> None:
        """Raises `PartError` where what parts have built is no network."""
        built = [*zip(self.encoders, encoders, strict=True), *zip(self.decoders, decoders, strict=True)]
        for part, network in built:
            if not isinstance(network, nn.Module):
                _refuse(part, f"`build` returns {type(network).__name__}, and must return an nn.Module")

    def features(self, found: object, x: Tensor, stage: int) -> None:
        """Looks at the first features that the encoder of a stage computes for images.

        Raises:
            PartError: They are not what `info` says.
        """
        if self._known(f"features of {stage}"):
            return
        encoder, info = self.encoders[stage], self.infos[stage]
        if not isinstance(found, Features):
            _refuse(encoder, f"its network returns {type(found).__name__}, and must return Features")
        skips = [(level.reduction, width) for level in info.levels for width in level.skips]
        if len(found.skips) != len(skips):
            _refuse(encoder, f"its network returns {len(found.skips)} skips, and `info` says {len(skips)}")
        allowed = {
            **{f"skip {n}": _shapes(info, width, reduction, x) for n, (reduction, width) in enumerate(skips)},
            "the bottom": _shapes(info, info.bottom, info.levels[-1].reduction, x),
            "the embedding": [(len(x), info.embedding), (1, info.embedding)],
            "the output scale": [(len(x),), (1,)],
        }
        tensors = (*found.skips, found.bottom, found.embedding, found.output_scale)
        for (what, shapes), tensor in zip(allowed.items(), tensors, strict=True):
            if tensor is not None and tuple(tensor.shape) not in shapes:
                told = f"{what} of images {list(x.shape)} is {list(tensor.shape)}, and must be {list(shapes[0])}"
                _refuse(encoder, told)
            if tensor is not None and whose(type(encoder)) and _sick(tensor) and not _sick(x):
                _refuse(encoder, f"{what} is not finite, and the images were")

    def prediction(self, found: object, x: Tensor, stage: int) -> None:
        """Looks at the first prediction of a stage's decoder for images.

        Raises:
            PartError: It has another shape than images, or twice their channels where it predicts a variance.
        """
        if self._known(f"prediction of {stage}"):
            return
        decoder = self.decoders[stage]
        channels = self.shape[0] * (2 if getattr(decoder, "variance", False) else 1)
        wanted = [len(x), channels, *x.shape[2:]]
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != wanted:
            _refuse(decoder, f"of images {list(x.shape)} stage {stage} predicts {shape}, and must predict {wanted}")
        if isinstance(found, Tensor) and whose(type(decoder)) and _sick(found) and not _sick(x):
            _refuse(decoder, f"the prediction of stage {stage} is not finite, and the features were")

    def _known(self, what: str) -> bool:
        """Whether an output has been looked at, or is none that could be: of a trace, whose shapes are tensors."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # pyright: ignore[reportPrivateImportUsage]
            return True
        known = what in self.seen
        self.seen.add(what)
        return known


def try_on_meta(network: Any, declared: Declared) -> None:
    """Runs every stage of a network of foreign parts on tensors without storage, so that its outputs are looked at.

    What cannot run there is looked at in its first call instead.

    Args:
        network: A `StagedNetwork`, which is left as it is.
        declared: What its parts declare.

    Raises:
        PartError: An output is not what a part declares.
    """
    if not declared.foreign:
        return
    label = torch.zeros(2, dtype=torch.int64, device="meta") if declared.infos[0].classes else None
    try:
        copied = copy.deepcopy(network, _without_storage(network)).eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            x, noise = torch.empty(2, *declared.shape, device="meta"), torch.empty(2, device="meta")
            for stage in range(len(declared.decoders)):
                copied(x, noise, stage, label)
    except PartError:
        raise
    except Exception:  # an operator that needs values, a module that cannot be copied: whatever plugins do
        return


T = TypeVar("T")


def built(part: object, build: Callable[[], T]) -> T:
    """What a part builds, also where tensors have no storage, as budgets build it.

    Raises:
        PartError: It reads numbers of tensors there.
    """
    try:
        return build()
    except (RuntimeError, NotImplementedError) as error:
        if "meta tensor" not in str(error):
            raise
        who = whose(type(part))
        told = (
            f"{type(part).__name__}{f' of {who}' if who else ''}: its `build` reads numbers of tensors, and budgets "
            f'build without storage ({str(error).splitlines()[0]}): compute them in Python, or with device="cpu"'
        )
        raise (PartFaultError(told, who) if who else PartError(told)) from error


def latents(part: "Autoencoder", found: object, images: Tensor) -> None:
    """Looks at what an autoencoder makes of images.

    Raises:
        PartError: It is not of the shape that its `latent_shape` says.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # pyright: ignore[reportPrivateImportUsage]
        return  # sizes of a trace are tensors
    wanted = [len(images), *part.latent_shape(tuple(images.shape[1:]))]
    size = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if size != wanted:
        told = f"its `encode` gives {size} of images {list(images.shape)}, and `latent_shape` says {wanted}"
        _refuse(part, told)


def try_latents_on_meta(part: "Autoencoder", network: Any, shape: Shape) -> None:
    """Encodes images without storage by an autoencoder of somebody else's, so that its latents are looked at.

    What cannot run there is looked at in its first call instead, see `Denoiser.encode`.

    Raises:
        PartError: Latents are not of the shape that its `latent_shape` says.
    """
    if not whose(type(part)):
        return
    images = torch.empty(2, *shape, device="meta")
    try:
        copied = copy.deepcopy(network, _without_storage(network)).eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = copied.encode(images)
    except Exception:  # as above
        return
    latents(part, found, images)


def _without_storage(network: nn.Module) -> dict[int, Any]:
    """What `copy.deepcopy` needs to copy a network onto the meta device."""
    memo: dict[int, Any] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        bare = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(bare, False) if isinstance(tensor, nn.Parameter) else bare
    return memo


def _shapes(info: FeatureInfo, channels: int, reduction: int, x: Tensor) -> list[tuple[int, ...]]:
    """What features of images may be: sides that cannot be divided are rounded down, or up."""
    down = [max(side // reduction, 1) for side in x.shape[2:]]
    up = [-(-side // reduction) for side in x.shape[2:]]
    if info.tokens is None:
        return [(len(x), channels, *sides) for sides in (down, up)]
    return [(len(x), info.tokens + torch.Size(sides).numel(), channels) for sides in (down, up)]


def _sick(tensor: Tensor) -> bool:
    """Whether a tensor with storage holds what is not finite. Waits for the device, in first calls alone."""
    return type(tensor) is Tensor and not tensor.is_meta and not bool(tensor.isfinite().all())


def _refuse(part: object, told: str) -> NoReturn:
    who = whose(type(part))
    text = f"{type(part).__name__}{f' of {who}' if who else ''}: {told}"
    raise PartFaultError(text, who) if who else PartError(text)
