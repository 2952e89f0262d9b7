"""Strategies that cut time into stages."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.clusterings.base import Clustering

registry: "Registry[Clustering]" = Registry(
    Kind(
        name="clusterings",
        base="msdk.clusterings.base:Clustering",
        laws="msdk.testing.clusterings:LAWS",
        template="msdk.authoring.templates.clustering:MyClustering",
        imports=(
            "distributed",
            "threads",
            "schedules.base",
            "schedules.clocks",
        ),
    ),
    {
        "timestep": "msdk.clusterings.timestep:Timestep",
        "snr": "msdk.clusterings.snr:SNR",
        "gradient": "msdk.clusterings.gradient:Gradient",
        "optimal-denoiser": "msdk.clusterings.optimal_denoiser:OptimalDenoiser",
        "similarity-matrix": "msdk.clusterings.similarity_matrix:SimilarityMatrix",
        "uniform-lambda": "msdk.clusterings.uniform_lambda:UniformLambda",
        "equal-cost": "msdk.clusterings.equal_cost:EqualCost",
        "dirichlet": "msdk.clusterings.dirichlet:Dirichlet",
        "acceleration": "msdk.clusterings.acceleration:Acceleration",
        "equal-error": "msdk.clusterings.equal_error:EqualError",
        "snr-share": "msdk.clusterings.snr_share:SnrShare",
        "speed": "msdk.clusterings.speed:Speed",
        "curriculum": "msdk.clusterings.curriculum:Curriculum",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
