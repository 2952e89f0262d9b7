"""One registry per kind of part: names in, classes out, nothing imported before it is asked for.

A name has one of three owners: msdk itself (a lazy `"module:Class"` line in the package of its kind), an installed
distribution (an entry point in the group `msdk.<kind>`), or the running program (the `add` decorator). Listing names
imports none of them; a lookup imports only the part that it names. Two owners of one name are refused at the lookup,
and `"distribution:name"` picks one of them.
"""

import configparser
import contextlib
import functools
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import attrs

from msdk.errors import DuplicateNameError, PluginError, UnknownNameError, nearest

KINDS = (
    "encoders",
    "decoders",
    "schedules",
    "parameterizations",
    "autoencoders",
    "samplers",
    "clusterings",
    "noise_levels",
    "weightings",
    "datasets",
)
"""Every kind of part, as the packages, entry-point groups and the command line spell it."""

T = TypeVar("T")


@attrs.frozen
class Origin:
    """Where a registered name comes from.

    Attributes:
        name: The registered name, without an owner.
        owner: `"msdk"`, the name of an installed distribution, or the module that called `add`.
        target: `"module:Class"`.
        version: Version of the distribution, empty for parts added by the running program.
    """

    name: str
    owner: str
    target: str
    version: str = ""


@attrs.frozen
class BrokenPlugin:
    """An installed distribution whose declarations could not be read, and why."""

    owner: str
    reason: str


class Registry(Generic[T]):
    """Named parts of one kind.

    Args:
        kind: The plural name of the kind, one of `KINDS`.
        builtins: Name -> `"module:Class"` of the parts that msdk ships.
        base: `"module:Class"` that every part must subclass.
    """

    def __init__(self, kind: str, builtins: Mapping[str, str], base: str) -> None:
        self.kind = kind
        self.singular = kind.removesuffix("s")
        self._builtins = dict(builtins)
        self._base = base
        self._added: dict[str, tuple[Origin, type[T]]] = {}
        self._loaded: dict[Origin, type[T]] = {}

    def add(self, name: str, *, replace: bool = False) -> Callable[[type[T]], type[T]]:
        """Registers the decorated class under a name, for as long as the program runs.

        Raises:
            DuplicateNameError: The name is taken and `replace` is false. The same class again (a reload) is no error.
        """

        def register(part: type[T]) -> type[T]:
            origin = Origin(name, part.__module__, f"{part.__module__}:{part.__qualname__}")
            for other in [] if replace else self._origins().get(name, []):
                if other.target != origin.target:
                    raise DuplicateNameError(
                        f"the {self.singular} name '{name}' is taken: '{other.owner}' owns it ({other.target}), "
                        f"and '{origin.owner}' wants it ({origin.target}). Choose another name, or pass replace=True."
                    )
            self._added[name] = (origin, self._checked(origin, part))
            self._loaded.pop(origin, None)  # a reloaded class takes the place of the one that was looked up before
            return part

        return register

    def get(self, name: str) -> type[T]:
        """Imports and returns the class of a name, or of `"owner:name"` where several own it.

        Raises:
            UnknownNameError: Nobody registered the name; the message has the nearest one and all there are.
            DuplicateNameError: Several did; the message names them.
            PluginError: Its package cannot be imported, or the part is not a subclass of the kind's base.
        """
        origin = self.origin(name)
        if origin not in self._loaded:
            added = self._added.get(origin.name)
            self._loaded[origin] = added[1] if added and added[0] == origin else self._checked(origin, _load(origin))
        return self._loaded[origin]

    def names(self) -> list[str]:
        """All names, sorted; a name with several owners appears once per owner, as `"owner:name"`."""
        found: list[str] = []
        for name, origins in self._origins().items():
            found += [name] if len(origins) == 1 else [f"{o.owner}:{name}" for o in origins]
        return sorted(found)

    def origin(self, name: str) -> Origin:
        """Says who owns a name, without importing it. Raises as `get` does, but for `PluginError`."""
        owner, _, bare = name.rpartition(":")
        origins = self._origins().get(bare, [])
        if owner:
            origins = [o for o in origins if _normalised(o.owner) == _normalised(owner)]
        if not origins:
            raise UnknownNameError(self._unknown(name))
        if len(origins) > 1:
            owners = " and ".join(f"'{o.owner}' ({o.target})" for o in origins)
            choices = " or ".join(f"'{o.owner}:{bare}'" for o in origins)
            raise DuplicateNameError(f"several own the {self.singular} name '{bare}': {owners}. Write {choices}.")
        return origins[0]

    def name_of(self, part: type[T]) -> str:
        """The name that `get` returns this class for: what a recipe calls it."""
        target = f"{part.__module__}:{part.__qualname__}"
        for name, origins in self._origins().items():
            for origin in origins:
                if target == origin.target or self._loaded.get(origin) is part:  # a target may name a re-export
                    return name if len(origins) == 1 else f"{origin.owner}:{name}"
        raise UnknownNameError(f"{target} is not a registered {self.singular}.")

    def _origins(self) -> dict[str, list[Origin]]:
        found = {name: [Origin(name, "msdk", target, _own_version())] for name, target in self._builtins.items()}
        for origin in installed_parts()[0].get(self.kind, ()):
            found.setdefault(origin.name, []).append(origin)
        for name, (origin, _) in self._added.items():
            found[name] = [origin]  # refused in `add` unless it replaces on purpose
        return found

    def _unknown(self, name: str) -> str:
        known = self.names()
        text = f"no {self.singular} named '{name}'.{nearest(name, known)} Known: {', '.join(known) or 'none'}."
        broken = installed_parts()[1]
        if broken:
            text += " Packages that could not be read: " + "; ".join(f"{b.owner} ({b.reason})" for b in broken) + "."
        return text

    def _checked(self, origin: Origin, part: object) -> type[T]:
        module, _, cls = self._base.partition(":")
        base = getattr(importlib.import_module(module), cls)
        if not (isinstance(part, type) and issubclass(part, base)):
            raise PluginError(
                f"the {self.singular} '{origin.name}' of '{origin.owner}' ({origin.target}) is not a subclass of "
                f"{module}.{cls}, which every {self.singular} must be."
            )
        return part


def registries() -> dict[str, "Registry[object]"]:
    """Every registry by kind. Imports the torch-free packages of the kinds, and none of their parts."""
    return {kind: importlib.import_module(f"msdk.{kind}").registry for kind in KINDS}


def registry_of(kind: str) -> "Registry[object]":
    """The registry of a kind, given in singular or plural.

    Raises:
        UnknownNameError: There is no such kind.
    """
    spelled = kind.lower().replace("-", "_")
    for known in KINDS:
        if spelled in (known, known.removesuffix("s")):
            return registries()[known]
    raise UnknownNameError(f"no kind of part named '{kind}'.{nearest(kind, KINDS)} Known: {', '.join(KINDS)}.")


@functools.cache
def installed_parts() -> tuple[dict[str, list[Origin]], list[BrokenPlugin]]:
    """Scans the path once for entry points in `msdk.*` groups: parts by kind, and packages that could not be read.

    The scan goes folder by folder, because one malformed `entry_points.txt` makes the `entrypoints` package give up on
    everything after it; a folder that fails is read again one distribution at a time.
    """
    parts: dict[str, list[Origin]] = {}
    broken: list[BrokenPlugin] = []
    seen: set[str] = set()
    for folder in dict.fromkeys(sys.path):
        try:
            found = list(_scan(folder))
        except Exception:  # a stranger's file: parser, encoding and interpolation errors alike
            found = list(_scan_slowly(folder, broken))
        for kind, origin in found:
            if origin.owner in seen or origin.owner == "msdk":
                continue  # a copy further down the path is shadowed, as in an import
            others = [o.target for o in parts.get(kind, ()) if (o.owner, o.name) == (origin.owner, origin.name)]
            if kind not in KINDS:
                reason = f"no kind of part '{kind}' (group msdk.{kind}){nearest(kind, KINDS)}"
            elif not re.fullmatch(r"[\w.]+:[\w.]+", origin.target):
                reason = f"'{origin.name} = {origin.target}' is not of the form module:Class"
            elif others and others != [origin.target]:  # files of two versions of one distribution
                reason = f"'{origin.name}' is both {others[0]} and {origin.target}: install it again"
            else:
                parts.setdefault(kind, []).extend([] if others else [origin])
                continue
            broken.append(BrokenPlugin(origin.owner, reason))
        seen |= {origin.owner for _, origin in found}
    return parts, list(dict.fromkeys(broken))


def _scan(folder: str) -> Iterator[tuple[str, Origin]]:
    """Kind and origin of each msdk entry point in one folder of the path."""
    import entrypoints  # 40 ms, and only listings and lookups need it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of strangers' entry points that are not ours to judge
        for config, distribution in entrypoints.iter_files_distros(path=[folder]):
            if distribution is not None:
                yield from _points(config, distribution.name, distribution.version)


def _scan_slowly(folder: str, broken: list[BrokenPlugin]) -> Iterator[tuple[str, Origin]]:
    """The same, one distribution at a time, noting those of ours that cannot be read."""
    import importlib.metadata

    import entrypoints

    for distribution in importlib.metadata.distributions(path=[folder]):
        owner, text = Path(folder).name, ""
        with contextlib.suppress(Exception):  # its METADATA may be missing or broken
            owner = _normalised(distribution.name)
        try:
            text = distribution.read_text("entry_points.txt") or ""
            config = entrypoints.CaseSensitiveConfigParser(delimiters=("=",))
            config.read_string(text, source="entry_points.txt")
            yield from _points(config, owner, distribution.version)
        except Exception as error:
            if isinstance(error, UnicodeDecodeError):
                text = error.object.decode(errors="replace")
            if "msdk" in owner or "msdk" in text:  # what strangers break is theirs to mend
                reason = " ".join(str(error).split())
                broken.append(BrokenPlugin(owner, f"its entry_points.txt cannot be read: {reason}"))


def _points(config: configparser.ConfigParser, owner: str, version: str | None) -> Iterator[tuple[str, Origin]]:
    for group in config.sections():
        if group.startswith("msdk."):
            for name, target in config.items(group, raw=True):
                origin = Origin(name, _normalised(owner), target.split("[")[0].strip(), version or "")
                yield group.removeprefix("msdk."), origin


def _load(origin: Origin) -> object:
    module, _, attribute = origin.target.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:
        if origin.owner == "msdk":
            raise
        raise PluginError(
            f"'{origin.name}' of the installed package '{origin.owner}' cannot be loaded from {origin.target}: "
            f"{type(error).__name__}: {error}. Update or uninstall '{origin.owner}'; everything else works without it."
        ) from error


def _normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()  # PEP 503


@functools.cache
def _own_version() -> str:
    from msdk import __version__

    return __version__
