"""Running commands as a user does."""

import os
import subprocess
import sys

import pytest

from msdk.cli import main


def command(*arguments, check=0):
    """Runs `python -m msdk` as a user does; returns (stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "msdk", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "160"},
    )
    assert done.returncode == check, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def quick(capsys, monkeypatch, *arguments, columns=160):
    """Runs a command inside this process, in a terminal of some width or in a pipe; returns (code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["msdk", *map(str, arguments)])
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def torchrun(*arguments):
    """Runs `python -m msdk` in two processes of torchrun; returns what it left."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "msdk"]
    done = subprocess.run([*launch, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done
