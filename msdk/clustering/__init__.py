"""Runs clustering strategies on a recipe's data, and keeps what they found.

Names load on first use, so that showing what was found imports no torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdk.clustering.clusters import Clusters as Clusters
    from msdk.clustering.clusters import Strategy as Strategy
    from msdk.clustering.clusters import clusters_in as clusters_in
    from msdk.clustering.clusters import clusters_of as clusters_of
    from msdk.clustering.clusters import kept_clusters as kept_clusters
    from msdk.clustering.clusters import refuse_artefact as refuse_artefact
    from msdk.clustering.clusters import write_clusters as write_clusters
    from msdk.clustering.clusters import write_edges as write_edges
    from msdk.clustering.edges import with_edges as with_edges
    from msdk.clustering.finding import cluster as cluster

_HOMES = {
    "Clusters": "clusters",
    "Strategy": "clusters",
    "cluster": "finding",
    "clusters_in": "clusters",
    "clusters_of": "clusters",
    "kept_clusters": "clusters",
    "refuse_artefact": "clusters",
    "with_edges": "edges",
    "write_clusters": "clusters",
    "write_edges": "clusters",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"msdk.clustering.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'msdk.clustering' has no attribute '{name}'")
