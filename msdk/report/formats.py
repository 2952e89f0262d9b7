"""Budgets as a file, by its suffix."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdk.errors import MsdkError, nearest
from msdk.report.budgets import budget_grids
from msdk.report.figures import Json
from msdk.report.rows import budgets_csv

if TYPE_CHECKING:
    from msdk.budgeting import Budget
    from msdk.budgeting.ledger import Ledger

SUFFIXES = {
    ".csv": "one row per recipe and stage",
    ".html": "one page for a browser, which loads nothing from elsewhere",
    ".json": "the list that --json prints",
    ".md": "Markdown tables",
    ".png": "bars by stage and the steps of the sampler, as an image",
    ".svg": "the same as vectors",
}
"""What budgets can be written as."""


def rendered(
    suffix: str,
    budgets: "Sequence[Budget]",
    *,
    diffs: Sequence[Sequence[Json]] = (),
    ledger: "Ledger | None" = None,
) -> bytes:
    """The content of a file with budgets; writing it, whole or not at all, is up to the caller.

    Args:
        suffix: `path.suffix`: .csv, .html, .json, .md, .png or .svg, in small or capital letters.
        budgets: At least one; ratios are to the first.
        diffs: How each budget's recipe but the first's differs from the first's: objects of `msdk recipe diff --json`.
            Only a page shows them.
        ledger: Of a run of the last budget's recipe. Only a page shows it.

    Raises:
        MsdkError: An unknown suffix, or a plot without matplotlib.
    """
    kind = suffix.lower()
    if kind in (".png", ".svg"):
        from msdk.report.plots import budgets_plot

        return budgets_plot(budgets, kind.removeprefix("."))
    if kind == ".html":
        from msdk.report.page import budgets_page

        return budgets_page(budgets, diffs=diffs, ledger=ledger).encode()
    if kind == ".csv":
        return budgets_csv(budgets).encode()
    if kind == ".json":
        return (json.dumps([one.as_json() for one in budgets], indent=2) + "\n").encode()
    if kind == ".md":
        return "\n".join(grid.markdown() for grid in budget_grids(budgets)).encode()
    raise _unknown(suffix)


def check_suffix(path: Path) -> None:
    """Raises `MsdkError` for a file that budgets cannot be written as."""
    if path.suffix.lower() not in SUFFIXES:
        raise _unknown(path.suffix)


def _unknown(suffix: str) -> MsdkError:
    known = ", ".join(f"{name} ({what})" for name, what in SUFFIXES.items())
    return MsdkError(
        f"budgets cannot be written as '{suffix}' files.{nearest(suffix.lower(), SUFFIXES)} Known: {known}."
    )
