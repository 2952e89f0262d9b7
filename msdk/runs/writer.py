"""One writer at a time: who writes a run or samples holds a lock beside them. Imports no torch."""

import contextlib
import json
import os
import socket
from collections.abc import Generator
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from msdk.errors import RunError
from msdk.runs.files import not_written, sweep

try:
    import fcntl
except ImportError:  # Windows has another kind of lock; there nobody is kept out
    fcntl = None


_HELD: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())
"""What this thread holds: who writes a folder as a whole may call what writes a part of it."""


@contextlib.contextmanager
def one_writer(path: Path) -> Generator[None]:
    """Keeps other processes from writing a file or folder; what killed ones left of writing it is removed.

    The lock is a file `.NAME.writer` beside it, with process and host for the messages. The system lets go of it when
    its process ends, however that ends, so a file that was left behind is taken over.

    Raises:
        RunError: Another process writes there; the message says which.
    """
    path = path.resolve()
    if path in _HELD.get():
        yield
        return
    lock = path.with_name(f".{path.name}.writer")
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(lock)
    except OSError as error:
        raise not_written(path, error) from error
    if file is None:
        raise RunError(f"{path} is being written by {_owner(lock)}: wait until that ends, or choose another --out")
    with file:
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        sweep(path)
        held = _HELD.set(_HELD.get() | {path})
        try:
            yield
        except BaseException:  # Ctrl-C too may come between making a file and giving it its name
            sweep(path)
            raise
        finally:
            _HELD.reset(held)
            with contextlib.suppress(OSError):
                lock.unlink()


def was_killed(path: Path) -> bool:
    """Whether a process was killed that wrote there, or one writes there now."""
    path = path.resolve()
    return path.with_name(f".{path.name}.writer").is_file()


def written_by(path: Path) -> str:
    """The process that writes a file or folder now, in words; empty where none does."""
    path = path.resolve()
    lock = path.with_name(f".{path.name}.writer")
    if path in _HELD.get() or fcntl is None or not lock.is_file():
        return ""
    try:
        with lock.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(lock)
    except OSError:
        return ""
    return ""


def tidy(path: Path) -> None:
    """Removes what killed processes left of writing a file or folder, where nobody writes there now."""
    if was_killed(path):
        with contextlib.suppress(RunError), one_writer(path):
            pass


def _locked(lock: Path) -> IO[str] | None:
    """The file of the lock, open and held; None where another process holds it."""
    while True:
        file = lock.open("a", encoding="utf-8")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return None
        # Its last holder may have removed the file between opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if lock.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()


def _owner(lock: Path) -> str:
    try:
        found = json.loads(lock.read_text(encoding="utf-8"))
        return f"process {int(found['pid'])} on {str(found['host'])[:60]}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
