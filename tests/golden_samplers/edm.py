"""EDM's two programs."""

import math
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from golden_samplers import NotExpressedError, Settings, Setup
from msdk.parameterizations.iddpm import noise_levels
from msdk.samplers.base import Denoise, Noise
from msdk.samplers.heun import Heun
from msdk.samplers.time_heun import TimeHeun
from msdk.schedules.base import Schedule
from msdk.schedules.edm import EDM

CHURN = {"S_churn": "churn", "S_min": "churn_low", "S_max": "churn_high", "S_noise": "churn_noise"}
END = 1e-3


def vp_ratio(t: float, slope: float, low: float) -> float:
    return math.sqrt(math.expm1(slope * t**2 / 2 + low * t))


def clock(slope: float, low: float, t: Any) -> Any:
    """VP's level at a time or at times, to the program's last bit."""
    return (math.e ** (0.5 * slope * t**2 + low * t) - 1) ** 0.5


RANGES = {
    "vp": (clock(19.9, 0.1, END), clock(19.9, 0.1, 1.0)),
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
    """At given times, where noise of given standard deviations, in the ratio, is added first."""

    nodes: tuple[float, ...]
    rounding: tuple[float, ...] = ()

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return list(self.nodes)

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: Tensor, t: float, s: float, memory: int, noise: Noise
    ) -> tuple[Tensor, int]:
        if self.rounding and (added := self.rounding[self.nodes.index(t)]):
            x_t = x_t + added * schedule.alpha(t) * noise(x_t, t, s)
        return super().step(denoise, schedule, x_t, t, s, memory, noise)


def rounded_up(slope: float, low: float, nodes: Tensor) -> tuple[float, ...]:
    """The noise that the program adds at each of VP's levels while there is no churn.

    It raises a level by nothing through the inverse of its clock, and adds noise of what the squares of both differ by.
    The inverse rounds by 1e-15 of the level, so what it adds is up to 1e-7: the same operations give the same bits.
    """

    def time(levels: Tensor) -> Tensor:
        return ((low**2 + 2 * slope * (levels**2 + 1).log()).sqrt() - low) / slope

    found: list[float] = []
    for t in time(nodes):  # one by one, as there: vectors are rounded otherwise
        level = clock(slope, low, t)
        raised = clock(slope, low, time(level))
        found.append(float((raised**2 - level**2).clamp(min=0).sqrt()))
    return tuple(found)


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
    vp: tuple[float, float, float],
    rho: float,
    table: Sequence[float],
) -> Tensor:
    """The noise levels of a discretisation.

    Args:
        kind: Its name.
        count: How many.
        least: The lowest.
        most: The highest.
        vp: Slope and lowest beta of VP, and its last time.
        rho: Of EDM.
        table: Of iDDPM, descending.
    """
    shares = torch.arange(count, dtype=torch.float64) / (count - 1)
    if kind == "vp":
        slope, low, end = vp
        return clock(slope, low, 1 + shares * (end - 1))
    if kind == "ve":
        return (most**2 * (least**2 / most**2) ** shares).sqrt()
    if kind == "edm":
        return (most ** (1 / rho) + shares * (least ** (1 / rho) - most ** (1 / rho))) ** rho
    kept = [value for value in table if least <= value <= most]
    places = [round((len(kept) - 1) / (count - 1) * index) for index in range(count)]
    return torch.tensor([kept[place] for place in places], dtype=torch.float64)


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
    least, most = noise_range(options, *RANGES[kind])
    end = options.number("epsilon_s", END)
    slope = 2 * (math.log(least**2 + 1) / end - math.log(most**2 + 1)) / (end - 1)
    low = math.log(most**2 + 1) - slope / 2
    table = {
        "steps": options.number("M", 1000),
        "c_1": options.number("C_1", 0.001),
        "c_2": options.number("C_2", 0.008),
    }
    nodes = levels(kind, steps, least, most, vp=(slope, low, end), rho=rho, table=noise_levels(**table))
    schedule = Ablation(path, scaled, slope, low, float(nodes[0]))
    times = (*(schedule.t_of_ratio(level) for level in nodes.tolist()), 0.0)
    rounding = rounded_up(slope, low, nodes) if path == "vp" and not churn else ()
    return Setup(
        schedule=schedule,
        sampler=Nodes(nodes=times, rounding=rounding, share=options.number("alpha", 1.0), corrects=corrects, **churn),
        steps=steps,
        per_interval=1,
        label=schedule.ratio,
        scale=schedule.ratio(times[0]) * schedule.alpha(times[0]),
        times_tolerance=1e-8,
    )
