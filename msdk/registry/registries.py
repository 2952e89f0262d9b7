"""One registry per kind of part: names in, classes out, nothing imported before it is asked for.

A name has one of three owners: msdk itself (a lazy `"module:Class"` line in the package of its kind), an installed
distribution (an entry point in the group `msdk.<kind>`), or the running program (the `add` decorator). Listing names
imports none of them; a lookup imports only the part that it names. Two owners of one name are refused at the lookup,
and `"distribution:name"` picks one of them.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from msdk.errors import DuplicateNameError, PluginError, UnknownNameError, nearest
from msdk.registry.discovery import KINDS as KINDS
from msdk.registry.discovery import Origin as Origin
from msdk.registry.discovery import installed_parts, normalised, unsuited

T = TypeVar("T")


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

    def base(self) -> type[T]:
        """The class that every part subclasses."""
        module, _, cls = self._base.partition(":")
        return getattr(importlib.import_module(module), cls)

    def owners(self, name: str) -> list[str]:
        """Who owns a name, without importing anything."""
        return [origin.owner for origin in self._origins().get(name, [])]

    def added_by(self, module: str) -> list[str]:
        """The names that a module of the running program has added."""
        return [name for name, (origin, _) in self._added.items() if origin.owner == module]

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
            origins = [o for o in origins if normalised(o.owner) == normalised(owner)]
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
        base = self.base()
        if not (isinstance(part, type) and issubclass(part, base)):
            raise PluginError(
                f"the {self.singular} '{origin.name}' of '{origin.owner}' ({origin.target}) is not a subclass of "
                f"{base.__module__}.{base.__name__}, which every {self.singular} must be."
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


def _load(origin: Origin) -> object:
    module, _, attribute = origin.target.partition(":")
    reason = None if origin.owner == "msdk" else unsuited(origin.owner)
    if reason is not None:
        raise PluginError(
            f"'{origin.name}' of the installed package '{origin.owner}' {origin.version} cannot be used: {reason}. "
            f"Update '{origin.owner}', or install the msdk that it is for."
        )
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:
        if origin.owner == "msdk":
            raise
        raise PluginError(
            f"'{origin.name}' of the installed package '{origin.owner}' cannot be loaded from {origin.target}: "
            f"{type(error).__name__}: {error}. Update or uninstall '{origin.owner}'; everything else works without it."
        ) from error


@functools.cache
def _own_version() -> str:
    from msdk import __version__

    return __version__
