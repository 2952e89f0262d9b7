"""EDM's two programs."""

from golden_samplers import Json, Setup
from msdk.samplers.heun import Heun
from msdk.schedules.edm import EDM


def setup(case: Json) -> Setup | str:
    if case["sampler"] != "edm_sampler" or not case["kw"].keys() <= {"num_steps"}:
        return "only the deterministic sampler is here"
    return Setup(schedule=EDM(), sampler=Heun(), steps=case["kw"]["num_steps"])
