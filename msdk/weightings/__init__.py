"""The weight of a noise level in the training loss."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.weightings.base import Weighting

registry: "Registry[Weighting]" = Registry(
    Kind(
        name="weightings",
        base="msdk.weightings.base:Weighting",
        laws="msdk.testing.weightings:LAWS",
        template="msdk.authoring.templates.weighting:MyWeighting",
        imports=("schedules.base",),
        law_options="closed_form=lambda ratio: 5 / (1 + 5 * ratio**2)",
    ),
    {
        "uniform": "msdk.weightings.uniform:Uniform",
        "min-snr": "msdk.weightings.min_snr:MinSNR",
        "soft-min-snr": "msdk.weightings.soft_min_snr:SoftMinSNR",
        "snr": "msdk.weightings.snr:SNR",
        "velocity": "msdk.weightings.velocity:Velocity",
        "likelihood": "msdk.weightings.likelihood:Likelihood",
        "edm": "msdk.weightings.edm:EDM",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
