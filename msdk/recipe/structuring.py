"""Plain data -> attrs classes by cattrs, made strict: exact types, no unknown keys, parts by name, every error told."""

import functools
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from msdk.errors import MsdkError, PluginFaultError, Problem, nearest, quoted
from msdk.recipe.files import Artefact, File
from msdk.registry import Registry, is_base, registry_for, registry_of_part
from msdk.registry.faults import whose
from msdk.registry.lookup import lacking

T = TypeVar("T")


def to_data(value: Any) -> Any:
    """Recipe (or part of one) -> plain data that `structure` reads back to an equal recipe.

    What is no part of the value, such as where its edges came from, is left out.
    """
    if isinstance(value, (File, Artefact)):
        return str(value.path)
    if attrs.has(type(value)):
        fields = {f.name.rstrip("_"): to_data(getattr(value, f.name)) for f in attrs.fields(type(value)) if f.eq}
        registry = registry_of_part(type(value))
        if registry is not None:
            fields = {"name": registry.name_of(type(value)), **fields}
        found = {key: item for key, item in fields.items() if item is not None}
        return found["name"] if registry is None and list(found) == ["name"] else found
    if isinstance(value, tuple):
        return [to_data(item) for item in typing.cast("tuple[object, ...]", value)]
    return str(value) if isinstance(value, Path) else value


def parts_of(value: Any) -> Iterator[tuple[Any, Registry[Any]]]:
    """Every part in a recipe, at whatever depth, with its registry."""
    if isinstance(value, tuple):
        for item in typing.cast("tuple[object, ...]", value):
            yield from parts_of(item)
    elif attrs.has(type(value)):
        registry = registry_of_part(type(value))
        if registry is not None:
            yield value, registry
        for field in attrs.fields(type(value)):
            yield from parts_of(getattr(value, field.name))


class FieldError(ValueError):
    """A value that does not suit its field; the text says what is expected."""


@functools.cache
def strict_converter() -> cattrs.Converter:
    """cattrs, made strict: exact types, no unknown keys, parts by name, and every error collected."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for exact, words in ((bool, "true or false"), (int, "a whole number"), (str, "text")):
        converter.register_structure_hook(exact, _exact(exact, words))
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(Path, _path)
    for read in (File, Artefact):
        converter.register_structure_hook(read, _read)
    converter.register_structure_hook_func(lambda kind: typing.get_origin(kind) is Literal, _literal)
    converter.register_structure_hook_func(
        lambda kind: typing.get_origin(kind) is tuple, lambda value, kind: _tuple(value, kind, converter)
    )
    converter.register_structure_hook_func(
        _is_union,
        # TOML has no null: an absent key is the only None.
        lambda value, kind: converter.structure(value, meant(value, kind)),
    )
    converter.register_structure_hook_factory(attrs.has, lambda kind: _attrs_hook(kind, converter))
    # Bound by identity: a hook on the base class would also catch its concrete subclasses and never end.
    converter.register_structure_hook_func(
        is_base, lambda value, base: _structure_part(value, registry_for(base), converter)
    )
    return converter


def _exact(exact: type[T], words: str) -> Callable[[object, object], T]:
    def hook(value: object, _: object) -> T:
        if type(value) is not exact:
            raise FieldError(f"expected {words}, got {quoted(value)}")
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise FieldError(f"expected {words} of 64 bits, got {quoted(value)}, which is too large")
        return value

    return hook


def _float(value: object, _: object) -> float:
    if type(value) not in (int, float) or value != value or value in (float("inf"), -float("inf")):
        raise FieldError(f"expected a finite number, got {quoted(value)}")
    return float(typing.cast("float", value))


def _path(value: object, _: object) -> Path:
    try:
        name = Path(_exact(str, "a file name in quotes")(value, str)).expanduser()
    except RuntimeError as error:  # ~user
        raise FieldError(f"there is no home folder for {quoted(value)}") from error
    if any(len(os.fsencode(part)) > 255 for part in name.parts):
        raise FieldError(f"expected a file name of at most 255 bytes, got {quoted(value)}")
    if "\0" in str(name):
        raise FieldError(f"expected a file name, got {quoted(value)}")
    return name


def _read(value: object, kind: type[File] | type[Artefact]) -> object:
    return value if isinstance(value, kind) else kind.read(_path(value, Path))


def _literal(value: object, kind: Any) -> object:
    allowed: list[str] = list(typing.get_args(kind))
    if value not in allowed or type(value) is not str:
        raise FieldError(f"expected one of {', '.join(allowed)}, got {quoted(value)}.{nearest(str(value), allowed)}")
    return value


def _is_union(kind: object) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def meant(value: object, kind: object) -> Any:
    """The one of several types that a value is to be of: for text, a list, or a table, one of those, else the first."""
    kinds = [arg for arg in typing.get_args(kind) if arg is not type(None)]
    for each in kinds:
        origin = typing.get_origin(each)
        if (type(value) is str and (each is str or origin is Literal)) or (isinstance(value, list) and origin is tuple):
            return each
        if isinstance(value, Mapping) and int in kinds and attrs.has(each):  # a number, or a table that says more
            return each
    return kinds[0]


def _tuple(value: object, kind: object, converter: cattrs.Converter) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise FieldError(f"expected a list, got {quoted(value)}")
    items = typing.cast("list[object]", value)
    kinds = typing.get_args(kind)
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(items)
    elif len(kinds) != len(items):
        raise FieldError(f"expected a list of {len(kinds)}, got {len(items)} entries")
    found, errors = list[object](), list[Exception]()
    for index, (item, item_kind) in enumerate(zip(items, kinds, strict=True)):
        try:
            found.append(converter.structure(item, item_kind))
        except Exception as error:
            note = cattrs.IterableValidationNote(f"entry {index}", index, item_kind)
            error.__notes__ = [*getattr(error, "__notes__", []), note]
            errors.append(error)
    if errors:
        # cattrs adds the class to ExceptionGroup's constructor, which type checkers do not see.
        raise cattrs.IterableValidationError("list", errors, tuple)  # pyright: ignore[reportCallIssue]
    return tuple(found)


def _attrs_hook(kind: type, converter: cattrs.Converter) -> Callable[[object, object], object]:
    """Cattrs' own structuring, with each field's validator run per field, so that all bad values are told at once."""
    attrs.resolve_types(kind)

    def checked(field: Any) -> Callable[[object, object], object]:
        def hook(value: object, field_kind: Any) -> object:
            found = converter.structure(value, field_kind)
            if field.validator is not None:
                field.validator(None, field, found)
            return found

        return hook

    fields: dict[str, Any] = {
        f.name: override(rename=f.name.rstrip("_"), struct_hook=checked(f)) for f in attrs.fields(kind)
    }
    generated = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **fields)

    def hook(value: object, _: object) -> object:
        value = spelt_out(value, kind)
        if not isinstance(value, Mapping):
            raise FieldError(f"expected a table, got {quoted(value)}")
        return generated(typing.cast("Mapping[str, Any]", value), kind)

    return hook


def spelt_out(value: object, kind: Any) -> object:
    """The table for which the bare name of a table that has one stands."""
    return {"name": value} if type(value) is str and "name" in attrs.fields_dict(kind) else value


def named(value: object) -> dict[str, Any] | None:
    """The table of a part, for which its bare name stands as well; None for what is neither."""
    if type(value) is str:
        return {"name": value}
    table = dict(typing.cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {}
    return table if type(table.get("name")) is str else None


class NamelessError(FieldError):
    """Settings of a part without its name, which another file may give."""


def _structure_part(value: object, registry: Registry[Any], converter: cattrs.Converter) -> object:
    rest = named(value)
    if rest is None:
        lacks = isinstance(value, Mapping) and "name" not in value
        raise (NamelessError if lacks else FieldError)(
            f'expected a table with a name, {{ name = "..." }}, or the name alone, got {quoted(value)}. '
            f"Names: {', '.join(registry.choices())}"
        )
    try:
        part = registry.get(rest.pop("name"))
        for what in lacking(part):
            who = whose(part) or "msdk"
            told = f"the {registry.record.words} {part.__module__}.{part.__qualname__} of {who} {what}"
            raise PluginFaultError(told, who)
    except MsdkError as error:
        error.__notes__ = [cattrs.AttributeValidationNote("name", "name", str)]
        raise cattrs.ClassValidationError("part", [error], dict) from error  # pyright: ignore[reportCallIssue]  as above
    return converter.structure(rest, part)


MISSING = "is missing"
"""What is wrong with a key that nobody gives."""


def flattened_errors(
    error: BaseException, path: tuple[str, ...] = (), unsure: tuple[type[Exception], ...] = ()
) -> Iterable[Problem]:
    """Cattrs' tree of errors, flattened to one `Problem` per leaf.

    Args:
        error: What structuring raised.
        path: Where it stands.
        unsure: Errors that are not told, as they may come of what could not be read.
    """
    if isinstance(error, cattrs.BaseValidationError):
        for inner in error.exceptions:
            step = ()
            for note in getattr(inner, "__notes__", []):
                if isinstance(note, cattrs.AttributeValidationNote):
                    step = (note.name.rstrip("_"),)
                elif isinstance(note, cattrs.IterableValidationNote):
                    step = (str(note.index),)
            yield from flattened_errors(inner, (*path, *step), unsure)
    elif isinstance(error, cattrs.ForbiddenExtraKeysError):
        allowed = [f.name.rstrip("_") for f in attrs.fields(error.cl)]
        part = registry_of_part(error.cl) is not None
        for key in sorted(error.extra_fields):
            known = ", ".join(["name", *allowed] if part else allowed)
            words = f"unknown key.{nearest(key, allowed)} Known: {known}."
            if "." in key:
                words = f'is one key, "{key}", as its dots stand in quotes: write {key} = ... without them'
            yield Problem(".".join((*path, key)), words)
    elif isinstance(error, unsure):
        return
    elif isinstance(error, KeyError) and error.args == path[-1:]:
        yield Problem(".".join(path), MISSING)
    elif isinstance(error, AttributeError) and error.name == "items":  # cattrs asks what should be a table for them
        yield Problem(".".join(path), f"expected a table, {{ key = value }}, got {quoted(str(error.obj))}")
    else:
        # attrs' validators put the field and its options behind their message.
        told = str(error.args[0] if isinstance(error, ValueError) and error.args else error)
        # A validator raises ValueErrors for what the user gave; anything else is the part's own fault.
        fault = isinstance(error, PluginFaultError) or not isinstance(error, ValueError)
        yield Problem(".".join(path), told, cause=error if fault else None)
