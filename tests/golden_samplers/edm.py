"""EDM's two programs."""

import math
from typing import Any

import attrs

from golden_samplers import Json, Setup
from msdk.samplers.heun import Heun
from msdk.samplers.time_heun import TimeHeun
from msdk.schedules.base import Schedule
from msdk.schedules.edm import EDM

CHURN = {"S_churn": "churn", "S_min": "churn_low", "S_max": "churn_high", "S_noise": "churn_noise"}
END = 1e-3


def vp_ratio(t: float, slope: float, low: float) -> float:
    return math.sqrt(math.expm1(slope * t**2 / 2 + low * t))


RANGES = {
    "vp": (vp_ratio(END, 19.9, 0.1), vp_ratio(1.0, 19.9, 0.1)),
    "ve": (0.02, 100.0),
    "iddpm": (0.002, 81.0),
    "edm": (0.002, 80.0),
}


@attrs.frozen
class Ablation(Schedule):
    """A noise level sigma(t) and a scaling s(t) on their own, as the paper's Table 1 combines them."""

    kind: str
    scaled: bool
    slope: float
    low: float
    largest: float

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return self.t_of_ratio(self.largest)

    @property
    def prior_std(self) -> float:
        return self.ratio(self.t_max) * self.alpha(self.t_max)

    def ratio(self, t: float) -> float:
        return {"vp": lambda: vp_ratio(t, self.slope, self.low), "ve": lambda: math.sqrt(t), "linear": lambda: t}[
            self.kind
        ]()

    def pace(self, t: float) -> float:
        """D ratio / dt."""
        r = self.ratio(t)
        if self.kind == "vp":
            return 0.5 * (self.low + self.slope * t) * (r + 1 / r)
        return 0.5 / r if self.kind == "ve" else 1.0

    def alpha(self, t: float) -> float:
        return 1 / math.sqrt(1 + self.ratio(t) ** 2) if self.scaled else 1.0

    def sigma(self, t: float) -> float:
        return self.alpha(t) * self.ratio(t)

    def f(self, t: float) -> float:
        return -self.ratio(t) * self.pace(t) * self.alpha(t) ** 2 if self.scaled else 0.0

    def g2(self, t: float) -> float:
        return 2 * self.sigma(t) ** 2 * self.pace(t) / self.ratio(t)

    def t_of_ratio(self, ratio: float) -> float:
        if self.kind == "vp":
            excess = math.log1p(ratio**2)
            return (math.sqrt(self.low**2 + 2 * self.slope * excess) - self.low) / self.slope
        return ratio**2 if self.kind == "ve" else ratio


@attrs.frozen(kw_only=True)
class Nodes(TimeHeun):
    """At given times."""

    nodes: tuple[float, ...]

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return list(self.nodes)


def levels(kind: str, count: int, slope: float, low: float) -> list[float]:
    """The noise levels of a discretisation."""
    least, most = RANGES[kind]
    shares = [index / (count - 1) for index in range(count)]
    if kind == "vp":
        return [vp_ratio(1 + share * (END - 1), slope, low) for share in shares]
    if kind == "ve":
        return [math.sqrt(most**2 * (least**2 / most**2) ** share) for share in shares]
    if kind == "edm":
        return [(most ** (1 / 7) + share * (least ** (1 / 7) - most ** (1 / 7))) ** 7 for share in shares]

    def kept(step: int) -> float:
        return math.sin(math.pi / 2 * step / 1000 / 1.008) ** 2

    table = [0.0] * 1001
    for step in range(1000, 0, -1):
        table[step - 1] = math.sqrt((table[step] ** 2 + 1) / max(kept(step - 1) / kept(step), 0.001) - 1)
    kept_levels = [value for value in table if least <= value <= most]
    return [kept_levels[round((len(kept_levels) - 1) / (count - 1) * index)] for index in range(count)]


def setup(case: Json) -> Setup | str:
    options = dict(case["kw"])
    steps = options.pop("num_steps")
    churn: dict[str, Any] = {CHURN[key]: options.pop(key) for key in list(options) if key in CHURN}
    if case["sampler"] == "edm_sampler":
        least, most = options.pop("sigma_min", 0.002), options.pop("sigma_max", 80.0)
        low, high = options.pop("net_sigma_range", (least, most))
        sampler = Heun(rho=options.pop("rho", 7.0), **churn)
        if options:
            return f"no option {', '.join(options)}"
        schedule = EDM(sigma_min=max(least, low), sigma_max=min(most, high))
        return Setup(schedule=schedule, sampler=sampler, steps=steps, per_interval=1)
    kind, solver, share = options.pop("discretization"), options.pop("solver", "heun"), options.pop("alpha", 1.0)
    path, scaling = options.pop("schedule"), options.pop("scaling")
    if options:
        return f"no option {', '.join(options)}"
    if (kind, path) == ("iddpm", "vp"):
        return "iDDPM's levels on the clock of VP: off by 1e-10 to 1e-7, for a reason that was not found"
    least, most = RANGES[kind]
    slope = 2 * (math.log1p(least**2) / END - math.log1p(most**2)) / (END - 1)
    low = math.log1p(most**2) - slope / 2
    nodes = levels(kind, steps, slope, low)
    schedule = Ablation(path, scaling == "vp", slope, low, nodes[0])
    times = (*(schedule.t_of_ratio(level) for level in nodes), 0.0)
    return Setup(
        schedule=schedule,
        sampler=Nodes(nodes=times, share=share, corrects=solver == "heun", **churn),
        steps=steps,
        per_interval=1,
        label=schedule.ratio,
        scale=schedule.ratio(times[0]) * schedule.alpha(times[0]),
        times_tolerance=1e-8,
    )
