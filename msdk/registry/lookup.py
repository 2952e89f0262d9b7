"""One registry per kind of part: names in, classes out, nothing imported before it is asked for.

A name has one of three owners: msdk itself (a lazy `"module:Class"` line in the package of its kind), an installed
distribution (an entry point in the group `msdk.<kind>`), or the running program (the `add` decorator). Listing names
imports none of them; a lookup imports only the part that it names. Two packages that own one name are refused at the
lookup, and `"distribution:name"` picks one of them; a name of who brings the kind, of msdk, stays theirs.
"""

import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Generic, TypeVar

import attrs

from msdk.errors import DuplicateNameError, MsdkWarning, PluginError, PluginFaultError, UnknownNameError, nearest
from msdk.registry.discovery import BrokenPlugin, Origin, installed_parts, mode, normalised, unsuited
from msdk.registry.faults import contained, plugin_named
from msdk.registry.kinds import GROUP, KINDS, Kind, load

T = TypeVar("T")


class Registry(Generic[T]):
    """Named parts of one kind.

    Args:
        record: What tells the kind from others.
        builtins: Name -> `"module:Class"` of the parts that come with the kind.

    Attributes:
        kind: The plural name of the kind.
        singular: One of them.
    """

    def __init__(self, record: Kind, builtins: Mapping[str, str]) -> None:
        self.record = record
        self.kind = record.name
        self.singular = record.singular
        self._builtins = dict(builtins)
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
            DuplicateNameError: Several packages did; the message names them.
            PluginError: Its package cannot be imported, or the part is not a subclass of the kind's base.
        """
        origin = self.origin(name)
        others = [o.owner for o in self._origins()[origin.name] if o != origin] if name == origin.name else []
        if others:
            theirs = " or ".join(f"'{owner}:{name}'" for owner in others)
            warnings.warn(
                f"the {self.singular} '{name}' is taken to be that of {origin.owner}, but {' and '.join(others)} took "
                f"its name: a recipe that means theirs must say {theirs}",
                MsdkWarning,
                stacklevel=2,
            )
        if origin not in self._loaded:
            added = self._added.get(origin.name)
            self._loaded[origin] = added[1] if added and added[0] == origin else self._checked(origin, _load(origin))
        return self._loaded[origin]

    def base(self) -> type[T]:
        """The class that every part subclasses."""
        return load(self.record.base)

    def own_names(self) -> list[str]:
        """The names that belong to who brings the kind: msdk's own, where the kind is."""
        owner, _ = self.owner()
        return [name for name in self.names() if self.origin(name).owner == owner]

    def owner(self) -> tuple[str, str]:
        """Who brings the kind: "msdk" or the name of an installed distribution, and its version."""
        for origin in installed_parts()[0].get(GROUP, ()):
            if origin.name == self.kind:
                return origin.owner, origin.version
        return "msdk", _own_version()

    def owners(self, name: str) -> list[str]:
        """Who owns a name, without importing anything."""
        return [origin.owner for origin in self._origins().get(name, [])]

    def added_by(self, module: str) -> list[str]:
        """The names that a module of the running program has added."""
        return [name for name, (origin, _) in self._added.items() if origin.owner == module]

    def names(self) -> list[str]:
        """All names, sorted; one with several owners appears once per owner, as `"owner:name"` but for its first."""
        found: list[str] = []
        for name, origins in self._origins().items():
            alone = len(origins) == 1 or self._keeps(origins[0])
            found += [name if alone and o == origins[0] else f"{o.owner}:{name}" for o in origins]
        return sorted(found)

    def choices(self) -> list[str]:
        """The names that a recipe may use: all but those of parts that every run has."""
        return [name for name in self.names() if name.removeprefix("msdk:") not in self.record.always]

    def origin(self, name: str) -> Origin:
        """Says who owns a name, without importing it. Raises as `get` does, but for `PluginError`."""
        owner, _, bare = name.rpartition(":")
        origins = self._origins().get(bare, [])
        if owner:
            origins = [o for o in origins if normalised(o.owner) == normalised(owner)]
        if not origins:
            raise UnknownNameError(self._unknown(name))
        if len(origins) > 1 and not self._keeps(origins[0]):
            owners = " and ".join(f"'{o.owner}' ({o.target})" for o in origins)
            choices = " or ".join(f"'{o.owner}:{bare}'" for o in origins)
            raise DuplicateNameError(f"several own the {self.singular} name '{bare}': {owners}. Write {choices}.")
        return origins[0]

    def name_of(self, part: type[T]) -> str:
        """The name that `get` returns this class for, without a warning: what a recipe calls it."""
        target = f"{part.__module__}:{part.__qualname__}"
        for origins in self._origins().values():
            for origin in origins:
                if target == origin.target or self._loaded.get(origin) is part:  # a target may name a re-export
                    return origin.name if len(origins) == 1 else f"{origin.owner}:{origin.name}"
        raise UnknownNameError(f"{target} is not a registered {self.singular}.")

    def _keeps(self, origin: Origin) -> bool:
        """Whether a name stays its owner's whoever else takes it: one that came with the kind."""
        return self._builtins.get(origin.name) == origin.target

    def _origins(self) -> dict[str, list[Origin]]:
        owner, version = self.owner()
        found = {name: [Origin(name, owner, target, version)] for name, target in self._builtins.items()}
        for origin in installed_parts()[0].get(self.kind, ()):
            if origin not in found.setdefault(origin.name, []):  # who brings a kind may declare its parts as well
                found[origin.name].append(origin)
        for name, (origin, _) in self._added.items():
            found[name] = [origin]  # refused in `add` unless it replaces on purpose
        return found

    def _unknown(self, name: str) -> str:
        known = self.choices()
        text = f"no {self.singular} named '{name}'.{nearest(name, known)} Known: {', '.join(known) or 'none'}."
        broken = broken_plugins()
        if broken:
            text += " Packages that could not be read: " + "; ".join(f"{b.owner} ({b.reason})" for b in broken) + "."
        return text

    def _checked(self, origin: Origin, part: object) -> type[T]:
        base = self.base()
        if not (isinstance(part, type) and issubclass(part, base)):
            raise PluginFaultError(
                f"the {self.singular} '{origin.name}' of '{origin.owner}' ({origin.target}) is not a subclass of "
                f"{base.__module__}.{base.__name__}, which every {self.singular} must be.",
                plugin_named(origin),
            )
        return part


def lacking(part: type) -> list[str]:
    """What a class has not that a recipe needs of every part."""
    missing = sorted(getattr(part, "__abstractmethods__", ()))
    found = [f"lacks {', '.join(missing)}"] if missing else []
    return found if attrs.has(part) else [*found, "is no attrs class: decorate it with @attrs.frozen"]


def registries() -> dict[str, Registry[Any]]:
    """Every registry by kind: msdk's own, then those of installed packages. Imports records of kinds, and no part."""
    return {**_own(), **{kind: registry for kind, registry in _brought() if isinstance(registry, Registry)}}


def broken_plugins() -> list[BrokenPlugin]:
    """Installed packages that could not be read, or that bring a kind which cannot be imported."""
    return [*installed_parts()[1], *(registry for _, registry in _brought() if isinstance(registry, BrokenPlugin))]


def registry_of(kind: str) -> Registry[Any]:
    """The registry of a kind, given in singular or plural.

    Raises:
        UnknownNameError: There is no such kind.
    """
    spelled = kind.lower().replace("-", "_")
    known = registries()
    for registry in known.values():
        if spelled in (registry.kind, registry.singular):
            return registry
    raise UnknownNameError(f"no kind of part named '{kind}'.{nearest(kind, known)} Known: {', '.join(known)}.")


def is_base(annotation: object) -> bool:
    """Whether the type of a field is the base class of a kind, so that the field takes a part."""
    return isinstance(annotation, type) and _target_of(annotation) in _by_base()


def registry_for(base: type) -> Registry[Any]:
    """The registry of the kind with this base class, see `is_base`."""
    return _by_base()[_target_of(base)]


def registry_of_part(part: type) -> Registry[Any] | None:
    """The registry of the kind that a class is a part of; None where it is of none."""
    known = _by_base()
    return next((known[target] for target in map(_target_of, part.__mro__) if target in known), None)


def package_of(kind: str) -> ModuleType | None:
    """The module that has the registry of a kind, `msdk.<kind>`, of whomever the kind is; None where there is none."""
    if kind in KINDS:
        return importlib.import_module(f"msdk.{kind}")
    if importlib.util.find_spec(f"msdk.{kind}") is not None:
        return None  # another module of msdk, for which nobody wants the path scanned
    for origin in installed_parts()[0].get(GROUP, ()):
        if origin.name == kind and isinstance(brought_by(origin), Registry):
            return importlib.import_module(origin.target.partition(":")[0])
    return None


@functools.cache
def brought_by(origin: Origin) -> Registry[Any] | BrokenPlugin:
    """The registry of the kind that an entry point in the group `msdk.kinds` names, or why it cannot be had."""
    try:
        registry = _load(origin)
    except PluginError as error:
        return BrokenPlugin(origin.owner, str(error))
    if not isinstance(registry, Registry):
        return BrokenPlugin(origin.owner, f"the kind '{origin.name}' ({origin.target}) is no msdk.registry.Registry")
    if registry.kind != origin.name:
        reason = f"the kind '{origin.name}' ({origin.target}) calls itself '{registry.kind}': give both one name"
        return BrokenPlugin(origin.owner, reason)
    return registry


@functools.cache
def _own() -> dict[str, Registry[Any]]:
    return {kind: importlib.import_module(f"msdk.{kind}").registry for kind in KINDS}


def _brought() -> Iterator[tuple[str, Registry[Any] | BrokenPlugin]]:
    """Name and registry of each kind that an installed package brings.

    Raises:
        PluginError: MSDK_PLUGINS is "strict" and one cannot be imported.
    """
    for origin in installed_parts()[0].get(GROUP, ()):
        found = brought_by(origin)
        if isinstance(found, BrokenPlugin) and mode() == "strict":
            raise PluginError(f"MSDK_PLUGINS is strict, and this plugin is broken: {found.owner}: {found.reason}")
        yield origin.name, found


def _by_base() -> dict[str, Registry[Any]]:
    return {registry.record.base: registry for registry in registries().values()}


def _target_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _load(origin: Origin) -> object:
    reason = None if origin.owner == "msdk" else unsuited(origin.owner)
    if reason is not None:
        raise PluginError(
            f"'{origin.name}' of the installed package '{origin.owner}' {origin.version} cannot be used: {reason}. "
            f"Update '{origin.owner}', or install the msdk that it is for."
        )
    if origin.owner == "msdk":
        return load(origin.target)
    where = f"'{origin.name}' of the installed package '{origin.owner}' cannot be loaded from {origin.target}"
    fix = f"Update or uninstall '{origin.owner}'; everything else works without it"
    with contained(plugin_named(origin), lambda reason, _: f"{where}: {reason}", fix):
        return load(origin.target)


@functools.cache
def _own_version() -> str:
    from msdk import __version__

    return __version__
