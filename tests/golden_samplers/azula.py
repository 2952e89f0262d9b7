"""azula's samplers on its schedules."""

import math

import attrs

from golden_samplers import Settings, Setup
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
    most: float = 1e3

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
        return {
            "rectified": lambda: LEAST * u + 1 - u,
            "vp": lambda: math.exp(u * u * math.log(LEAST)),
            "cosine": lambda: math.cos(u * math.acos(LEAST)),
            "ve": lambda: 1.0,
        }[self.kind]()

    def sigma(self, t: float) -> float:
        u = t - 1
        if self.kind == "rectified":
            return u + LEAST * (1 - u)
        if self.kind == "ve":
            return LEAST * (self.most / LEAST) ** u
        return math.sqrt(1 - self.alpha(t) ** 2 + LEAST**2)

    def t_of_ratio(self, ratio: float) -> float:
        if self.kind == "rectified":
            return 1 + (ratio - LEAST) / ((1 - LEAST) * (1 + ratio))
        if self.kind == "ve":
            return 1 + math.log(ratio / LEAST) / math.log(self.most / LEAST)
        alpha = min(math.sqrt((1 + LEAST**2) / (1 + ratio**2)), 1.0)
        if self.kind == "cosine":
            return 1 + math.acos(alpha) / math.acos(LEAST)
        return 1 + math.sqrt(max(math.log(alpha) / math.log(LEAST), 0.0))


KINDS = {kind: kind for kind in ("rectified", "vp", "cosine", "ve")}
SAMPLERS = {
    "DDPMSampler": lambda options, grid: DDIM(**grid, eta=math.sqrt(options.number("eta", 1.0))),
    "DDIMSampler": lambda options, grid: DDIM(**grid, eta=math.sqrt(options.number("eta", 0.0))),
    "EulerSampler": lambda options, grid: DDIM(**grid),
    "HeunSampler": lambda options, grid: DEISRungeKutta(**grid, method="heun"),
    "zABSampler": lambda options, grid: DEIS(**grid, variant="rho-ab", order=options.number("order")),
} | {
    name: lambda options, grid, variable=variable: ExponentialAB(
        **grid, variable=variable, order=options.number("order"), as_azula=variable == "residual"
    )
    for name, variable in EXPONENTIAL.items()
}


def setup(case: Settings) -> Setup:
    sampler = case.one("sampler", SAMPLERS)(case.table("kw"), {"grid": "uniform-t", "t_end": 1.0})
    kind = case.one("schedule", KINDS)
    found = Setup(
        sampler=sampler, schedule=Shifted(kind), steps=case.number("steps"), label=lambda t: t - 1, per_interval=1
    )
    # The largest sigma of VE is 1000 in the vectors' own table, and 100 in what is written of them.
    return attrs.evolve(found, readings=(attrs.evolve(found, schedule=Shifted(kind, 1e2)),)) if kind == "ve" else found
