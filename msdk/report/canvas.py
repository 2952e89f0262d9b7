"""What plots share: how they are drawn and saved, and their colours.

matplotlib draws them, which only the extra `msdk-diffusion[plot]` installs. Figures are made without pyplot, so that
nothing global is changed and no window opens.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from msdk.errors import PlotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAGE_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Okabe and Ito's, as on the page."""


def drawn(size: tuple[float, float], kind: str, draw: "Callable[[Figure], None]") -> bytes:
    """The file of a figure, "png" or "svg"; the same drawing gives the same bytes.

    Args:
        size: Inches.
        kind: The file's format.
        draw: Fills the empty figure.

    Raises:
        PlotError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError('plots need matplotlib, which is not installed: pip install "msdk-diffusion[plot]"') from error
    with mpl.rc_context({"svg.hashsalt": "msdk", "svg.fonttype": "none", "font.size": 9.0}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {})
    return content.getvalue()


def plain(axes: "Axes") -> None:
    """Leaves out the frame that says nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def logarithmic(axes: "Axes") -> None:
    """A logarithmic axis upwards with a few plain numbers, and lines behind it."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
