"""What msdk raises for a mistake of its user, and the words that help to mend it.

Every error says what was given, where, what is allowed, and the nearest name. All of them are `ValueError`s below one
base class, so that a program can catch `MsdkError` alone; the command line turns them into exit code 2.
"""

import difflib
from collections.abc import Iterable, Sequence


class MsdkError(ValueError):
    """Base of all errors that a user of msdk can cause and mend."""


class UnknownNameError(MsdkError):
    """A name that no registry entry has."""


class DuplicateNameError(MsdkError):
    """One name with two owners, where only one can be meant."""


class PluginError(MsdkError):
    """A part of an installed package that cannot be loaded, or is not what its kind needs."""


class PartError(MsdkError):
    """Parts that cannot be joined: features that do not fit, sizes that cannot be halved."""


class DataError(MsdkError):
    """Images that are missing, empty, broken or not what the recipe says."""


class RunError(MsdkError):
    """A run folder or a file of weights that exists, is missing or damaged, or belongs to another recipe."""


class TargetError(MsdkError):
    """A budget to solve for that cannot be read, or that no widths meet."""


class PlotError(MsdkError):
    """A plot that cannot be drawn, because matplotlib is not installed."""


class Problem:
    """One mistake in a recipe: where it stands and what is wrong."""

    __slots__ = ("message", "path", "source")

    def __init__(self, path: str, message: str, source: str = "") -> None:
        self.path, self.message, self.source = path, message, source

    def __repr__(self) -> str:
        return f"Problem({self.path!r}, {self.message!r}, {self.source!r})"


class RecipeError(MsdkError):
    """All mistakes of one recipe at once.

    Attributes:
        problems: One `Problem` per mistake; `source` is the file (or `--set`) that the value came from.
    """

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source, self.problems = source, tuple(problems)
        super().__init__(self._text())

    def _text(self) -> str:
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) > 1 else "")
        width = max((len(p.path) for p in self.problems), default=0)
        lines = [f"{self.source} has {count}"]
        for problem in self.problems:
            elsewhere = f"  [{problem.source}]" if problem.source not in ("", self.source) else ""
            lines.append(f"  {problem.path.ljust(width)}  {problem.message}{elsewhere}")
        return "\n".join(lines)


def nearest(name: str, known: Iterable[str]) -> str:
    """Says which of the known names was probably meant: `" Did you mean 'heun'?"`, or nothing."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{match[0]}'?" if match else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Words for a name that does not exist: the nearest one, and all that do."""
    names = sorted(known)
    return f"no {what} named '{name}'.{nearest(name, names)} Known: {', '.join(names) or 'none'}."
