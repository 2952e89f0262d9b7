"""YAML as text, as far as launching needs it: no value can be taken for more than a value."""

import json
import re
from collections.abc import Mapping, Sequence

PLAIN = re.compile("[A-Za-z/][A-Za-z0-9_./-]*")
"""Texts that stand for themselves without quotes, unless YAML 1.1 takes them for something else."""

WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

HIDDEN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may have as it is, and YAML may not."""


def yaml(data: object, indent: int = 0) -> str:
    """Mappings, sequences, texts, numbers and truth values in block style; a text of several lines as a literal block.

    JSON's quotes are YAML's double quotes (YAML 1.2, section 7.3.1, https://yaml.org/spec/1.2.2), but for characters
    that are not printable there, which are escaped.
    """
    space = "  " * indent
    if isinstance(data, Mapping):
        return "".join(f"{space}{_scalar(str(key))}:{_below(value, indent)}" for key, value in data.items())
    if isinstance(data, Sequence) and not isinstance(data, str):
        # The first key of a mapping stands beside the dash.
        return "".join(
            f"{space}- {yaml(each, indent + 1).lstrip(' ')}"
            if isinstance(each, Mapping)
            else f"{space}-{_below(each, indent)}"
            for each in data
        )
    return f"{space}{_scalar(data)}\n"


def _below(value: object, indent: int) -> str:
    if isinstance(value, str) and _is_block(value):
        space = "  " * (indent + 1)
        return " |\n" + "".join(f"{space}{line}\n" if line else "\n" for line in value.split("\n")[:-1])
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return "\n" + yaml(value, indent + 1)
    return f" {_scalar(value)}\n"


def _is_block(text: str) -> bool:
    """Whether a literal block gives back a text as it is."""
    lines = text.split("\n")
    return (
        len(lines) > 1
        and not lines[-1]
        and bool(lines[-2])
        and bool(lines[0])
        and not lines[0].startswith(" ")
        and all(line.isprintable() for line in lines)
    )


def _scalar(value: object) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
