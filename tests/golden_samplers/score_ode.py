"""score_sde's probability-flow sampler."""

from golden_samplers import Json, Setup
from golden_samplers.score_pc import process
from msdk.samplers.score_sde import ProbabilityFlow


def setup(case: Json) -> Setup | str:
    schedule, same = process(case["sde"])
    if case["denoise"] or case["rtol"] != case["atol"]:
        return "a last denoising step, or two tolerances"
    sampler = ProbabilityFlow(tolerance=case["rtol"], t_end=case["eps"])
    return Setup(schedule=schedule, sampler=sampler, steps=1, times_tolerance=1e-6, **same)
