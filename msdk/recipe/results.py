"""Results as JSON: attrs classes <-> plain data by cattrs, both ways, with the keys of docs/contracts.md.

A field has the key of its own name. One with another key says so by `attrs.field(metadata=key("params"))`; one that
JSON does not have, and that needs a default for that reason, by `metadata=ABSENT`. Tuples are lists there.
"""

import functools
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from msdk.errors import RunError, cut, nearest
from msdk.recipe.structuring import FieldError, flattened_errors

T = TypeVar("T")

ABSENT: Mapping[str, Any] = {"json": None}
"""Metadata of a field that JSON does not have."""


def key(name: str, read: Callable[[object], object] | None = None) -> Mapping[str, Any]:
    """Metadata of a field that has another name in JSON, and perhaps its own way to be read from there."""
    return {"json": name, "read": read}


def to_json(result: object) -> Any:
    """Plain data of a result, or of a list of results, with the keys in the order of the fields."""
    return results_converter().unstructure(result)


def from_json(data: object, kind: type[T]) -> T:
    """The result that `to_json` gave this plain data for.

    Raises:
        cattrs.BaseValidationError: It is none; see `read_json` for words.
    """
    return results_converter().structure(data, kind)


def parsed(content: bytes, path: Path, kind: type[T], what: str) -> T:
    """The result that a JSON file keeps.

    Args:
        content: Of the file.
        path: Of the file, for messages.
        kind: Class of the result.
        what: What it should be, and what writes it: "a clustering, as `msdk cluster` writes it".

    Raises:
        RunError: It is something else; the message has the file, the key and what is wrong.
    """
    return _parsed(content, path, what, lambda data: from_json(data, kind))


def read_several(path: Path, kind: type[T], what: str) -> Sequence[T]:
    """The results of a file that has a list of them, or one alone; see `parsed`.

    Raises:
        RunError: It cannot be read, or is something else.
    """

    def structured(data: object) -> Sequence[T]:
        return from_json(data if isinstance(data, list) else [data], tuple[kind, ...])

    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    return _parsed(content, path, what, structured)


def _parsed(content: bytes, path: Path, what: str, structured: Callable[[object], T]) -> T:
    try:
        return structured(json.loads(content))
    except (cattrs.BaseValidationError, FieldError) as error:
        first, *others = flattened_errors(error)
        where = f"{first.path} " if first.path else ""
        more = f" (and {len(others)} more)" if others else ""
        raise RunError(f"{path} is not {what}: {where}{first.message}{more}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not {what}: it is no JSON ({error})") from error


@functools.cache
def results_converter() -> cattrs.Converter:
    """Cattrs for results: exact types, no unknown keys, numbers as they were written."""
    converter = cattrs.Converter(detailed_validation=True, unstruct_collection_overrides={tuple: list})
    for exact, words in ((bool, "true or false"), (int, "a whole number"), (str, "text")):
        converter.register_structure_hook(exact, functools.partial(_exact, exact, words))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(lambda kind: typing.get_origin(kind) is Literal, _literal)
    converter.register_structure_hook_factory(
        lambda kind: typing.get_origin(kind) is tuple, lambda kind: _tuple_hook(kind, converter)
    )
    converter.register_structure_hook_factory(attrs.has, lambda kind: _structure_hook(kind, converter))
    converter.register_unstructure_hook_factory(attrs.has, lambda kind: _unstructure_hook(kind, converter))
    return converter


def _keys(kind: type) -> dict[str, str | None]:
    """Field -> its key in JSON; None for a field that JSON does not have."""
    attrs.resolve_types(kind)
    return {field.name: field.metadata.get("json", field.name) for field in attrs.fields(kind)}


def _overrides(kind: type) -> dict[str, Any]:
    def one(name: str, to: str | None) -> Any:
        read = getattr(attrs.fields(kind), name).metadata.get("read")
        hook = None if read is None else lambda value, _: read(value)
        return override(omit=True) if to is None else override(rename=to, struct_hook=hook)

    return {name: one(name, to) for name, to in _keys(kind).items()}


def _unstructure_hook(kind: type, converter: cattrs.Converter) -> Callable[[Any], dict[str, Any]]:
    plain = make_dict_unstructure_fn(kind, converter, **_overrides(kind))
    told: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = getattr(kind, "_told", None)
    return plain if told is None else lambda value: told(value, plain(value))


def _structure_hook(kind: type, converter: cattrs.Converter) -> Callable[[object, object], object]:
    keys = _keys(kind)
    generated = make_dict_structure_fn(kind, converter, **_overrides(kind))
    allowed = [name for name in keys.values() if name is not None]
    heard: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = getattr(kind, "_heard", None)

    def hook(value: object, _: object) -> object:
        if not isinstance(value, Mapping):
            raise FieldError(f"expected an object, got {_short(value)}")
        found = typing.cast("Mapping[str, Any]", value)
        found = found if heard is None else heard(found)
        for name in found:
            if name not in allowed:
                raise FieldError(
                    f"has an unknown key '{cut(name, 100)}'.{nearest(name, allowed)} Known: {', '.join(allowed)}"
                )
        try:
            return generated(found, kind)
        except cattrs.ClassValidationError as error:
            for inner in error.exceptions:  # messages name keys of JSON, not fields
                inner.__notes__ = [
                    cattrs.AttributeValidationNote(note, keys.get(note.name) or note.name, note.type)
                    if isinstance(note, cattrs.AttributeValidationNote)
                    else note
                    for note in getattr(inner, "__notes__", [])
                ]
            raise

    return hook


def _exact(exact: type[T], words: str, value: object, _: object) -> T:
    if type(value) is not exact:
        raise FieldError(f"expected {words}, got {_short(value)}")
    return value


def _number(value: object, _: object) -> float:
    if type(value) not in (int, float):
        raise FieldError(f"expected a number, got {_short(value)}")
    return typing.cast("float", value)  # a whole one stays whole, so that it is written as it was


def _literal(value: object, kind: Any) -> object:
    allowed: list[str] = list(typing.get_args(kind))
    if value not in allowed:
        raise FieldError(f"expected one of {', '.join(map(str, allowed))}, got {_short(value)}")
    return value


def _tuple_hook(kind: Any, converter: cattrs.Converter) -> Callable[[object, object], tuple[object, ...]]:
    kinds = typing.get_args(kind)
    each = kinds[0] if kinds[-1] is ... else None

    def hook(value: object, _: object) -> tuple[object, ...]:
        if not isinstance(value, (list, tuple)):
            raise FieldError(f"expected a list, got {_short(value)}")
        items = typing.cast("list[object]", value)
        if each is not None:
            return tuple(converter.structure(items, list[each]))  # pyright: ignore[reportInvalidTypeForm]
        if len(items) != len(kinds):
            raise FieldError(f"expected a list of {len(kinds)}, got {len(items)} entries")
        return tuple(converter.structure(item, kind) for item, kind in zip(items, kinds, strict=True))

    return hook


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
