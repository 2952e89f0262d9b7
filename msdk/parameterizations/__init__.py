"""What the network is fed and what its output means."""

from msdk.registry import Registry

registry: Registry[object] = Registry(
    "parameterizations",
    {
        "eps": "msdk.parameterizations.eps:Eps",
        "edm": "msdk.parameterizations.edm:EDM",
    },
    base="msdk.parameterizations.base:Parameterization",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
