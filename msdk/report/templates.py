"""The templates of pages, which lie beside this file: how they are read, and how all text in them is escaped."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from msdk.errors import printable


def templates() -> Environment:
    """What renders them: text is escaped, control characters are shown, and a name that is missing is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: printable(value, keep="\n\t") if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inline(png: bytes) -> str:
    """A picture as the source of an image, so that a page loads nothing from elsewhere."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
