"""The command line. Each command is a thin line to one verb; torch is imported only by those that compute."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line, see `msdk.cli.entry`, which is loaded here, so that Ctrl-C is told from the start."""
    try:
        from msdk.cli.entry import main as run
    except KeyboardInterrupt:
        from msdk.cli import display

        display.warn("interrupted: nothing was written, and the same command begins anew")
        sys.exit(130)
    run()
