"""`python -m msdk`, which torchrun needs."""

from msdk.cli import main

main()
