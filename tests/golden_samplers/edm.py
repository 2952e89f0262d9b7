"""EDM's two programs."""

import math
from collections.abc import Sequence
from typing import Any

import attrs

from golden_samplers import NotExpressedError, Settings, Setup
from msdk.parameterizations.iddpm import noise_levels
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


def noise_range(options: Settings, least: float, most: float) -> tuple[float, float]:
    """The levels that are asked for, as far as those of the network reach."""
    least, most = options.number("sigma_min", least), options.number("sigma_max", most)
    if "net_sigma_range" not in options:
        return least, most
    known = options["net_sigma_range"]
    if not (isinstance(known, (list, tuple)) and len(known) == 2):
        raise NotExpressedError(f"net_sigma_range = {known}")
    return max(least, known[0]), min(most, known[1])


def levels(
    kind: str,
    count: int,
    least: float,
    most: float,
    *,
    clock: tuple[float, float, float],
    rho: float,
    table: Sequence[float],
) -> list[float]:
    """The noise levels of a discretisation.

    Args:
        kind: Its name.
        count: How many.
        least: The lowest.
        most: The highest.
        clock: Slope and lowest beta of VP, and its last time.
        rho: Of EDM.
        table: Of iDDPM, descending.
    """
    shares = [index / (count - 1) for index in range(count)]
    if kind == "vp":
        slope, low, end = clock
        return [vp_ratio(1 + share * (end - 1), slope, low) for share in shares]
    if kind == "ve":
        return [math.sqrt(most**2 * (least**2 / most**2) ** share) for share in shares]
    if kind == "edm":
        return [(most ** (1 / rho) + share * (least ** (1 / rho) - most ** (1 / rho))) ** rho for share in shares]
    kept = [value for value in table if least <= value <= most]
    return [kept[round((len(kept) - 1) / (count - 1) * index)] for index in range(count)]


def setup(case: Settings) -> Setup:
    options = case.table("kw")
    steps = options.number("num_steps")
    churn: dict[str, Any] = {ours: options.number(key) for key, ours in CHURN.items() if key in options}
    rho = options.number("rho", 7.0)
    if case.one("sampler", {"edm_sampler": True, "ablation_sampler": False}):
        least, most = noise_range(options, 0.002, 80.0)
        schedule = EDM(sigma_min=least, sigma_max=most)
        return Setup(schedule=schedule, sampler=Heun(rho=rho, **churn), steps=steps, per_interval=1)
    kind = options.one("discretization", {name: name for name in RANGES})
    corrects = options.one("solver", {"heun": True, "euler": False}) if "solver" in options else True
    path = options.one("schedule", {name: name for name in ("vp", "ve", "linear")})
    scaled = options.one("scaling", {"vp": True, "none": False})
    if (kind, path) == ("iddpm", "vp"):
        raise NotExpressedError(
            "iDDPM's levels on the clock of VP: off by 1e-10 to 1e-7, for a reason that was not found"
        )
    least, most = noise_range(options, *RANGES[kind])
    end = options.number("epsilon_s", END)
    slope = 2 * (math.log1p(least**2) / end - math.log1p(most**2)) / (end - 1)
    low = math.log1p(most**2) - slope / 2
    table = {
        "steps": options.number("M", 1000),
        "c_1": options.number("C_1", 0.001),
        "c_2": options.number("C_2", 0.008),
    }
    nodes = levels(kind, steps, least, most, clock=(slope, low, end), rho=rho, table=noise_levels(**table))
    schedule = Ablation(path, scaled, slope, low, nodes[0])
    times = (*(schedule.t_of_ratio(level) for level in nodes), 0.0)
    return Setup(
        schedule=schedule,
        sampler=Nodes(nodes=times, share=options.number("alpha", 1.0), corrects=corrects, **churn),
        steps=steps,
        per_interval=1,
        label=schedule.ratio,
        scale=schedule.ratio(times[0]) * schedule.alpha(times[0]),
        times_tolerance=1e-8,
    )
