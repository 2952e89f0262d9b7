"""What training minimises: the loss of an image."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.objectives.base import Objective

registry: "Registry[Objective]" = Registry(
    Kind(
        name="objectives",
        base="msdk.objectives.base:Objective",
        laws="msdk.testing.objectives:LAWS",
        template="msdk.authoring.templates.objective:MyObjective",
        imports=("batch", "schedules.base", "schedules.cld", "schedules.pfgm", "schedules.vp_discrete"),
    ),
    {
        "denoising": "msdk.objectives.denoising:Denoising",
        "uncertainty": "msdk.objectives.uncertainty:Uncertainty",
        "consistency": "msdk.objectives.consistency:Consistency",
        "progressive-distillation": "msdk.objectives.progressive_distillation:ProgressiveDistillation",
        "cld": "msdk.objectives.cld:CLD",
        "pfgm": "msdk.objectives.pfgm:PFGM",
        "hybrid-vlb": "msdk.objectives.hybrid_vlb:HybridVLB",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
