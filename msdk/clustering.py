"""Runs clustering strategies on a recipe's data, and keeps what they found."""

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from msdk import clusterings
from msdk.building import pick_device
from msdk.clusterings.base import Clustering
from msdk.datasets.base import Source
from msdk.errors import PartError, RunError
from msdk.partition import Partition
from msdk.recipe import Recipe
from msdk.structuring import to_data
from msdk.writing import write_json, write_text

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = "optimal-denoiser"
"""The strategy for a recipe that names none: the paper's own."""

Progress = Callable[[str, int, int], None]
"""Told (strategy, done, total)."""


@attrs.frozen
class Strategy:
    """What one strategy found."""

    name: str
    edges_t: tuple[float, ...]
    edges_ratio: tuple[float, ...]
    settings: Mapping[str, Any]
    seconds: float
    curves: Mapping[str, list[float]]


@attrs.frozen
class Clusters:
    """What `msdk cluster` found: one strategy, or several to compare."""

    schedule: str
    schedule_settings: Mapping[str, Any]
    data: Mapping[str, Any]
    seed: int
    strategies: tuple[Strategy, ...]

    def partition(self) -> Partition:
        """The stages of the only strategy."""
        (strategy,) = self.strategies
        return Partition(strategy.edges_ratio)

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk cluster --json` and of clustering.json (docs/contracts.md)."""
        return attrs.asdict(self)


def cluster(
    recipe: Recipe,
    *,
    strategy: str | None = None,
    compare: bool = False,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Clusters:
    """Finds stage edges for a recipe's data, under `stages.schedule` or else the recipe's own schedule.

    Args:
        recipe: Its `stages.clustering` says how, unless `strategy` or `compare` do.
        strategy: Name of a strategy, with default settings.
        compare: Whether to run every registered strategy.
        seed: Seed of everything drawn.
        device: Where the large products run; CUDA where there is one when not given.
        progress: Told how far each strategy is.

    Raises:
        PartError: A strategy's settings allow no edges.
        DataError: The data cannot be read.
    """
    named = recipe.stages.clustering
    schedule = recipe.stages.schedule or recipe.schedule
    own = clusterings.registry.name_of(type(named)) if named is not None else None
    chosen = clusterings.names() if compare else [strategy or own or DEFAULT]
    source = functools.cache(recipe.data.open)
    images = functools.cache(lambda: _all_images(source()))
    found: list[Strategy] = []
    looked = False
    for name in chosen:
        spec: Clustering = named if named is not None and name == own else clusterings.get(name)()
        if spec.looks_at_data and recipe.encoder.unit_range:
            raise PartError(
                f"{name} measures images in [-1, 1], but encoder.unit_range has them in [0, 1], where every edge has "
                "half the ratio: cluster with encoder.unit_range=false, and write half of its edges_ratio"
            )
        started = time.perf_counter()
        result = spec.find(
            schedule,
            images,
            seed=seed,
            device=pick_device(device),
            progress=functools.partial(progress, name) if progress else lambda done, total: None,
        )
        looked = looked or spec.looks_at_data
        partition = Partition.of_times(result.edges_t, schedule)
        settings = {key: value for key, value in to_data(spec).items() if key != "name"}
        seconds = time.perf_counter() - started
        found.append(Strategy(name, result.edges_t, partition.edges, settings, seconds, result.curves))
    data = dict(to_data(recipe.data))
    if looked:
        data |= {"images": len(source()), "sha256": source().digest}
    settings = dict(to_data(schedule))
    return Clusters(settings.pop("name"), settings, data, seed, tuple(found))


def write_clusters(path: Path, clusters: Clusters, *, force: bool = False) -> None:
    """Keeps a clustering as a JSON file that `stages.from` can name.

    Raises:
        RunError: The file exists and `force` is false, or it cannot be written.
    """
    if path.exists() and not force:
        raise RunError(f"{path} exists: replace it with --force, or choose another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, clusters.as_json())


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


def _all_images(source: Source) -> "Tensor":
    return source.read(range(len(source)))
