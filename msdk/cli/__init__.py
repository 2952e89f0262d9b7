"""The command line. Each command is a thin line to one verb; torch is imported only by those that compute."""

from msdk.cli.entry import main as main
