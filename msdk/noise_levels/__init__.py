"""Which noise levels training draws, within the stages that are drawn."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.noise_levels.base import NoiseLevel

registry: "Registry[NoiseLevel]" = Registry(
    Kind(
        name="noise_levels",
        base="msdk.noise_levels.base:NoiseLevel",
        laws="msdk.testing.noise_levels:LAWS",
        template="msdk.authoring.templates.noise_level:MyNoiseLevel",
        imports=(
            "partition",
            "schedules.base",
        ),
    ),
    {
        "uniform": "msdk.noise_levels.uniform:Uniform",
        "edm": "msdk.noise_levels.edm:EDM",
        "steps": "msdk.noise_levels.steps:Steps",
        "logit-normal": "msdk.noise_levels.logit_normal:LogitNormal",
        "mode": "msdk.noise_levels.mode:Mode",
        "cosmap": "msdk.noise_levels.cosmap:CosMap",
        "beta": "msdk.noise_levels.beta:Beta",
        "rho": "msdk.noise_levels.rho:Rho",
        "log-uniform": "msdk.noise_levels.log_uniform:LogUniform",
        "laplace": "msdk.noise_levels.laplace:Laplace",
        "speed": "msdk.noise_levels.speed:Speed",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
