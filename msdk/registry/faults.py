"""Code of plugins at work: its import is contained, and its errors are told from ours.

What it prints while it is imported is no output of msdk, and neither exit nor hang is the end. A fault of a plugin is
neither a mistake of the user nor msdk's own: the command line gives it an exit code of its own, and says whose it is,
in which class and method, and where the trace lies.
"""

import contextlib
import io
import itertools
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import attrs

from msdk.errors import MsdkError, MsdkWarning, PluginFaultError, RecipeError, cut
from msdk.registry.discovery import Origin, scanned

LONG = 10
"""Seconds of import after which somebody who waits is told for what."""

PATIENCE = 120
"""Seconds after which an import counts as hanging."""

PREFIX = "msdk_local_"
"""Begins the names of the modules that the files of a recipe's `use` become."""


class _Ended(BaseException):
    """An import ended the process, or meant to; or did not end itself."""


@contextlib.contextmanager
def contained(who: str, told: Callable[[str, BaseException], str], fix: str = "") -> Generator[None]:
    """Imports a stranger's code: what it prints is no output of ours, and neither exit nor hang is the end.

    Args:
        who: Whose code it is, in words.
        told: Makes the message of a reason in words, and of the error that it stands for.
        fix: What the message ends with.

    Raises:
        PluginFaultError: It raised, ended the process, or took more than `PATIENCE` seconds.
    """
    heard = _Heard()
    stdout = io.TextIOWrapper(io.BufferedWriter(heard), "utf-8", "backslashreplace", line_buffering=True)
    try:
        with _stdout_to_stderr(), contextlib.redirect_stdout(stdout), _no_exit(), _no_hang(who):
            yield
    except (PluginFaultError, KeyboardInterrupt):
        raise
    except BaseException as error:
        reason = str(error) if isinstance(error, _Ended) else f"{type(error).__name__}: {error}"
        raise PluginFaultError(told(reason, error), who, fix) from error
    finally:
        if text := " ".join(heard.ended(stdout).split()):
            words = f"{who} prints when it is imported, which is kept from the output: {cut(text, 200)!r}"
            warnings.warn(words, MsdkWarning, stacklevel=2)


class _Heard(io.RawIOBase):
    """What stands for stdout during an import: it keeps what it is told, and tells stderr whatever comes later.

    Modules keep a `sys.stdout` that they find, as handlers of logging do, and may ask it for its `buffer`.
    """

    def __init__(self) -> None:
        self.kept: list[bytes] | None = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.kept is not None:
            self.kept.append(bytes(data))
        else:
            sys.stderr.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)

    def ended(self, stdout: io.TextIOWrapper) -> str:
        """What was printed until now."""
        with contextlib.suppress(ValueError):  # it was closed, or its buffer taken over
            stdout.flush()
        text, self.kept = b"".join(self.kept or ()).decode("utf-8", "backslashreplace"), None
        return text


@contextlib.contextmanager
def _stdout_to_stderr() -> Generator[None]:
    """What is written to the file descriptor of stdout, by a library in C for one, goes to stderr."""
    try:
        kept = os.dup(1)
    except OSError:  # there is none
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def _no_exit() -> Generator[None]:
    """`os._exit` raises, in this process and for the time being: modules may keep what they import of it."""
    ends, here, importing = os._exit, os.getpid(), True

    def refuse(status: int) -> NoReturn:
        if importing and os.getpid() == here:
            raise _Ended(f"it ends the process by os._exit({status})")
        ends(status)

    os._exit = refuse
    try:
        yield
    finally:
        os._exit, importing = ends, False


@contextlib.contextmanager
def _no_hang(who: str) -> Generator[None]:
    """Says for what somebody waits, and stops waiting in the end. Only the main thread can be stopped so."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    waited = 0

    def tell(signum: int, frame: FrameType | None) -> None:
        nonlocal waited
        waited += 1
        if waited * LONG >= PATIENCE:
            raise _Ended(f"it took more than {PATIENCE} s")
        if waited == 1:
            words = f"{who} takes more than {LONG} s to import; msdk waits for at most {PATIENCE} s"
            warnings.warn(words, MsdkWarning, stacklevel=2)

    before = signal.signal(signal.SIGALRM, tell)
    around = signal.setitimer(signal.ITIMER_REAL, LONG, LONG)  # of an import that imports this one
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *around)


@attrs.frozen
class Fault:
    """Who is to blame for an error, and where.

    Attributes:
        who: The plugin or the file, in words.
        error: Whose trace tells more.
        place: Class and method, file and line; empty where the code did not get so far.
    """

    who: str
    error: BaseException
    place: str = ""


def fault_in(error: BaseException) -> Fault | None:
    """The plugin that an error comes from; None for mistakes of the user and errors of msdk's own.

    The innermost frame in the code of a plugin is to blame, also where msdk or torch raised what it called for. An
    `MsdkError` that a plugin raises itself is told to the user in words, as a mistake.
    """
    if isinstance(error, PluginFaultError):
        return Fault(error.who, error)
    if isinstance(error, RecipeError):
        return next((found for each in error.problems if each.cause and (found := fault_in(each.cause))), None)
    if isinstance(error, MsdkError):
        frames = list(_frames(error.__traceback__))
        own = bool(frames) and _owner(frames[-1][0]) is not None
        cause = error.__cause__
        return None if own or cause is None or isinstance(cause, MsdkError) else fault_in(cause)
    for frame, line in reversed(list(_frames(error.__traceback__))):
        who = _owner(frame)
        if who is not None:
            code = frame.f_code
            return Fault(who, error, f"{code.co_qualname} ({Path(code.co_filename).name} line {line})")
    return None


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    return traceback.walk_tb(trace)


def _owner(frame: FrameType) -> str | None:
    """Whose code a frame runs, in words; None where it is no plugin's."""
    module: Any = frame.f_globals.get("__name__") or ""
    if module.startswith(PREFIX):
        return f"the file {frame.f_code.co_filename}"
    return plugin_of(module)


def plugin_of(module: str) -> str | None:
    """The installed plugin that a module belongs to, in words; None where it is of none."""
    shared: dict[str, int] = {}
    own = module.split(".")
    for origin in (each for origins in scanned()[0].values() for each in origins):
        theirs = origin.target.partition(":")[0].split(".")
        depth = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(own, theirs, strict=False))))
        if depth:
            who = plugin_named(origin)
            shared[who] = max(shared.get(who, 0), depth)
    return max(shared, key=lambda who: shared[who]) if shared else None


def whose(cls: type) -> str | None:
    """The plugin, the file of a recipe's `use` or the program that a class is of, in words; None for msdk's own."""
    module = cls.__module__
    if module.partition(".")[0] in ("msdk", "builtins"):
        return None
    if module.startswith(PREFIX):
        return f"the file {getattr(sys.modules.get(module), '__file__', module)}"
    return plugin_of(module) or f"the module {module}"


def plugin_named(origin: Origin) -> str:
    """An installed plugin, in words."""
    return f"the plugin '{origin.owner}' {origin.version}".rstrip()


def written_trace(error: BaseException) -> Path | None:
    """Writes the trace of an error, and what ran, to a file of its own; None where none can be written."""
    from msdk import __version__

    lines = [f"msdk {__version__}, Python {sys.version.split()[0]}, {sys.platform}", f"command: {sys.argv}", ""]
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="msdk-fault-", suffix=".txt", delete=False
        ) as file:
            file.write("\n".join(lines) + "\n" + "".join(traceback.format_exception(error)))
    except OSError:
        return None
    return Path(file.name)
