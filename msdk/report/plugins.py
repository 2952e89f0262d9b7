"""Parts of every kind, and installed plugins, as tables."""

import itertools
from collections.abc import Sequence

import attrs

from msdk.report.figures import Json
from msdk.report.grid import Grid


def parts_grids(parts: Sequence[Json]) -> list[Grid]:
    """A table of each kind, of the objects of `msdk list --json`."""
    grids = [
        Grid(
            kind,
            ("name", "what it is", "owner"),
            tuple((part["name"], part["description"], part["owner"]) for part in of_kind),
            numbers=3,
        )
        for kind, of_kind in itertools.groupby(parts, lambda part: str(part["kind"]))
    ]
    return [*grids[:-1], attrs.evolve(grids[-1], notes=("msdk show KIND NAME tells all of one.",))] if grids else []


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
