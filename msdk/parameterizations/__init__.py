"""What the network is fed and what its output means."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.parameterizations.base import Parameterization

registry: "Registry[Parameterization]" = Registry(
    "parameterizations",
    {
        "eps": "msdk.parameterizations.eps:Eps",
        "edm": "msdk.parameterizations.edm:EDM",
        "vp": "msdk.parameterizations.vp:VP",
        "ve": "msdk.parameterizations.ve:VE",
        "iddpm": "msdk.parameterizations.iddpm:IDDPM",
        "score": "msdk.parameterizations.score:Score",
    },
    base="msdk.parameterizations.base:Parameterization",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
