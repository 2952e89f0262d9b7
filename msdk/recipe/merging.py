"""Reads recipe files: what they extend, what a command line overrides, and where each value came from."""

import itertools
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msdk.errors import Problem, RecipeError

Sources = dict[tuple[str, ...], str]
"""Path of a key -> the file (or `--set`) that set it last."""


class Merged:
    """The data of a recipe file over those that it extends, and where each key came from."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.sources: Sources = {}

    def read(self, path: Path, above: tuple[Path, ...]) -> None:
        if path.resolve() in above:
            chain = " -> ".join(file.name for file in (*above, path))
            raise RecipeError(
                str(above[0]), [Problem("extends", f"a recipe cannot extend itself: {chain}", str(above[-1]))]
            )
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            problem = (
                Problem("extends", f"{path} cannot be read: {error.strerror}", str(above[-1]))
                if above
                else (Problem("", f"cannot be read: {error.strerror}"))
            )
            raise RecipeError(str(above[0] if above else path), [problem]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(str(path), [Problem("", f"is not valid TOML: {error}")]) from error
        bases = data.pop("extends", [])
        files = typing.cast("list[object]", bases if isinstance(bases, list) else [bases])
        for base in files:
            if not isinstance(base, str):
                raise RecipeError(
                    str(path), [Problem("extends", f"expected a file name or a list of them, got {bases!r}")]
                )
            self.read(path.parent / base, (*above, path.resolve()))
        _merge(self.data, data, (), str(path), self.sources)

    def override(self, text: str) -> Problem | None:
        key, equals, raw = text.partition("=")
        source = f"--set {text}"
        steps = key.strip().split(".")
        if not equals or not all(steps):
            return Problem(key, "write an override as key=value, for example training.lr=0.001", source)
        try:
            value = tomllib.loads(f"value = {raw}")["value"]
        except tomllib.TOMLDecodeError:
            value = raw  # a bare word: --set sampler.name=heun
        wrong = _set(self.data, steps, value, (), source, self.sources)
        return Problem(key, wrong, source) if wrong else None


def _set(target: Any, steps: list[str], value: object, path: tuple[str, ...], source: str, sources: Sources) -> str:
    """Sets one dotted key below a table or list; says what is wrong with the key, or nothing."""
    head, *rest = steps
    inner: Any = None
    if isinstance(target, list):
        count = len(typing.cast("list[object]", target))
        if not (head.isdecimal() and int(head) < count):
            return f"there is no entry {head}: the list has {count}, numbered from 0"
        inner = typing.cast("list[object]", target)[int(head)]
    else:
        inner = target.get(head)
    if rest and inner is not None:
        if not isinstance(inner, (dict, list)):
            return f"{'.'.join((*path, head))} is {inner!r}, which has no keys to set"
        return _set(inner, rest, value, (*path, head), source, sources)
    for step in reversed(rest):
        value = {step: value}
    if isinstance(target, list):
        target[int(head)] = value
        _note_sources(value, (*path, head), source, sources)
    else:
        _merge(target, {head: value}, path, source, sources)
    return ""


ALTERNATIVES = tuple(("sampling", *pair) for pair in itertools.permutations(("steps", "nfe", "steps_per_stage"), 2))
"""(table, key, key that it replaces): an overlay that chooses one drops the other."""


def _merge(base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...], source: str, sources: Sources) -> None:
    """Tables merge, everything else replaces. A part with another name drops the old part's keys; so do `stages`."""
    replaces_part = "name" in over and base.get("name") not in (None, over["name"])
    replaces_stages = path == ("stages",) and set(over) - {"schedule"}
    if replaces_part or replaces_stages:
        base.clear()
    for table, key, other in ALTERNATIVES:
        if path == (table,) and key in over and other not in over:
            base.pop(other, None)
    for key, value in over.items():
        here = (*path, key)
        sources[here] = source
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], typing.cast("dict[str, Any]", value), here, source, sources)
        else:
            base[key] = value
            _note_sources(value, here, source, sources)


def _note_sources(value: object, path: tuple[str, ...], source: str, sources: Sources) -> None:
    sources[path] = source
    if isinstance(value, dict):
        items: Iterable[tuple[object, object]] = typing.cast("dict[object, object]", value).items()
    else:
        items = enumerate(typing.cast("list[object]", value)) if isinstance(value, list) else ()
    for key, item in items:
        _note_sources(item, (*path, str(key)), source, sources)


def source_of(path: str, sources: Sources) -> str:
    steps = tuple(path.split("."))
    while steps and steps not in sources:
        steps = steps[:-1]
    return sources.get(steps, "")
