"""azula's samplers on its schedules."""

import math

import attrs

from golden_samplers import Json, Setup
from msdk.samplers.ddim import DDIM
from msdk.samplers.deis import DEIS, DEISRungeKutta
from msdk.samplers.exponential_ab import ExponentialAB
from msdk.schedules.base import Schedule

LEAST = 1e-3
EXPONENTIAL = {"vABSampler": "velocity", "zEABSampler": "noise", "xEABSampler": "data", "REABSampler": "residual"}


@attrs.frozen
class Shifted(Schedule):
    """A schedule of azula with its time moved up by 1, because 0 is the clean image here and a noise level there."""

    kind: str

    @property
    def t_min(self) -> float:
        return 1.0

    @property
    def t_max(self) -> float:
        return 2.0

    @property
    def prior_std(self) -> float:
        return self.sigma(2.0)

    def alpha(self, t: float) -> float:
        u = t - 1
        return LEAST * u + 1 - u if self.kind == "rectified" else math.exp(u * u * math.log(LEAST))

    def sigma(self, t: float) -> float:
        u = t - 1
        return u + LEAST * (1 - u) if self.kind == "rectified" else math.sqrt(1 - self.alpha(t) ** 2 + LEAST**2)

    def t_of_ratio(self, ratio: float) -> float:
        if self.kind == "rectified":
            return 1 + (ratio - LEAST) / ((1 - LEAST) * (1 + ratio))
        alpha = math.sqrt((1 + LEAST**2) / (1 + ratio**2))
        return 1 + math.sqrt(max(math.log(alpha) / math.log(LEAST), 0.0))


def setup(case: Json) -> Setup:
    schedule, grid = Shifted(case["schedule"]), {"grid": "uniform-t", "t_end": 1.0}
    same = {"schedule": schedule, "steps": case["steps"], "label": lambda t: t - 1, "per_interval": 1}
    name, options = case["sampler"], case["kw"]
    if name in ("DDPMSampler", "DDIMSampler"):
        eta = math.sqrt(options.get("eta", 1.0 if name == "DDPMSampler" else 0.0))
        return Setup(sampler=DDIM(**grid, eta=eta), **same)
    if name == "EulerSampler":
        return Setup(sampler=DDIM(**grid), **same)
    if name == "HeunSampler":
        return Setup(sampler=DEISRungeKutta(**grid, method="heun"), **same)
    if name == "zABSampler":
        return Setup(sampler=DEIS(**grid, variant="rho-ab", order=options["order"]), **same)
    variable = EXPONENTIAL[name]
    sampler = ExponentialAB(**grid, variable=variable, order=options["order"], as_azula=variable == "residual")
    return Setup(sampler=sampler, **same)
