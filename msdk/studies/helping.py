"""Other processes on this machine that make trials of the same study, for as long as this one does."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence

from msdk.threads import VARIABLE, cores

FLAG = "--helps"
"""Option of `msdk study` and `msdk advise`, which tell nobody of it: a process with it makes trials, says on stdout how
far it is, and shows nothing."""

PATIENCE = 120.0
"""Seconds that a process has to save what it is at."""


@contextlib.contextmanager
def helped(count: int, words: Sequence[str], told: Callable[[str, int, int], None]) -> Generator[None]:
    """Has so many other processes run a command of msdk while a block runs; then they save and end.

    Cores are shared out, unless the user has said how many threads there are. A process whose reader has gone ends.

    Args:
        count: How many.
        words: The command.
        told: Told (what, how much is done, all of it), from threads.
    """
    before = os.environ.get(VARIABLE)
    if count and before is None and "OMP_NUM_THREADS" not in os.environ:
        os.environ[VARIABLE] = str(max(cores() // (count + 1), 1))
    command = [sys.executable, "-m", "msdk", *words, FLAG]
    others = [
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # why a trial failed is beside its run folder
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            text=True,
        )
        for _ in range(count)
    ]
    readers = [threading.Thread(target=_listen, args=(each, told), daemon=True) for each in others]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        for each in others:
            each.terminate()
        for each, reader in zip(others, readers, strict=True):
            try:
                each.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                each.kill()
            reader.join(1.0)
        if before is None:
            os.environ.pop(VARIABLE, None)


def _listen(process: "subprocess.Popen[str]", told: Callable[[str, int, int], None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            what, done, total = json.loads(line)
            told(str(what), int(done), int(total))
