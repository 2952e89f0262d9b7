"""How good what a model draws is, as numbers."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.metrics.base import Metric

registry: "Registry[Metric]" = Registry(
    Kind(
        name="metrics",
        base="msdk.metrics.base:Metric",
        laws="msdk.testing.metrics:LAWS",
        template="msdk.authoring.templates.metric:MyMetric",
        imports=(
            "batch",
            "extractors.base",
            "extractors.dinov2",
            "noise_levels.base",
            "objectives.base",
            "objectives.denoising_loss",
            "weightings.base",
        ),
    ),
    {
        "denoising-loss": "msdk.metrics.denoising_loss:DenoisingLoss",
        "diversity": "msdk.metrics.diversity:Diversity",
        "fd-dinov2": "msdk.metrics.fid:FDDINOv2",
        "fid": "msdk.metrics.fid:FID",
        "is": "msdk.metrics.inception_score:InceptionScore",
        "kid": "msdk.metrics.kid:KID",
        "precision-recall": "msdk.metrics.precision_recall:PrecisionRecall",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
