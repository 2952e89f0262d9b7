"""What msdk raises for a mistake of its user, and the words that help to mend it.

Every error says what was given, where, what is allowed, and the nearest name. All of them are `ValueError`s below one
base class, so that a program can catch `MsdkError` alone; the command line turns them into exit code 2.
"""

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""What steers a terminal, turns the direction of text round, or cannot be encoded."""


def printable(text: str, keep: str = "") -> str:
    """Text of a stranger (a title, a file's name, a message) as it may be shown anywhere: control characters escaped.

    Args:
        text: What is to be shown.
        keep: Control characters that may stay, such as line feeds of text that has lines.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)


def cut(text: str, most: int) -> str:
    """The text; where it has more than `most` characters, its ends with dots between them."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


class _Quoting(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxstring, self.maxother = 4, 8, 16, 16, 200, 200

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write numbers of thousands of digits, and nobody reads them.
        return repr(x) if x.bit_length() <= 128 else f"a number of {x.bit_length():,} bits"


def quoted(value: object) -> str:
    """A value as Python writes it, cut to a length that can be read, for `got ...` in messages."""
    return cut(_Quoting().repr(value), 500)


class MsdkError(ValueError):
    """Base of all errors that a user of msdk can cause and mend. Its text is printable, whatever it was made of."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n\t")


class UnknownNameError(MsdkError):
    """A name that no registry entry has."""


class DuplicateNameError(MsdkError):
    """One name with two owners, where only one can be meant."""


class PluginError(MsdkError):
    """A part of an installed package that cannot be loaded, or is not what its kind needs.

    Attributes:
        what: What is wrong, without the `fix` that the message ends with.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what
        super().__init__(f"{what}. {fix}." if fix else what)


class PluginFaultError(PluginError):
    """Code of a plugin, or of a file in a recipe's `use`, that fails: its own fault, not that of whoever uses it.

    Attributes:
        who: The plugin or the file, in words.
    """

    def __init__(self, what: str, who: str = "", fix: str = "") -> None:
        super().__init__(what, fix)
        self.who = who


class MsdkWarning(UserWarning):
    """What a user should know and need not mend; the command line tells it on stderr."""


class PartError(MsdkError):
    """Parts that cannot be joined: features that do not fit, sizes that cannot be halved."""


class PartFaultError(PluginFaultError, PartError):
    """A part of a plugin that is not what it declares."""


class DataError(MsdkError):
    """Images that are missing, empty, broken or not what the recipe says."""


class RunError(MsdkError):
    """A run folder or a file of weights that exists, is missing or damaged, or belongs to another recipe."""


class FullError(RunError):
    """A disk that has no room left."""


class RunFaultError(PluginFaultError, RunError):
    """A part of a plugin that spoils a run."""


class ElsewhereError(RunError):
    """What went wrong in another process of a run, which tells it there; this one need only end."""


class GoneError(RunError):
    """Another process of a run ended, so that this one cannot go on."""


class TargetError(MsdkError):
    """A budget to solve for that cannot be read, or that no widths meet."""


class PlotError(MsdkError):
    """A plot that cannot be drawn, because matplotlib is not installed."""


MOST_PROBLEMS = 100
"""A message tells this many; an attribute of the error has them all."""


class Problem:
    """One mistake in a recipe: where it stands and what is wrong; and the error, where it may be a plugin's fault."""

    __slots__ = ("cause", "message", "path", "source")

    def __init__(self, path: str, message: str, source: str = "", cause: BaseException | None = None) -> None:
        self.path, self.message, self.source, self.cause = path, message, source, cause

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
        count = f"{len(self.problems):,} problem" + ("s" if len(self.problems) > 1 else "")
        told = self.problems[:MOST_PROBLEMS]
        paths = [printable(cut(problem.path, 100)) for problem in told]
        width = max(map(len, paths), default=0)
        changed = all(problem.source.startswith("--set") for problem in self.problems)
        lines = [f"{printable(self.source)}{', as --set changes it,' if changed else ''} has {count}"]
        for path, problem in zip(paths, told, strict=True):
            elsewhere = f"  [{printable(cut(problem.source, 500))}]" if problem.source not in ("", self.source) else ""
            lines.append(f"  {path.ljust(width)}  {cut(problem.message, 5000)}{elsewhere}")
        if len(self.problems) > len(told):
            lines.append(f"  and {len(self.problems) - len(told):,} more")
        return "\n".join(lines)


def nearest(name: str, known: Iterable[str]) -> str:
    """Says which of the known names was probably meant: `" Did you mean 'heun'?"`, or nothing."""
    match = difflib.get_close_matches(name[:100], list(known), n=1, cutoff=0.6)
    return f" Did you mean '{match[0]}'?" if match else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Words for a name that does not exist: the nearest one, and all that do."""
    names = sorted(known)
    return f"no {what} named '{cut(name, 200)}'.{nearest(name, names)} Known: {', '.join(names) or 'none'}."
