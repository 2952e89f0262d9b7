"""Samplers: how to go from noise to an image with few network calls."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.samplers.base import Sampler

registry: "Registry[Sampler]" = Registry(
    Kind(
        name="samplers",
        base="msdk.samplers.base:Sampler",
        laws="msdk.testing.samplers:LAWS",
        template="msdk.authoring.templates.sampler:MySampler",
        imports=(
            "batch",
            "partition",
            "schedules.base",
            "schedules.clocks",
            "schedules.vp",
            "schedules.sub_vp",
            "schedules.ve",
            "schedules.pfgm",
            "schedules.cld",
        ),
    ),
    {
        "ddim": "msdk.samplers.ddim:DDIM",
        "ddpm": "msdk.samplers.ddpm:DDPM",
        "deis": "msdk.samplers.deis:DEIS",
        "deis-rk": "msdk.samplers.deis:DEISRungeKutta",
        "exponential-ab": "msdk.samplers.exponential_ab:ExponentialAB",
        "dpm-adaptive": "msdk.samplers.dpm_solver:DPMAdaptive",
        "dpm-multistep": "msdk.samplers.dpm_multistep:DPMMultistep",
        "dpm-solver": "msdk.samplers.dpm_solver:DPMSolver",
        "dpmpp-2m": "msdk.samplers.dpm_multistep:DPMpp2M",
        "dpmpp-3m": "msdk.samplers.dpm_multistep:DPMpp3M",
        "consistency": "msdk.samplers.consistency:Consistency",
        "dpm2": "msdk.samplers.dpm2:DPM2",
        "dpm2-ancestral": "msdk.samplers.dpm2:DPM2Ancestral",
        "dpmpp-2m-sde": "msdk.samplers.dpmpp_sde:DPMpp2MSDE",
        "dpmpp-2s-ancestral": "msdk.samplers.dpmpp_sde:DPMpp2SAncestral",
        "dpmpp-3m-sde": "msdk.samplers.dpmpp_sde:DPMpp3MSDE",
        "dpmpp-sde": "msdk.samplers.dpmpp_sde:DPMppSDE",
        "euler": "msdk.samplers.euler:Euler",
        "euler-ancestral": "msdk.samplers.euler:EulerAncestral",
        "flow-euler": "msdk.samplers.flow:FlowEuler",
        "flow-heun": "msdk.samplers.flow:FlowHeun",
        "gddim": "msdk.samplers.gddim:GDDIM",
        "heun": "msdk.samplers.heun:Heun",
        "lms": "msdk.samplers.lms:LMS",
        "euler-maruyama": "msdk.samplers.score_sde:EulerMaruyama",
        "pfgm": "msdk.samplers.pfgm:PFGM",
        "pfgm-euler": "msdk.samplers.pfgm:PFGMEuler",
        "pf-ode": "msdk.samplers.score_sde:ProbabilityFlow",
        "predictor-corrector": "msdk.samplers.score_sde:PredictorCorrector",
        "plms": "msdk.samplers.ddpm:PLMS",
        "time-heun": "msdk.samplers.time_heun:TimeHeun",
        "unipc": "msdk.samplers.unipc:UniPC",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
