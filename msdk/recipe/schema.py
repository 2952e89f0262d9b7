"""A JSON Schema of recipe files, installed plugins included: editors then complete keys and underline mistakes.

A recipe file may leave out whatever a base recipe gives, so nothing is required, not even a part's name; where the name
is there, exactly the keys of that part are allowed. `msdk recipe check` knows more: what fits what.
"""

import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from msdk.errors import PluginError
from msdk.recipe import Recipe
from msdk.recipe.files import Artefact, File
from msdk.registry import Registry, is_base, registries, registry_for
from msdk.registry.describing import field_help, plain

Json = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What the TOML plugins of editors (Even Better TOML, taplo) read."""

SIMPLE: Mapping[Any, Json] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    File: {"type": "string"},
    Artefact: {"type": "string"},
}
BOUNDS = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
"""Comparison of attrs' number validators -> keyword."""


def recipe_schema() -> tuple[Json, list[str]]:
    """The schema, and why parts were left out of it: those of plugins that cannot be imported."""
    broken: list[str] = []
    definitions: dict[str, Json] = {}
    for registry in registries().values():
        definitions[registry.kind] = _kind(registry, definitions, broken)
    top = _table(Recipe, "A recipe of msdk.")
    one = {"type": "string"}
    top["properties"]["extends"] = {
        "anyOf": [one, {"type": "array", "items": one}],
        "description": "File or files that this recipe builds on.",
    }
    return {"$schema": DIALECT, "title": "msdk recipe", **top, "definitions": definitions}, broken


def _kind(registry: Registry[Any], definitions: dict[str, Json], broken: list[str]) -> Json:
    """A part of a kind: any of its names, alone or with the keys that belong to it."""
    names = registry.choices()
    rules: list[Json] = []
    for name in names:
        try:
            part = registry.get(name)
            table = _table(part, (part.__doc__ or "").strip().partition("\n")[0])
        except PluginError as error:
            broken.append(str(error))
            continue
        except Exception as error:  # types that cannot be resolved, a default that cannot be made, no attrs class
            origin = registry.origin(name)
            if origin.owner == registry.owner()[0]:
                raise
            broken.append(f"'{name}' of '{origin.owner}' ({origin.target}): {type(error).__name__}: {error}")
            continue
        table["properties"] = {"name": {"const": name}, **table["properties"]}
        definitions[f"{registry.kind}/{name}"] = table
        named = {"type": "object", "properties": {"name": {"const": name}}, "required": ["name"]}
        rules.append({"if": named, "then": {"$ref": _reference(f"{registry.kind}/{name}")}})
    described = f"{registry.record.words}: `msdk show {registry.singular} NAME` has the fields."
    return {
        "type": ["object", "string"],
        "properties": {"name": {"enum": names, "description": described}},
        "allOf": [{"if": {"type": "string"}, "then": {"enum": names}}, *rules],
    }


def _table(cls: Any, description: str) -> Json:
    """A table whose keys are the fields of an attrs class."""
    attrs.resolve_types(cls)
    helps = field_help(cls)
    properties: dict[str, Json] = {}
    for field in attrs.fields(cls):
        found = _value(field.type)
        for keyword, bound in _bounds(field.validator):
            found = _bounded(found, keyword, bound)
        if field.name in helps:
            found = {**found, "description": helps[field.name]} if "$ref" not in found else found
        default = plain(field.default)
        if default is not None and not isinstance(field.default, attrs.Factory):  # pyright: ignore[reportArgumentType]
            found["default"] = default
        properties[field.name.rstrip("_")] = found
    return {"type": "object", "description": description, "properties": properties, "additionalProperties": False}


def _value(kind: Any) -> Json:
    """What a value of a type may be."""
    if is_base(kind):
        return {"$ref": _reference(registry_for(kind).kind)}
    if kind in SIMPLE:
        return dict(SIMPLE[kind])
    if attrs.has(kind):
        table = _table(kind, (kind.__doc__ or "").strip().partition("\n")[0])
        # The bare name of a table that has one stands for it.
        return {"anyOf": [table["properties"]["name"], table]} if "name" in table["properties"] else table
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        some = [_value(argument) for argument in arguments if argument is not type(None)]
        return some[0] if len(some) == 1 else {"anyOf": some}
    if origin is tuple and arguments[-1] is ...:
        return {"type": "array", "items": _value(arguments[0])}
    if origin is tuple:
        count = len(arguments)
        return {"type": "array", "items": [_value(each) for each in arguments], "minItems": count, "maxItems": count}
    return {}  # a plugin's own type: anything, which structuring will judge


def _bounds(validator: Any) -> Iterable[tuple[str, float]]:
    """Keywords of attrs' own number validators, also inside `and_` and `optional`."""
    if validator is None:
        return
    inner = getattr(validator, "_validators", None) or [getattr(validator, "validator", None)]
    if inner != [None]:
        for each in inner:
            yield from _bounds(each)
    elif getattr(validator, "compare_op", None) in BOUNDS:
        yield BOUNDS[validator.compare_op], validator.bound


def _bounded(found: Json, keyword: str, bound: float) -> Json:
    return {**found, keyword: bound} if found.get("type") in ("integer", "number") else found


def _reference(name: str) -> str:
    return "#/definitions/" + name.replace("~", "~0").replace("/", "~1")
