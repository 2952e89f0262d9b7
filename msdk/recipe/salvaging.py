"""What can be read of a recipe with mistakes, so that what else is wrong with it is told at the same time.

Where a value is wrong or missing, the recipe has `UNKNOWN` in its place. A check that looks at it ends there, with
`NotKnown`, and tells nothing: every mistake is told that can be told despite the others, and none that only follows.
"""

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import attrs

from msdk.errors import MsdkError, Problem
from msdk.recipe.structuring import meant, named, spelt_out, strict_converter
from msdk.registry import is_base, registry_for
from msdk.registry.faults import fault_in
from msdk.registry.lookup import lacking


class NotKnown(Exception):  # noqa: N818  no mistake of anyone: a question without an answer
    """Something was asked of a value that is not known."""


class Unknown:
    """In the place of a value that is wrong or missing; only that it is not None can be found out."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> NoReturn:
        raise NotKnown(name)

    def __repr__(self) -> str:
        return "UNKNOWN"


def _refuse(*_: object, **__: object) -> NoReturn:
    raise NotKnown


for _name in (
    *("eq", "ne", "lt", "le", "gt", "ge", "hash", "bool", "len", "iter", "contains", "getitem", "call", "format"),
    *("int", "float", "index", "abs", "neg", "round", "str", "fspath"),
    *(f"{side}{name}" for side in ("", "r") for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")),
):
    setattr(Unknown, f"__{_name}__", _refuse)

UNKNOWN: Any = Unknown()


def salvaged(value: object, kind: Any, *, defaults: bool = True, finished: bool = True) -> Any:
    """A value of a type, of which everything that is wrong or missing is `UNKNOWN`.

    Args:
        value: Plain data, see `msdk.recipe.structuring`.
        kind: What it should be.
        defaults: Whether keys that are not there have their defaults; false where a file that may set them is unread.
        finished: Whether a table does what it does once all its fields are there; false leaves that to the caller.
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = meant(value, kind)
    if typing.get_origin(kind) is tuple:
        return _tuple(value, typing.get_args(kind), defaults=defaults)
    if is_base(kind):
        return _part(value, kind, defaults=defaults)
    if attrs.has(kind):
        return _table(spelt_out(value, kind), kind, defaults=defaults, finished=finished)
    try:
        return strict_converter().structure(value, kind)
    except Exception:
        return UNKNOWN


def _tuple(value: object, kinds: tuple[Any, ...], *, defaults: bool) -> Any:
    if not isinstance(value, list):
        return UNKNOWN
    items = typing.cast("list[object]", value)
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(items)
    elif len(kinds) != len(items):
        return UNKNOWN
    return tuple(salvaged(item, kind, defaults=defaults) for item, kind in zip(items, kinds, strict=True))


def _part(value: object, base: type, *, defaults: bool) -> Any:
    data = named(value)
    try:
        part = registry_for(base).get(typing.cast("str", data["name"])) if data is not None else None
    except MsdkError:
        part = None
    if data is None or part is None or lacking(part):
        return UNKNOWN
    return _table({key: item for key, item in data.items() if key != "name"}, part, defaults=defaults)


def _table(value: object, cls: Any, *, defaults: bool, finished: bool = True) -> Any:
    if not isinstance(value, Mapping):
        return UNKNOWN
    data = typing.cast("Mapping[str, object]", value)
    attrs.resolve_types(cls)
    fields = {field.name.rstrip("_"): field for field in attrs.fields(cls)}
    rest = defaults and data.keys() <= fields.keys()  # a key that is unknown may be any of the others, misspelt
    made = object.__new__(cls)  # its own __init__ would judge what is not known
    for key, field in fields.items():
        found = _field(data[key], field, defaults=defaults) if key in data else _default(field, defaults=rest)
        object.__setattr__(made, field.name, found)
    finish = getattr(made, "__attrs_post_init__", None)
    try:
        if finish is not None and finished:
            finish()
    except NotKnown:
        return made  # finished as far as can be
    except Exception:
        return UNKNOWN
    return made


def _field(value: object, field: Any, *, defaults: bool) -> Any:
    found = salvaged(value, field.type, defaults=defaults)
    try:
        if field.validator is not None and found is not UNKNOWN:
            field.validator(None, field, found)
        return found if field.converter is None else field.converter(found)
    except Exception:
        return UNKNOWN


def _default(field: Any, *, defaults: bool) -> Any:
    if not defaults or field.default is attrs.NOTHING:
        return UNKNOWN
    if isinstance(field.default, attrs.Factory):  # pyright: ignore[reportArgumentType]  a class at run time
        return UNKNOWN if field.default.takes_self else field.default.factory()
    return field.default


def known(value: Any) -> bool:
    """Whether nothing in a part (or a tuple of them) is unknown."""
    if value is UNKNOWN:
        return False
    inner: Iterable[Any] = ()
    if isinstance(value, tuple):
        inner = typing.cast("tuple[Any, ...]", value)
    elif attrs.has(type(value)):
        inner = (getattr(value, field.name) for field in attrs.fields(type(value)))
    return all(map(known, inner))


def failing(path: str, check: Callable[[], object]) -> Iterable[Problem]:
    """What a check says is wrong with the part at a path, if anything; nothing where it asks for what is not known."""
    try:
        check()
    except NotKnown:
        return
    except MsdkError as error:
        yield Problem(path, str(error), cause=error)
    except (ArithmeticError, ValueError) as error:
        if not isinstance(error, ArithmeticError) and "math" not in str(error) and fault_in(error):
            raise  # a plugin's own  # of floats: overflow, division by zero, roots of negative numbers
        yield Problem(path, f"leads to numbers that cannot be computed ({error.args[-1]}): use less extreme settings")


def stated(table: object, key: str) -> bool:
    """Whether a key that may be left out is there.

    Raises:
        NotKnown: It may be.
    """
    value = getattr(table, key)
    if value is UNKNOWN:
        raise NotKnown
    return value is not None
