"""What `msdk show` and `msdk list` say of a part: where it is from, what it does, and its fields.

`msdk.recipe.describing` says the same of the tables of a recipe.
"""

import ast
import importlib.machinery
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.errors import UnknownNameError
from msdk.registry import Origin, registry_of, registry_of_part
from msdk.registry.faults import whose


@attrs.frozen
class Field:
    """One field of a part: what a recipe may set.

    Attributes:
        name: Its key in a recipe.
        type: Its type, as Python writes it.
        default: Its default as plain data; None where it is `required`.
        required: Whether a recipe must set it.
        help: Its line of the docstring.
    """

    name: str
    type: str
    default: Any
    required: bool
    help: str


@attrs.frozen
class Description:
    """A registered part in words."""

    kind: str
    singular: str
    name: str
    owner: str
    version: str
    file: str
    target: str
    description: str
    fields: tuple[Field, ...]

    def as_json(self) -> Mapping[str, Any]:
        """The object of `msdk show --json`."""
        data = attrs.asdict(self)
        del data["singular"]
        return data


def describe(kind: str, name: str) -> Description:
    """Imports one part and reads what it says of itself.

    Raises:
        UnknownNameError: There is no such kind or name.
        PluginError: Its package cannot be imported.
    """
    registry = registry_of(kind)
    part: Any = registry.get(name)
    origin = registry.origin(name)
    return Description(
        kind=registry.kind,
        singular=registry.singular,
        name=name,
        owner=origin.owner,
        version=origin.version,
        file=inspect.getsourcefile(part) or "",
        target=origin.target,
        description=purpose(part),
        fields=fields_of(part),
    )


def purpose(cls: type) -> str:
    """A class's docstring without its sections."""
    return (inspect.getdoc(cls) or "").split("\n\nArgs:")[0].split("\n\nAttributes:")[0]


def fields_of(cls: type) -> tuple[Field, ...]:
    """What a recipe may set in a class."""
    helps = field_help(cls)
    return tuple(
        Field(
            name=field.name.rstrip("_"),
            type=_type_name(field.type),
            default=plain(field.default),
            required=field.default is attrs.NOTHING,
            help=helps.get(field.name, ""),
        )
        for field in (attrs.fields(cls) if attrs.has(cls) else ())
    )


def summary(origin: Origin) -> str:
    """The first sentence of a part's docstring, read from its source without importing it; empty where it has none."""
    module, _, name = origin.target.partition(":")
    for _ in range(3):  # a target may name a re-export
        if module in sys.modules:
            return _sentence(getattr(getattr(sys.modules[module], name, None), "__doc__", None))
        for node in _parsed(module):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return _sentence(ast.get_docstring(node))
            found = [each.name for each in getattr(node, "names", ()) if name == (each.asname or each.name)]
            if isinstance(node, ast.ImportFrom) and found and node.module and not node.level:
                module, name = node.module, found[0]
                break
        else:
            return ""
    return ""


def _sentence(document: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join(inspect.cleandoc(document or "").partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def _parsed(module: str) -> Sequence[ast.stmt]:
    """The statements of a module that is not imported, nor the packages that it is in."""
    try:
        top, *rest = module.split(".")
        spec = importlib.util.find_spec(top)
        for name in rest:
            places = None if spec is None else spec.submodule_search_locations
            top = f"{top}.{name}"
            spec = None if places is None else importlib.machinery.PathFinder.find_spec(top, list(places))
        if spec is None or not spec.has_location or spec.origin is None:
            return ()
        return ast.parse(Path(spec.origin).read_bytes()).body
    except (ImportError, OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()  # `msdk plugin doctor` says what is wrong with it


def in_words(part: object) -> str:
    """A part by kind and name, and whose it is: "the sampler 'euler' of the plugin 'my-lab' 1.0"."""
    cls = type(part)
    registry, who = registry_of_part(cls), whose(cls)
    try:
        name = "the part" if registry is None else f"the {registry.record.words} '{registry.name_of(cls)}'"
    except UnknownNameError:
        name = cls.__name__
    return f"{name} of {who}" if who else name


def field_help(part: type) -> dict[str, str]:
    """Field name -> meaning, from the Args sections of the class and of the classes whose fields it inherits."""
    helps: dict[str, str] = {}
    for base in reversed(part.__mro__[:-1]):
        helps |= _argument_help(inspect.cleandoc(base.__doc__ or ""))
    return helps


def _argument_help(document: str) -> dict[str, str]:
    helps: dict[str, str] = {}
    name = ""
    for line in document.partition("Args:\n")[2].splitlines():
        head, colon, rest = line.strip().partition(": ")
        if colon and head.isidentifier() and line.startswith("    ") and not line.startswith("     "):
            name = head
            helps[name] = rest
        elif name and line.strip():
            helps[name] += " " + line.strip()
        elif not line.strip():
            break
    return helps


def _type_name(kind: object) -> str:
    if isinstance(kind, type) and not hasattr(kind, "__args__"):
        return kind.__name__
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(kind))  # without the modules of its classes


def plain(default: Any) -> Any:
    """A field's default as plain data; None where it has none.

    A part that is a default is told by its name, one with settings of its own in words, and a table that is by `{}`.
    """
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # pyright: ignore[reportArgumentType]  a class at run time
        made = default.factory() if not default.takes_self else None
        if not attrs.has(type(made)):
            return plain(made)
        registry = registry_of_part(type(made))
        if made != type(made)():
            return str(made)
        return {} if registry is None else registry.name_of(type(made))
    return list(default) if isinstance(default, tuple) else default


def kind_page(kind: str) -> str:
    """A reference page of a kind of part, in Markdown: what every part must have, what it is given, and its own parts.

    Raises:
        UnknownNameError: There is no such kind.
    """
    registry = registry_of(kind)
    base = registry.base()
    title = registry.kind.replace("_", " ")
    lines = [f"# {title[0].upper()}{title[1:]}", "", _reflowed(inspect.getdoc(inspect.getmodule(base)) or ""), ""]
    # The base first, then what else its module has for those who write parts: `FeatureInfo`, `Features`.
    beside = [each for each in vars(sys.modules[base.__module__]).values() if isinstance(each, type)]
    own = [each for each in beside if each.__module__ == base.__module__ and not each.__name__.startswith("_")]
    for cls in dict.fromkeys([base, *own]):
        lines += [f"## `{cls.__module__}.{cls.__name__}`", "", _reflowed(inspect.getdoc(cls) or ""), "", *_methods(cls)]
    lines += ["## Parts", ""]
    for name in registry.own_names():
        lines += _part_section(describe(registry.kind, name))
    return "\n".join(lines).rstrip() + "\n"


def _methods(cls: type) -> list[str]:
    lines: list[str] = []
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        if function.__doc__ is None and getattr(cls.__base__, name, None) is not None:
            continue  # what the base says of it
        must = " (every part has it)" if getattr(function, "__isabstractmethod__", False) else ""
        signature = "" if isinstance(member, property) else _signature(function)
        lines += [f"### `{name}{signature}`{must}", "", _reflowed(inspect.getdoc(function) or ""), ""]
    return lines


def _signature(function: Any) -> str:
    names = [str(each).split(":")[0] for each in inspect.signature(function).parameters.values()]
    return f"({', '.join(each for each in names if each != 'self')})"


def _part_section(part: Description) -> list[str]:
    return [f"### `{part.name}`", "", _reflowed(part.description), "", *fields_table(part.fields)]


def fields_table(fields: Sequence[Field]) -> list[str]:
    """The lines of a Markdown table of fields, and an empty one behind it; none where there are no fields."""
    lines: list[str] = []
    if fields:
        lines += ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
        for field in fields:
            default = "required" if field.required else f"`{json.dumps(field.default)}`"
            cells = (f"`{field.name}`", f"`{field.type}`", default, field.help)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return lines


def _reflowed(text: str) -> str:
    """A docstring as Markdown: sections as bold words, their entries as lists."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.rstrip(":") in ("Args", "Returns", "Raises", "Attributes", "Source") and line.endswith(":"):
            lines += [f"**{line.rstrip(':')}**", ""]
        elif line.startswith("    ") and not line.startswith("     ") and line.strip():
            lines.append(f"- {line.strip()}")
        else:
            lines.append(line.strip() if line.startswith("     ") else line)
    return "\n".join(lines)
