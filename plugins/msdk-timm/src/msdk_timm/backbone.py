"""What timm says about its backbones, and timm's backbones themselves: the only file that talks to timm."""

import difflib
import functools
from typing import Any, cast

import attrs
import timm
import torch
from torch import nn

from msdk.encoders.base import Shape
from msdk.errors import PartError


@attrs.frozen
class FeatureMap:
    """One feature map of a backbone.

    Attributes:
        index: timm's index of it, for `out_indices`.
        channels: Channels.
        reduction: Side of the image over the side of the map, a power of 2.
    """

    index: int
    channels: int
    reduction: int


@functools.cache
def feature_maps(name: str) -> tuple[FeatureMap, ...]:
    """The feature maps of a backbone, finest first: the last one of each reduction, without the image's own.

    Raises:
        PartError: There is no such backbone, it gives no feature maps, or they are no halvings of the image.
    """
    _check_name(name)
    try:
        with torch.device("meta"):
            listed = _feature_info(_create(name))
    except Exception as error:  # timm asserts, or fails in its own ways, where a model has no such maps
        raise PartError(
            f"the backbone '{name}' gives no feature maps (timm's features_only): {_words(error)}"
        ) from error
    last = {found.reduction: found for found in listed}  # a later map of the same reduction replaces the earlier
    maps = tuple(found for _, found in sorted(last.items()) if found.reduction > 1)
    odd = [str(found.reduction) for found in maps if found.reduction & (found.reduction - 1)]
    if odd or not maps:
        raise PartError(
            f"the feature maps of the backbone '{name}' have 1/{', 1/'.join(odd) or 1} of the image's side, but "
            f"decoders double the side and need powers of 2: use another backbone"
        )
    if [found.index for found in maps] != sorted(found.index for found in maps):
        raise PartError(f"the feature maps of the backbone '{name}' do not shrink from first to last")
    return maps


@functools.cache
def check_run(name: str, shape: Shape, maps: tuple[FeatureMap, ...]) -> None:
    """Runs a backbone once on the meta device, which computes nothing, to see that it gives what timm lists.

    Some do not: a convolution without padding leaves fewer pixels, an attention window does not fit.

    Raises:
        PartError: It cannot take the image, or the feature maps have another shape.
    """
    what = f"the backbone '{name}' cannot take an image of {shape[0]}x{shape[1]}x{shape[2]}"
    try:
        with torch.device("meta"), torch.no_grad():
            given = create(name, shape, maps).eval()(torch.empty(1, *shape))
    except Exception as error:  # whatever the backbone asserts or trips over
        raise PartError(f"{what}: {_words(error)}") from error
    for index, (found, tensor) in enumerate(zip(maps, given, strict=True)):
        want = (found.channels, shape[1] // found.reduction, shape[2] // found.reduction)
        if tuple(tensor.shape[1:]) != want:
            sizes = ["x".join(map(str, size)) for size in (tensor.shape[1:], want)]
            raise PartError(f"{what}: its feature map {index} is {sizes[0]} and would have to be {sizes[1]}")


@functools.cache
def check_weights(name: str) -> None:
    """Raises `PartError` where timm has no published weights of a backbone. Asks no network."""
    _check_name(name)
    if not _config(name, "has_weights"):
        raise PartError(f"timm publishes no weights of the backbone '{name}': leave `pretrained` out")


def create(name: str, shape: Shape, maps: tuple[FeatureMap, ...], *, pretrained: bool = False) -> nn.Module:
    """The backbone, cut after the last of the maps, for images of a shape; its forward gives the maps as a list.

    Raises:
        PartError: The weights cannot be had.
    """
    # Transformers with a position table or a window grid take the size; for all others it is no argument.
    size = {"img_size": shape[1:]} if _config(name, "fixed_input_size") else {}
    indices = tuple(found.index for found in maps)
    if not pretrained or torch.get_default_device().type == "meta":
        return _create(name, in_chans=shape[0], out_indices=indices, **size)
    try:
        return _create(name, in_chans=shape[0], out_indices=indices, pretrained=True, **size)
    except Exception as error:  # the hub, the network, the file system: each has its own errors
        raise PartError(
            f"the weights of the backbone '{name}' cannot be had: {_words(error)}. They come from the Hugging Face hub "
            f"or its cache on disk; without them leave `pretrained` out"
        ) from error


def _create(name: str, **options: object) -> nn.Module:
    """Timm's `features_only` by its own `forward_intermediates`.

    The default wrapper keeps all blocks of an EfficientNet or MobileNet, used or not (98% of b0's weights at 32x32),
    and hands on the channels-last maps of a Swin; this one does neither.
    """
    make = cast("Any", timm).create_model  # untyped in timm: keyword arguments without annotations
    return make(name, features_only=True, feature_cls="getter", **options)


def _feature_info(backbone: nn.Module) -> list[FeatureMap]:
    info: Any = backbone.feature_info
    rows = zip(info.out_indices, info.channels(), info.reduction(), strict=True)
    return [FeatureMap(int(index), int(channels), int(reduction)) for index, channels, reduction in rows]


def _config(name: str, key: str) -> bool:
    return bool(getattr(cast("Any", timm).get_pretrained_cfg(name), key, False))


def _check_name(name: str) -> None:
    known = cast("Any", timm)
    if known.is_model(name):
        return
    names: list[str] = known.list_models()
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
    raise PartError(f"timm has no model named '{name}'.{hint} `timm.list_models()` has all {len(names)}.")


def _words(error: Exception) -> str:
    """The first line of an error, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [""])[0].rstrip(".") or type(error).__name__
