"""What the networks of a recipe make of images, found out by building them on the meta device, without memory.

`msdk.recipe.checks` asks the specs; here the modules are asked, so that what a part promises and does not keep is told.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from msdk.batch import Condition, Shape, Text
from msdk.decoders.base import Decoder
from msdk.denoiser.building import build_autoencoder
from msdk.encoders.base import FeatureInfo, Features
from msdk.errors import MsdkError, PartError, Problem, cut
from msdk.recipe import Recipe
from msdk.recipe.encoder_checks import encoders_by_key
from msdk.recipe.salvaging import UNKNOWN, known
from msdk.schedules.base import Schedule

T = TypeVar("T")

IMAGES = 2
"""Images that networks are tried on."""


class _Trial:
    """The problems met so far; what cannot be made is None, and so is what would be made of it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def of(self, path: str, words: str, make: Callable[..., T], *needs: Any) -> T | None:
        if any(need is None for need in needs) or not all(map(known, needs)):
            return None
        try:
            with torch.device("meta"), torch.no_grad():
                return make(*needs)
        except MsdkError as error:
            self.problems.append(Problem(path, str(error)))
        except Exception as error:
            reason = cut(" ".join(f"{type(error).__name__}: {error}".split()), 1000)
            self.problems.append(Problem(path, f"{words}: {reason}"))
        return None


def misbuilt(recipe: Recipe) -> Iterable[Problem]:
    """What goes wrong when the networks of a recipe are built and called once, part by part.

    Every part is tried that is known and whose inputs are; the recipe may be one with unknown values.
    """
    trial = _Trial()
    build, call = "cannot be built", "is built, but fails on images"
    shape = trial.of("data", "has no shape", lambda data: data.shape, recipe.data)
    if recipe.autoencoder is not None:
        first: Any = trial.of(
            "autoencoder", build, lambda spec, shape: build_autoencoder(spec, shape, "meta"), recipe.autoencoder, shape
        )
        shape = trial.of("autoencoder", call, _latent_shape, first, recipe.autoencoder, shape)
    fed = trial.of("schedule", "has no `feeds`", _fed, recipe.schedule, shape)
    fronts: list[tuple[Any, Any]] = []
    for path, spec in encoders_by_key(recipe).items():
        info = trial.of(path, build, lambda spec, shape: spec.info(shape), spec, shape)
        encoder = trial.of(path, build, lambda spec, fed, _: spec.build(fed), spec, fed, info)
        features = trial.of(path, call, _features, encoder, info, fed)
        if recipe.adapter is not None:
            adapter = trial.of("adapter", build, lambda spec, info: spec.build(info), recipe.adapter, info)
            info = trial.of("adapter", build, lambda spec, info: spec.info(info), recipe.adapter, info)
            features = trial.of("adapter", call, lambda net, features: net(features), adapter, features)
            trial.of("adapter", call, partial(_promised, whose="adapter"), features, info, shape)
        fronts.append((info, features))
    for index, spec in enumerate(() if recipe.decoders is UNKNOWN else recipe.decoders):
        path = f"decoders.{index}"
        place = index if len(fronts) > 1 else 0
        info, features = fronts[place] if place < len(fronts) else (None, None)
        decoder = trial.of(path, build, lambda spec, info, shape: spec.build(info, shape), spec, info, shape)
        trial.of(path, call, _prediction, decoder, features, shape, spec)
    return trial.problems


def _fed(schedule: Schedule, shape: Shape) -> Shape:
    return (shape[0] * schedule.feeds, *shape[1:])


def _latent_shape(first: Any, spec: Any, shape: Shape) -> Shape:
    images = torch.empty(IMAGES, *shape)
    latents: Tensor = first.encode(images)
    latent: Shape = spec.latent_shape(shape)
    if tuple(latents.shape) != (IMAGES, *latent):
        raise PartError(f"makes latents {list(latents.shape[1:])} of images {list(shape)}, but promises {list(latent)}")
    back: Tensor = first.decode(latents)
    if back.shape != images.shape:
        raise PartError(f"makes images {list(back.shape[1:])} of its latents, not {list(shape)}")
    return latent


def _features(encoder: nn.Module, info: FeatureInfo, shape: Shape) -> Features:
    condition = Condition(
        torch.zeros(IMAGES, dtype=torch.int64) if info.classes else None,
        torch.zeros(IMAGES, info.augment) if info.augment else None,
        Text(torch.zeros(IMAGES, 3, info.text), torch.ones(IMAGES, 3, dtype=torch.bool)) if info.text else None,
    )
    found: Features = encoder(torch.empty(IMAGES, *shape), torch.empty(IMAGES), **condition.inputs())
    _promised(found, info, shape)
    return found


def _promised(features: Features, info: FeatureInfo, shape: Shape, whose: str = "encoder") -> None:
    """Raises `PartError` where features have not the widths and sides that the spec says."""

    def shaped(width: int, reduction: int) -> tuple[int, ...]:
        axes = [side // reduction for side in shape[1:]]
        if info.tokens is None:
            return (IMAGES, width, *axes)
        return (IMAGES, info.tokens + int(torch.Size(axes).numel()), width)

    wanted = [shaped(width, level.reduction) for level in info.levels for width in level.skips]
    found = [tuple(skip.shape) for skip in features.skips]
    if len(found) != len(wanted):
        raise PartError(f"the {whose} gives {len(found)} skips, but its info promises {len(wanted)}")
    named = [(f"skip {index}", *pair) for index, pair in enumerate(zip(found, wanted, strict=True))]
    bottom = shaped(info.bottom, info.levels[-1].reduction)
    for name, one, other in (*named, ("the bottom", tuple(features.bottom.shape), bottom)):
        if one != other:
            raise PartError(f"{name} of the {whose} is {list(one)}, but its info promises {list(other)}")
    if features.embedding.shape[-1] != info.embedding:
        raise PartError(
            f"the embedding of the {whose} has a width of {features.embedding.shape[-1]}, but its info promises "
            f"{info.embedding}"
        )


def _prediction(decoder: nn.Module, features: Features, shape: Shape, spec: Decoder) -> None:
    found: Tensor = decoder(features)
    wanted = (IMAGES, (2 if getattr(spec, "variance", False) else 1) * shape[0], *shape[1:])
    if tuple(found.shape) != wanted:
        raise PartError(f"predicts {list(found.shape[1:])} for images {list(shape)}, not {list(wanted[1:])}")
