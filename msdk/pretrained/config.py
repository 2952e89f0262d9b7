"""Reads the constructor settings of an original program, strictly: what nobody asked for is an error, not ignored."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from msdk.errors import PartError, nearest

_REQUIRED = object()


class Config:
    """One table of settings.

    Args:
        data: The settings, as the original's JSON has them.
        where: What to call them in errors.
    """

    def __init__(self, data: Mapping[str, Any], where: str = "config") -> None:
        self._data, self._where = dict(data), where
        self._known: set[str] = set()

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value of a key, or its default in the original.

        Raises:
            PartError: A required key is missing.
        """
        self._known.add(key)
        if key not in self._data and default is _REQUIRED:
            raise PartError(f"{self._where}.{key} is missing")
        return self._data.get(key, default)

    def table(self, key: str) -> "Config":
        """A table within; an empty one where it is missing."""
        inner = self.take(key, {})
        if not isinstance(inner, Mapping):
            raise PartError(f"{self._where}.{key} is {inner!r}, but a table is wanted")
        return Config(inner, f"{self._where}.{key}")  # pyright: ignore[reportUnknownArgumentType]  a JSON object

    def only(self, key: str, allowed: Iterable[Any], default: Any) -> Any:
        """The value of a key of which msdk has only some values.

        Raises:
            PartError: Another value; the message has those there are.
        """
        found, choices = self.take(key, default), list(allowed)
        if found not in choices:
            raise PartError(f"{self._where}.{key} = {found!r} is not supported; it must be {_alternatives(choices)}")
        return found

    def ignore(self, *keys: str) -> None:
        """Keys that change neither weights nor outputs."""
        self._known.update(keys)

    def done(self) -> None:
        """Raises `PartError` naming the keys that nobody asked for."""
        unknown = [key for key in self._data if key not in self._known]
        if unknown:
            named = ", ".join(f"'{key}'{nearest(key, self._known)}" for key in unknown)
            raise PartError(f"{self._where} has unknown keys: {named}. Known: {', '.join(sorted(self._known))}")


def number(value: Any) -> float:
    """A number of JSON, which writes infinity as text."""
    return math.inf if value == "inf" else float(value)


def ints(value: Any) -> tuple[int, ...]:
    """A list of whole numbers."""
    return tuple(int(item) for item in value)


def _alternatives(choices: list[Any]) -> str:
    return " or ".join(repr(choice) for choice in choices)
