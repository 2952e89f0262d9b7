"""What clustering strategies found, and the files that keep it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from msdk.clusterings.base import Interval
from msdk.errors import PlotError, RunError
from msdk.partition import Partition
from msdk.recipe.results import ABSENT, parsed, to_json
from msdk.report import clusters_grid, clusters_plot
from msdk.runs.files import sweep, write_bytes, write_json, write_text
from msdk.runs.writer import one_writer, tidy, was_killed


@attrs.frozen
class Strategy:
    """What one strategy found; see `msdk.clusterings.base.Found`.

    Attributes:
        source: Where the strategy is from, as its part says.
        images_by_stage: Share of the training images that `training.noise` draws in each stage; none where that cannot
            be said.
        calls_by_stage: Network calls of the recipe's sampler in each stage, likewise.
    """

    name: str
    edges_t: tuple[float, ...]
    edges_ratio: tuple[float, ...]
    intervals_t: tuple[Interval, ...] | None
    settings: Mapping[str, Any]
    seconds: float
    curves: Mapping[str, list[float]] = attrs.field(repr=lambda curves: f"<{', '.join(curves)}>")
    matrices: Mapping[str, list[list[float]]] = attrs.field(repr=lambda matrices: f"<{', '.join(matrices)}>")
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    source: str = ""
    images_by_stage: tuple[float, ...] = ()
    calls_by_stage: tuple[int, ...] = ()
    cached: bool = attrs.field(default=False, eq=False, metadata=ABSENT)
    """Whether it was found before."""


@attrs.frozen
class Clusters:
    """What `msdk cluster` found: one strategy, or several to compare.

    Attributes:
        schedule: Name of the schedule whose time was cut.
        schedule_settings: Its fields.
        data: The data set, with the number of its images and their hash where a strategy looked at them.
        seed: Of everything drawn.
        strategies: What each found.
        skipped: Name -> why a strategy that was to be compared did not run.
        versions: Of msdk and torch.
        span_t: First and last time of the schedule; None in files of older versions.
    """

    schedule: str
    schedule_settings: Mapping[str, Any]
    data: Mapping[str, Any]
    seed: int
    strategies: tuple[Strategy, ...]
    skipped: Mapping[str, str]
    versions: Mapping[str, str]
    span_t: Interval | None = None

    def __repr__(self) -> str:
        return clusters_grid(self).brief()

    def _repr_html_(self) -> str:
        return clusters_grid(self).html()

    def partition(self) -> Partition:
        """The stages of the only strategy."""
        (strategy,) = self.strategies
        return Partition(strategy.edges_ratio)

    def warnings(self) -> Iterator[tuple[str, str]]:
        """(Strategy, why what it found may not be what is wanted)."""
        for strategy in self.strategies:
            for warning in strategy.warnings:
                yield strategy.name, warning

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk cluster --json` and of clustering.json (docs/contracts.md)."""
        return to_json(self)


def clusters_of(content: bytes, path: Path) -> Clusters:
    """The clustering that a file of this content keeps.

    Raises:
        RunError: It is something else; the message names the file.
    """
    return parsed(content, path, Clusters, "a clustering, as `msdk cluster` writes it")


def write_clusters(path: Path, clusters: Clusters, *, force: bool = False) -> Path | None:
    """Keeps a clustering as a JSON file that `stages.from` can name, with a plot beside it.

    Returns:
        The plot's path; None where matplotlib is not installed.

    Raises:
        RunError: One of the files exists and `force` is false, or it cannot be written.
    """
    plot = path.with_suffix(".png")
    refuse_artefact(path, force=force)
    with one_writer(path):
        sweep(plot)
        alone = not plot.exists() and not path.exists()
        try:
            drawn = _drawn(plot, clusters)
            write_json(path, clusters.as_json())  # last: where it is, all is there
        except BaseException:
            if alone and not path.exists():
                plot.unlink(missing_ok=True)
            raise
    return plot if drawn else None


def _drawn(plot: Path, clusters: Clusters) -> bool:
    """Writes the plot, where matplotlib is installed."""
    try:
        write_bytes(plot, clusters_plot(clusters))
    except PlotError:
        return False
    return True


def kept_clusters(run: Path, clusters: Clusters | None) -> None:
    """Keeps what a clustering found, if one ran, in a run folder."""
    if clusters is not None:
        write_clusters(run / KEPT, clusters)


def clusters_in(run: Path) -> Clusters | None:
    """What a clustering found when a run began; None where none ran, or what was kept of it cannot be read."""
    try:
        return clusters_of((run / KEPT).read_bytes(), run / KEPT)
    except (OSError, RunError):
        return None


KEPT = "clustering.json"


def refuse_artefact(path: Path, *, force: bool) -> None:
    """Whether an artefact may be written there.

    Raises:
        RunError: It, or its plot, exists and `force` is false; or its name leaves none for the plot.
    """
    plot = path.with_suffix(".png")
    if plot == path:
        raise RunError(f"{path} is to be a JSON file, with a plot of that name beside it: choose another --out")
    half_done = was_killed(path) and not path.exists()
    for each in (path, plot):
        if each.exists() and not force and not half_done:
            tidy(path)
            raise RunError(f"{each} exists: replace it with --force, or choose another --out")


def write_edges(path: Path, clusters: Clusters) -> None:
    """Writes the edges found into a recipe file, which keeps its comments and order.

    Raises:
        RunError: The file cannot be read or written.
    """
    import tomlkit

    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    stages = tomlkit.table()
    stages.add("edges_ratio", list(clusters.partition().edges))
    stages["edges_ratio"].comment(
        f"found by {clusters.strategies[0].name}, t = {_short(clusters.strategies[0].edges_t)}"
    )
    document["stages"] = stages
    write_text(path, tomlkit.dumps(document))


def _short(edges: tuple[float, ...]) -> str:
    return ", ".join(f"{edge:.4g}" for edge in edges)
