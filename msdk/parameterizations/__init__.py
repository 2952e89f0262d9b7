"""What the network is fed and what its output means."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.parameterizations.base import Parameterization

registry: "Registry[Parameterization]" = Registry(
    Kind(
        name="parameterizations",
        base="msdk.parameterizations.base:Parameterization",
        laws="msdk.testing.parameterizations:LAWS",
        template="msdk.authoring.templates.parameterization:MyParameterization",
        imports=("schedules.base",),
    ),
    {
        "eps": "msdk.parameterizations.eps:Eps",
        "edm": "msdk.parameterizations.edm:EDM",
        "vp": "msdk.parameterizations.vp:VP",
        "ve": "msdk.parameterizations.ve:VE",
        "iddpm": "msdk.parameterizations.iddpm:IDDPM",
        "score": "msdk.parameterizations.score:Score",
        "x0": "msdk.parameterizations.x0:X0",
        "v": "msdk.parameterizations.v:V",
        "consistency": "msdk.parameterizations.consistency:Consistency",
        "velocity": "msdk.parameterizations.velocity:Velocity",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
