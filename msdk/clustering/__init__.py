"""Runs clustering strategies on a recipe's data, and keeps what they found."""

from msdk.clustering.clusters import Clusters as Clusters
from msdk.clustering.clusters import Strategy as Strategy
from msdk.clustering.clusters import refuse_artefact as refuse_artefact
from msdk.clustering.clusters import write_clusters as write_clusters
from msdk.clustering.clusters import write_edges as write_edges
from msdk.clustering.edges import with_edges as with_edges
from msdk.clustering.finding import cluster as cluster
