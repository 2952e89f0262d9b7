"""score_sde's probability-flow sampler."""

from golden_samplers import NotExpressedError, Settings, Setup
from golden_samplers.score_pc import process
from msdk.samplers.score_sde import ProbabilityFlow


def setup(case: Settings) -> Setup:
    schedule, same = process(case["sde"])
    case.number("N")  # of the last denoising step alone
    if case.flag("denoise") or case.number("rtol") != case.number("atol"):
        raise NotExpressedError("a last denoising step, or two tolerances")
    sampler = ProbabilityFlow(tolerance=case.number("rtol"), t_end=case.number("eps"))
    return Setup(schedule=schedule, sampler=sampler, steps=1, times_tolerance=1e-6, **same)
