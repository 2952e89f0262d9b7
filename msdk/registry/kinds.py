"""What tells one kind of part from another, as a record; and which kinds msdk has itself.

A kind is a folder: `base.py` has the class that all of its parts subclass, `__init__.py` its record and the registry of
its own parts. Everything else, listings, schema, laws, scaffolds and reference pages, reads the record. msdk's own
kinds are the folders of msdk with a `base.py`; an installed package brings one by an entry point in the group
`msdk.kinds`, from the kind's name to the registry.
"""

import functools
import importlib
from pathlib import Path
from typing import Any

import attrs
from attrs.validators import matches_re

GROUP = "kinds"
"""Of `msdk.kinds`, the group of entry points that bring kinds rather than parts."""

KINDS = tuple(sorted(base.parent.name for base in Path(__file__).parent.parent.glob("*/base.py")))
"""Every kind of part of msdk itself, as the packages, entry-point groups and the command line spell it."""

_TARGET = matches_re(r"[\w.]+:[\w.]+")


@attrs.frozen(kw_only=True)
class Kind:
    """A kind of part. Targets are `"module:name"`, so that none of them is imported before it is asked for.

    Args:
        name: In plural, as the entry-point group and the command line spell it.
        base: Target of the class that every part subclasses, in the module that defines it: fields of this type take
            a part of the kind, in recipes and inside of other parts.
        laws: Target of the tuple of laws `law(part, **options)` that every part keeps.
        template: Target of the class that `msdk plugin new` begins with. Its module, and those beside it that it
            imports and whose names begin with its own and an underscore, are copied into the new package.
        imports: The rooms of msdk, and single modules of other kinds, that msdk's own parts of the kind may import
            beside `registry`; see tests/test_imports.py.
        singular: One of them; the name without its last s where it is not given.
        law_options: What the scaffolded test tells the laws beyond the part, as Python writes keyword arguments.
        always: Names of parts that every run has, so that no recipe names them and no message proposes them.
    """

    name: str = attrs.field(validator=matches_re(r"[a-z][a-z_]*"))
    base: str = attrs.field(validator=_TARGET)
    laws: str = attrs.field(validator=_TARGET)
    template: str = attrs.field(validator=_TARGET)
    imports: tuple[str, ...] = ()
    singular: str = attrs.Factory(lambda kind: kind.name.removesuffix("s"), takes_self=True)
    law_options: str = ""
    always: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """One of them, in running text."""
        return self.singular.replace("_", " ")


def load(target: str) -> Any:
    """What a target names: imports its module."""
    module, _, attribute = target.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
