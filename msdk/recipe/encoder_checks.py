"""What is wrong with how a recipe gives its encoders: one for all stages, or one for each. Imports no torch."""

from collections.abc import Container, Iterable

from msdk.encoders.base import Encoder, FeatureInfo
from msdk.errors import Problem
from msdk.recipe.fields import Recipe
from msdk.recipe.salvaging import UNKNOWN, stated
from msdk.recipe.structuring import MISSING


def encoders_by_key(recipe: Recipe) -> dict[str, Encoder]:
    """Key of the recipe -> the encoder that stands there; nothing where even their number is not known."""
    if recipe.encoders is UNKNOWN:
        return {}
    if recipe.encoders is not None:
        return {f"encoders.{index}": encoder for index, encoder in enumerate(recipe.encoders)}
    return {} if recipe.encoder is None else {"encoder": recipe.encoder}


def given_wrongly(keys: Container[str]) -> Iterable[Problem]:
    """What is wrong with a recipe's keys of encoders: one of two gives them, so neither is required."""
    if "encoder" not in keys and "encoders" not in keys:
        yield Problem("encoder", MISSING)
    elif "encoder" in keys and "encoders" in keys:
        yield Problem("encoders", "has one for each stage, and [encoder] is one for all: leave out one of the two")


def encoder_misfits(recipe: Recipe) -> Iterable[Problem]:
    """Encoders that are missing, given twice, or not one for each stage."""
    wrong = list(given_wrongly([key for key in ("encoder", "encoders") if stated(recipe, key)]))
    yield from wrong
    if not wrong and recipe.encoders is not None:
        encoders, stages = recipe.encoders, len(recipe.decoders)
        if len(encoders) != stages:
            yield Problem(
                "encoders",
                f"has {len(encoders)} entries for {stages} stage{'s' * (stages > 1)}: give one for each, least noise "
                "first, or [encoder], one for all",
            )
        elif recipe.sharing != "separate":
            yield Problem(
                "encoders",
                f'gives each stage an encoder of its own, but sharing is "{recipe.sharing}": set sharing = "separate", '
                "or give [encoder], one for all",
            )


ALIKE = {
    "classes": "classes of labels",
    "augment": "augmentation labels",
    "text": "channels of embedded texts",
}
"""What encoders of all stages take alike: field of `FeatureInfo` -> it, in words."""


def unlike_conditions(infos: dict[str, FeatureInfo]) -> Iterable[Problem]:
    """Encoders that take other conditions than the first one: images come with the same ones in all stages.

    Args:
        infos: Key of the recipe -> what the encoder there says of itself.
    """
    (first, wanted), *others = infos.items()
    for key, info in others:
        for field, words in ALIKE.items():
            own, theirs = getattr(info, field), getattr(wanted, field)
            if own != theirs:
                yield Problem(f"{key}.{field}", f"takes {own} {words}, but {first} takes {theirs}: make them the same")


def unlike_ranges(recipe: Recipe) -> Iterable[Problem]:
    """Encoders that want images in another range than the first one."""
    encoders = encoders_by_key(recipe)
    for key, encoder in encoders.items():
        if encoder.unit_range != recipe.encoder_of(0).unit_range:
            yield Problem(f"{key}.unit_range", "is not that of encoders.0: all stages see the same images")
