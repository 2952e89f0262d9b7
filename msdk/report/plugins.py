"""Installed plugins as a table."""

from collections.abc import Sequence

from msdk.report.figures import Json
from msdk.report.grid import Grid


def plugins_grid(plugins: Sequence[Json]) -> Grid:
    """A row per plugin; what is wrong, and the cure, below."""
    rows = tuple(
        (
            plugin["name"],
            plugin["version"] or "?",
            plugin["requires"] or "any",
            ", ".join(f"{part['kind']}: {part['name']}" for part in plugin["parts"]) or "none",
            "-" if plugin["seconds"] is None else f"{plugin['seconds']:.2f}",
            f"{len(plugin['findings'])} wrong" if plugin["findings"] else "good",
        )
        for plugin in plugins
    )
    notes = [
        f"{plugin['name']}: {finding['what'].rstrip('.')}. Fix: {finding['fix']}."
        for plugin in plugins
        for finding in plugin["findings"]
    ]
    title = "Plugins" if plugins else "No plugins are installed"
    return Grid(title, ("plugin", "version", "for msdk", "parts", "import s", "state"), rows, tuple(notes), numbers=4)
