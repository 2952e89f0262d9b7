"""Consistency models' samplers, around functions that are no trained consistency models."""

import math

import attrs

from golden_samplers import Json, Setup
from msdk.samplers.base import Denoise
from msdk.samplers.consistency import Consistency
from msdk.samplers.dpm2 import DPM2
from msdk.samplers.euler import EulerAncestral
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


def setup(case: Json) -> Setup | str:
    schedule = EDM()
    wrap = {} if case["distiller"] == "posterior_mean" else {"wrap": boundary}
    # As the program rounds it: its last node lies so far above 0.002 that a little noise is added there.
    high, low = 80.0 ** (1 / 7), 0.002 ** (1 / 7)
    grid = [(high + index / (case["steps"] - 1) * (low - high)) ** 7 for index in range(case["steps"])]
    if case["sampler"] == "onestep":
        return Setup(schedule=schedule, sampler=Consistency(), steps=1, **wrap)
    if case["sampler"] == "multistep":
        nodes = tuple(grid[index] for index in case["ts"])
        return Setup(schedule=schedule, sampler=Nodes(nodes=nodes), steps=len(nodes) - 1, **wrap)
    if case["sampler"] == "sample_dpm":
        return Setup(schedule=schedule, sampler=DPM2(midpoint="cubic"), steps=case["steps"], **wrap)
    return Setup(schedule=schedule, sampler=EulerAncestral(), steps=case["steps"], per_interval=1, **wrap)
