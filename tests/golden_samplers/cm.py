"""Consistency models' samplers, around functions that are no trained consistency models."""

import math

import attrs

from golden_samplers import NotExpressedError, Settings, Setup
from msdk.samplers.base import Denoise
from msdk.samplers.consistency import Consistency
from msdk.samplers.ddim import DDIM
from msdk.samplers.dpm2 import DPM2
from msdk.samplers.euler import Euler, EulerAncestral
from msdk.samplers.heun import Heun
from msdk.schedules.base import Schedule
from msdk.schedules.edm import EDM


@attrs.frozen(kw_only=True)
class Nodes(Consistency):
    """At given nodes of a grid."""

    nodes: tuple[float, ...]

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return list(self.nodes)


def boundary(denoise: Denoise) -> Denoise:
    """c_skip x + c_out F with EDM's network F, whose estimate is D; the identity at 0.002."""

    def function(x, sigma):
        skip, out = 0.25 / (sigma**2 + 0.25), 0.5 * sigma / math.sqrt(sigma**2 + 0.25)
        network = (denoise(x, sigma) - skip * x) / out
        low = sigma - 0.002
        return 0.25 / (low**2 + 0.25) * x + low * 0.5 / math.sqrt(sigma**2 + 0.25) * network

    return function


def setup(case: Settings) -> Setup:
    schedule, steps = EDM(), case.number("steps")
    wrap = case.one("distiller", {"posterior_mean": {}, "boundary_c_skip_c_out": {"wrap": boundary}})
    if case["sampler"] != "multistep":
        case.only("ts", None)
    if case["sampler"] == "multistep":
        # As the program rounds it: its last node lies so far above 0.002 that a little noise is added there.
        high, low = 80.0 ** (1 / 7), 0.002 ** (1 / 7)
        grid = [(high + index / (steps - 1) * (low - high)) ** 7 for index in range(steps)]
        if not isinstance(case["ts"], list):
            raise NotExpressedError(f"ts = {case['ts']}")
        nodes = tuple(grid[index] for index in case["ts"])
        return Setup(schedule=schedule, sampler=Nodes(nodes=nodes), steps=len(nodes) - 1, **wrap)
    sampler, count, draws = case.one(
        "sampler",
        {
            "onestep": (Consistency(), 1, None),
            "sample_dpm": (DPM2(midpoint="cubic"), steps, None),
            "sample_heun": (Heun(), steps, 1),
            "sample_euler": (Euler(), steps, None),
            "sample_euler_ancestral": (EulerAncestral(), steps, 1),
            # Euler steps of EDM's grid that end at 0.002: as many as its own number of calls says.
            "progdist": (DDIM(grid="rho", t_end=0.002), case.given["nfe"], None),
            "sample_progdist": (DDIM(grid="rho", t_end=0.002), case.given["nfe"], None),
        },
    )
    return Setup(schedule=schedule, sampler=sampler, steps=count, per_interval=draws, **wrap)
