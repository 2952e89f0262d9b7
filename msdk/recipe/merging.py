"""Reads recipe files: what they extend, what a command line overrides, and where each value came from."""

import itertools
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msdk.errors import PartError, Problem, RecipeError, quoted
from msdk.recipe.files import read_bounded

MOST_FILES = 64
"""Files that a recipe reads by `extends`, each counted as often as it is named, or by `use`."""
MOST_BYTES = 2**17
"""Bytes of all these files of `extends` together; the longest of msdk's own recipes has 4 kB."""
MOST_LEVELS = 32
"""Tables and lists in each other, and names in a dotted key."""
MOST_VALUES = 5000
"""Tables, lists, numbers, texts and so on in a file."""

_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
"""A dotted key of more than MOST_LEVELS names. tomllib takes a time that grows with their square, and more."""

Sources = dict[tuple[str, ...], str]
"""Path of a key -> the file (or `--set`) that set it last."""


OVERRIDE = "--set"
"""How the source of a key begins that no file has set."""


class Merged:
    """The data of a recipe file over those that it extends, and where each key came from.

    Attributes:
        data: All that files and overrides say.
        sources: Where each key came from.
        unread: Problems of files that could not be read, so that what they say is missing in the data.
        files: Those that were read, without symbolic links.
    """

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.sources: Sources = {}
        self.unread: list[Problem] = []
        self.files: list[Path] = []
        self._count = self._bytes = 0

    def read(self, path: Path, above: tuple[Path, ...] = ()) -> None:
        """Reads a file over what it extends.

        Args:
            path: The file.
            above: Those that extend it, the outermost first, without symbolic links.

        Raises:
            RecipeError: There are more and longer files than recipes have.
        """

        def unread(words: str) -> None:
            key, source = ("extends", above[-1]) if above else ("", path)
            self.unread.append(Problem(key, words, str(source)))

        def refuse(words: str) -> RecipeError:
            return RecipeError(str(above[0]), [Problem("extends", words, str(above[-1]))])

        self._count += 1
        if self._count > MOST_FILES:
            raise refuse(f"more than {MOST_FILES} files are read, each counted as often as it is named")
        try:
            content = read_bounded(path, MOST_BYTES)
        except PartError as error:
            return unread(str(error))
        here = Path(os.path.realpath(path))
        if here in above:
            chain = " -> ".join(file.name for file in (*above, path))
            return unread(f"a recipe cannot extend itself: {chain}")
        self._bytes += len(content)
        if self._bytes > MOST_BYTES:
            raise refuse(f"all files together have more than {MOST_BYTES:,} bytes")
        try:
            data = _parsed(content.decode("utf-8-sig"))  # editors of Windows begin a file with a mark
        except ValueError as error:
            return unread(f"{f'{path} ' if above else ''}is not valid TOML: {error}")
        bases = data.pop("extends", [])
        files = typing.cast("list[object]", bases if isinstance(bases, list) else [bases])
        if not all(isinstance(base, str) for base in files):
            words = f"expected a file name or a list of them, got {quoted(bases)}"
            self.unread.append(Problem("extends", words, str(path)))
        for base in files:
            if isinstance(base, str):
                self.read(path.parent / base, (*above, here))
        self.files.append(here)
        _merge(self.data, data, (), str(path), self.sources)
        return None

    def override(self, text: str) -> Problem | None:
        key, equals, raw = text.partition("=")
        source = f"{OVERRIDE} {text}"
        steps = key.strip().split(".")
        if not equals or not all(steps) or len(steps) > MOST_LEVELS:
            return Problem(key, "write an override as key=value, for example training.lr=0.001", source)
        try:
            value = _parsed(f"value = {raw}")["value"]
        except tomllib.TOMLDecodeError:
            value = raw  # a bare word: --set sampler.name=heun
        except ValueError as error:
            return Problem(key, str(error), source)
        wrong = _set(self.data, steps, value, (), source, self.sources)
        return Problem(key, wrong, source) if wrong else None


def _parsed(text: str) -> dict[str, Any]:
    """The data of a TOML text.

    Raises:
        ValueError: It is no TOML (tomllib.TOMLDecodeError), or holds what no recipe does, at whatever cost to read.
    """
    deep = f"tables and lists go more than {MOST_LEVELS} levels deep"
    if _LONG_KEY.search(text):
        raise ValueError(f"a key has more than {MOST_LEVELS} names with dots between them")
    try:
        data = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(deep) from error
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # Python's limit on the digits of integers
        raise ValueError("a whole number has thousands of digits; those of TOML have 64 bits") from error
    waiting: list[tuple[object, int]] = [(data, 0)]
    count = 0
    while waiting:
        value, level = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise ValueError(f"there are more than {MOST_VALUES:,} values")
        if level > MOST_LEVELS:
            raise ValueError(deep)
        if isinstance(value, dict):
            waiting += ((item, level + 1) for item in typing.cast("dict[str, object]", value).values())
        elif isinstance(value, list):
            waiting += ((item, level + 1) for item in typing.cast("list[object]", value))
    return data


def _set(target: Any, steps: list[str], value: object, path: tuple[str, ...], source: str, sources: Sources) -> str:
    """Sets one dotted key below a table or list; says what is wrong with the key, or nothing."""
    head, *rest = steps
    inner: Any = None
    place: Any = head
    if isinstance(target, list):
        count = len(typing.cast("list[object]", target))
        if not (head.isdecimal() and len(head) < 10 and int(head) < count):
            return f"there is no entry {head}: the list has {count}, numbered from 0"
        place = int(head)
        inner = typing.cast("list[object]", target)[place]
    else:
        inner = target.get(head)
    if rest and inner is None and rest[0].isdecimal():
        return f"there is no list {'.'.join((*path, head))}, so it has no entry {rest[0]}: give all of it, {head}=[...]"
    if rest and isinstance(inner, str) and head != "name":
        inner = target[place] = {"name": inner}
    if rest and inner is not None:
        if not isinstance(inner, (dict, list)):
            return f"{'.'.join((*path, head))} is {quoted(inner)}, which has no keys to set"
        return _set(inner, rest, value, (*path, head), source, sources)
    for step in reversed(rest):
        value = {step: value}
    if isinstance(target, list):
        target[place] = value
        _note_sources(value, (*path, head), source, sources)
    else:
        _merge(target, {head: value}, path, source, sources)
    return ""


ALTERNATIVES = (
    *(("sampling", *pair) for pair in itertools.permutations(("steps", "nfe", "steps_per_stage"), 2)),
    ("", "encoder", "encoders"),
    ("", "encoders", "encoder"),
)
"""(table, key, key that it replaces): an overlay that chooses one drops the other."""


CHOICES = (("training", "stage_draw"),)
"""Tables that replace as a whole: each is one choice."""

NO_WAYS = ("train", "train_encoder")
"""Keys of `[stages]` that say nothing of its edges."""


def _merge(base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...], source: str, sources: Sources) -> None:
    """Tables merge, everything else replaces. A part with another name drops the old part's keys; so do `stages` edges.

    The bare name of a part over its table, or under it, is `{ name = ... }`.
    """
    replaces_part = "name" in over and base.get("name") not in (None, over["name"])
    replaces_stages = path == ("stages",) and set(over) - {"schedule", *NO_WAYS}
    if replaces_part or replaces_stages:
        kept = {key: base[key] for key in NO_WAYS if replaces_stages and key in base}
        base.clear()
        base.update(kept)
    for table, key, other in ALTERNATIVES:
        chosen = key in over and (not isinstance(over[key], dict) or "name" in over[key])  # not a setting alone
        if ".".join(path) == table and chosen and other not in over:
            base.pop(other, None)
    for key, value in over.items():
        here = (*path, key)
        sources[here] = source
        old = base.get(key)
        if here in CHOICES:
            old = None
        if isinstance(value, dict) and isinstance(old, str):
            old = base[key] = {"name": old}
        if isinstance(value, str) and isinstance(old, dict):
            value = {"name": value}
        if isinstance(value, dict) and isinstance(old, dict):
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
    for key, source in sources.items():
        if ".".join(key) == path:  # a key may have dots itself
            return source
    steps = tuple(path.split("."))
    while steps and steps not in sources:
        steps = steps[:-1]
    return sources.get(steps, "")
