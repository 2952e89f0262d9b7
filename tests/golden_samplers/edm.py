"""EDM's two programs."""

from golden_samplers import Json, Setup
from msdk.samplers.heun import Heun
from msdk.schedules.edm import EDM

CHURN = {"S_churn": "churn", "S_min": "churn_low", "S_max": "churn_high", "S_noise": "churn_noise"}


def setup(case: Json) -> Setup | str:
    options = dict(case["kw"])
    steps = options.pop("num_steps")
    churn = {CHURN[key]: options.pop(key) for key in list(options) if key in CHURN}
    if case["sampler"] == "edm_sampler":
        sigma_min, sigma_max = options.pop("sigma_min", 0.002), options.pop("sigma_max", 80.0)
        rho = options.pop("rho", 7.0)
        low, high = options.pop("net_sigma_range", (sigma_min, sigma_max))
        schedule = EDM(sigma_min=max(sigma_min, low), sigma_max=min(sigma_max, high))
        if options:
            return f"no option {', '.join(options)}"
        return Setup(schedule=schedule, sampler=Heun(rho=rho, **churn), steps=steps, per_interval=1)
    return f"the ablation sampler integrates over time: {sorted(options)}"
