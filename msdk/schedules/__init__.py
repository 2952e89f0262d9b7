"""Noise schedules: alpha and sigma of x_t = alpha(t) x_0 + sigma(t) eps."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.schedules.base import Schedule

registry: "Registry[Schedule]" = Registry(
    Kind(
        name="schedules",
        base="msdk.schedules.base:Schedule",
        laws="msdk.testing.schedules:LAWS",
        template="msdk.authoring.templates.schedule:MySchedule",
    ),
    {
        "vp-cosine": "msdk.schedules.vp_cosine:VPCosine",
        "pfgm": "msdk.schedules.pfgm:PFGM",
        "rectified-flow": "msdk.schedules.rectified_flow:RectifiedFlow",
        "shifted": "msdk.schedules.shifted:Shifted",
        "sub-vp": "msdk.schedules.sub_vp:SubVP",
        "vp-iddpm-cosine": "msdk.schedules.vp_discrete:VPIDDPMCosine",
        "vp-linear": "msdk.schedules.vp:VPLinear",
        "vp-discrete": "msdk.schedules.vp_discrete:VPDiscrete",
        "vp-scaled-linear": "msdk.schedules.vp_discrete:VPScaledLinear",
        "ve": "msdk.schedules.ve:VE",
        "cld": "msdk.schedules.cld:CLD",
        "edm": "msdk.schedules.edm:EDM",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
