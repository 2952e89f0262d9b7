"""Clusterings as tables."""

from msdk.report.figures import Json, general
from msdk.report.grid import Grid


def clusters_grid(clusters: Json) -> Grid:
    """Edges by strategy."""
    rows = tuple(
        (
            one["name"],
            " / ".join(f"{edge:.4f}" for edge in one["edges_t"]),
            " / ".join(f"{edge:.4f}" for edge in one["edges_ratio"]),
            f"{one['seconds']:.1f}",
        )
        for one in clusters["strategies"]
    )
    data = clusters["data"]
    images = f", {data['images']:,} images" if "images" in data else ""
    title = f"Stage edges under {clusters['schedule']}; data {data['name']}{images}; seed {clusters['seed']}"
    notes = tuple(
        f"{one['name']}: {', '.join(f'{key} = {general(value)}' for key, value in one['settings'].items())}."
        for one in clusters["strategies"]
    )
    return Grid(title, ("strategy", "edges t", "edges ratio", "seconds"), rows, notes)
