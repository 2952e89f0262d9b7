"""What all laws share: how they are broken, and those of parts of every kind."""

from collections.abc import Callable
from typing import Any

import attrs

from msdk.errors import MsdkError
from msdk.recipe.structuring import strict_converter, to_data
from msdk.registry import registries, registry_of_part
from msdk.registry.describing import field_help


class LawError(AssertionError):
    """A part does not do what every part of its kind must."""


def require(condition: object, message: str | Callable[[], str]) -> None:
    """Raises `LawError` with the message where the condition is false."""
    if not condition:
        raise LawError(message if isinstance(message, str) else message())


def settings_survive_a_recipe(part: Any, **options: Any) -> None:
    """A part is a frozen attrs class with a registered name, and equal after its settings were written and read."""
    require(attrs.has(type(part)), f"{type(part).__name__} is no attrs class: decorate it with @attrs.frozen")
    registry = registry_of_part(type(part))
    if registry is None:
        known = ", ".join(sorted(each.record.base.replace(":", ".") for each in registries().values()))
        raise LawError(f"{type(part).__name__} is a subclass of none of {known}")
    try:
        written = to_data(part)
    except MsdkError as error:
        raise LawError(f"{type(part).__name__} has no name in a recipe: {error}") from error
    try:
        hash(part)
        read = strict_converter().structure(written, registry.base())
    except (MsdkError, TypeError) as error:
        raise LawError(f"{type(part).__name__}: {error}") from error
    except Exception as error:
        raise LawError(f"its settings {written} cannot be read back: {error}") from error
    require(read == part, f"written as {written} and read again it is {read}, no longer {part}")


def fields_are_explained(part: Any, **options: Any) -> None:
    """Every field has a line in the Args of a docstring, which `msdk show` and editors print; and the class has one."""
    cls = type(part)
    require((cls.__doc__ or "").strip(), f"{cls.__name__} has no docstring")
    missing = [field.name for field in attrs.fields(cls) if field.name not in field_help(cls)]
    require(not missing, f"the docstring of {cls.__name__} does not say under Args: what {', '.join(missing)} is")


COMMON = (settings_survive_a_recipe, fields_are_explained)
