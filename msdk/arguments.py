"""What public functions are given, held against their annotations: a wrong type is told in words, before any work."""

import builtins
import functools
import inspect
import operator
import os
import types
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from msdk.errors import MsdkError, nearest, quoted

P = ParamSpec("P")
T = TypeVar("T")


def as_annotated(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which raises `MsdkError` where an argument is not what its annotation says.

    Lists are whatever has a length and is no text; whole numbers and numbers also those of NumPy and torch. What passed
    functions take and give is not looked at, nor an annotation that is none of the plain ones.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        hints = _hints(inspect.unwrap(function))
        given: Mapping[str, object] = {}
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            takes = ", ".join(name for name in signature.parameters)
            raise MsdkError(f"{function.__name__}: {error}. It takes {takes}") from None
        for name, value in given.items():
            if name in hints and not _is(value, hints[name]):
                raise MsdkError(_wrong(f"{function.__name__}: {name}", value, hints[name]))
        return function(*args, **kwargs)

    return told


class _ByName(type):
    """Of classes that a module imports for types alone: what has their name, or a base of it, is one."""

    def __instancecheck__(cls, instance: object) -> bool:
        return any(each.__name__ == cls.__name__ for each in type(instance).__mro__)


class _Elsewhere(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return _ByName(name, (), {})


@functools.cache
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotations of the arguments, those read that are texts."""
    names = ChainMap(function.__globals__, dict(vars(builtins)), _Elsewhere())
    return {
        name: eval(hint, {}, names) if isinstance(hint, str) else hint
        for name, hint in function.__annotations__.items()
        if name != "return"
    }


def _is(value: object, hint: Any) -> bool:
    """Whether a value is what a hint says, as far as it is one of the plain ones."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_is(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return type(value).__name__ in ("bool", "bool_")
    if hint in (int, float):
        return not isinstance(value, (bool, str, bytes)) and _converts(value, operator.index if hint is int else float)
    if hint is str:
        return isinstance(value, str)
    if origin is tuple and Ellipsis not in inner:
        return _listed(value, inner)
    if origin in (tuple, Sequence):
        return _listed(value, inner[:1])
    if origin in (Callable, Mapping, Iterable):
        return isinstance(value, origin) and not (origin is Iterable and isinstance(value, (str, bytes)))
    if _is_path(hint):
        return isinstance(value, os.PathLike)
    if not isinstance(hint, type) or origin is not None or hint is Any or getattr(hint, "_is_protocol", False):
        return True
    return isinstance(value, hint)


def _is_path(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Path)


def _converts(value: Any, to: Callable[[Any], object]) -> bool:
    """Whether a number of anybody's is one of Python's, with nothing lost but its type."""
    try:
        to(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # such as a tensor of several numbers
        return False
    return True


def _listed(value: object, inner: Sequence[Any]) -> bool:
    """Whether a value is a list of what each entry is to be; one hint is of them all."""
    if isinstance(value, (str, bytes, Mapping)) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        return False
    entries: Any = value
    if isinstance(value, range):
        return inner[0] in (int, float)
    hints = list(inner) if len(inner) > 1 else list(inner) * len(entries)
    return len(entries) == len(hints) and all(map(_is, entries, hints))


def _wrong(place: str, value: object, hint: Any) -> str:
    names = [text for each in (get_args(hint) or (hint,)) if get_origin(each) is Literal for text in get_args(each)]
    names += get_args(hint) if get_origin(hint) is Literal else ()
    meant = nearest(value, names) if isinstance(value, str) and names else ""
    return f"{place} must be {_words(hint)}, got {quoted(value)}.{meant or _by_name(value, hint)}"


def _by_name(value: object, hint: Any) -> str:
    """How a part is had by its name, where a name was given for one."""
    from msdk.registry import is_base, registry_for

    if get_args(hint):
        return next((text for each in get_args(hint) if (text := _by_name(value, each))), "")
    name = next((each for each in value if isinstance(each, str)), None) if isinstance(value, (list, tuple)) else value
    if not (isinstance(name, str) and is_base(hint)):
        return ""
    return f" By name: msdk.{registry_for(hint).kind}.get({quoted(name)})()"


def _words(hint: Any) -> str:
    """A hint as people say it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        paths = str in inner and any(_is_path(each) for each in inner)
        words = [_words(each) for each in inner if not (paths and each is str)]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    if origin is Literal:
        return " or ".join(repr(each) for each in inner)
    if origin is tuple and Ellipsis not in inner:
        return f"{len(inner)} values: {', '.join(map(_words, inner))}"
    if origin in (tuple, Sequence, Iterable):
        return f"a list whose entries are each {_words(inner[0])}"
    plain: dict[Any, str] = {
        type(None): "None",
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "a text",
        Callable: "a function",
        Mapping: "a dictionary",
    }
    if _is_path(hint):
        return "a path"
    return plain.get(origin or hint) or f"a {getattr(hint, '__name__', str(hint))}"
