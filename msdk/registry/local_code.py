"""Python files that a recipe names by `use`: parts without a package.

They run as they are, with all that this process may do, so nothing runs before somebody has said that it may: a recipe
can come from a stranger.
"""

import hashlib
import importlib.util
import sys
import traceback
import weakref
from pathlib import Path

from msdk.errors import PluginError
from msdk.registry import registries
from msdk.registry.faults import PREFIX, contained

_allowed = False
_run: dict[str, str] = {}
"""Name of a module that has run -> SHA-256 of its file."""
_made: "weakref.WeakKeyDictionary[type, str]" = weakref.WeakKeyDictionary()
"""Class of such a module -> SHA-256 of the content that made it."""


def allow_code() -> None:
    """Lets recipes run the files that their `use` names, from now on in this process."""
    global _allowed
    _allowed = True


def run_code(path: Path, content: bytes) -> None:
    """Runs the content of a Python file, whose `@msdk.<kind>.add(name)` then register its parts; the same runs once.

    Args:
        path: Where it was read, for its name and for messages; the file itself is not looked at again.
        content: Its text.

    Raises:
        PluginError: Nobody has allowed it; it is no Python; it raises; or it registers nothing.
    """
    if not _allowed:
        raise PluginError(
            f"the recipe would run the code in {path}. Read it; if you trust it, add --allow-code to the command (in "
            "Python: msdk.allow_code())"
        )
    name, digest = PREFIX + path.stem, hashlib.sha256(content).hexdigest()
    if _run.get(name) == digest:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise PluginError(f"{path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # attrs and pickles of workers look it up there
    try:
        with contained(f"the file {path}", lambda reason, error: f"{_place(error, path)}: {reason}"):
            exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
        if not any(registry.added_by(name) for registry in registries().values()):
            raise PluginError(
                f'{path} registers no part: decorate a class with @msdk.encoders.add("my-name"), or with another kind'
            )
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    _run[name] = digest
    _made.update({each: digest for each in vars(module).values() if isinstance(each, type) and each.__module__ == name})


def digest_of(part: type) -> str | None:
    """SHA-256 of the content that made a class of a recipe's `use`, whatever its file holds by now; None of others."""
    return _made.get(part)


def _place(error: BaseException, path: Path) -> str:
    """The file, with the line of it that failed."""
    if isinstance(error, SyntaxError):
        return f"{path} line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f"{path} line {lines[-1]}" if lines else str(path)
