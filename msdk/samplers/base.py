"""What a sampler is: a grid of times, and one step from a time to the next with its memory passed through.

The loop itself lives in `msdk.sampling`, once. Times are Python floats known before the first network call, so a
sampler decides everything about its grid on the host and no step waits for the device.
"""

import abc
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs.validators import gt

from msdk.errors import PartError
from msdk.samplers.grids import STEPS, Grid, grid_of, then_clean, time_grid
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

Denoise = Callable[["Tensor", float], "Tensor"]
"""`denoise(x_t, t)` estimates x_0: one network call for the whole batch [batch, ...]."""

Noise = Callable[["Tensor", float, float], "Tensor"]
"""`noise(x, t, s)` draws standard normal noise like `x` for the way from time t to time s: what a sampler adds there.

Whoever draws decides what the way means: fresh noise at every call, or the increment of one Brownian path.
"""


class Sampler(abc.ABC):
    """A solver of the reverse process. Concrete samplers are frozen attrs classes."""

    stochastic: ClassVar[bool] = False
    """Whether it adds noise with its default settings."""

    feeds: ClassVar[int] = 1
    """Times the image's channels that it feeds a network; 2 where its state has velocities as well."""

    adaptive: ClassVar[bool] = False
    """Whether the sampler chooses its own steps by what the network says. Its images are then drawn one by one."""

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """Global order with these settings, where no noise is added; a field of samplers that have many.

        Twice as many steps divide the error by 2^order; `convergence` is what a test measures.
        """

    @property
    def convergence(self) -> int:
        """The order that is measured on an even grid in log-SNR; not `order` where the first steps limit it."""
        return self.order

    def check(self, schedule: Schedule, steps: int) -> None:  # noqa: B027  most samplers do all that there is
        """Refuses what the sampler cannot do, before any network call; `times` refuses what its grid cannot.

        Raises:
            PartError: It cannot run the schedule, or not in so few steps; the message says what would do.
        """

    def on(self, schedule: Schedule) -> "Sampler":
        """The sampler with what it leaves to the schedule filled in, as recipes hold it: a `grid` of None."""
        if getattr(self, "grid", "") is not None:
            return self
        return attrs.evolve(self, grid=grid_of(None, schedule))  # pyright: ignore[reportCallIssue]

    @abc.abstractmethod
    def times(self, schedule: Schedule, steps: int) -> list[float]:
        """Descending times from `t_max`, one more than there are intervals; a last 0.0 is the clean image.

        It means that whatever the schedule's own noise at 0 is; grids end above it.
        """

    @abc.abstractmethod
    def calls(self, steps: int) -> list[int]:
        """Network calls in each interval of a grid of so many; of an adaptive sampler, the fewest there can be."""

    def intervals(self, schedule: Schedule, steps: int) -> int:
        """Intervals of the grid that `times` makes of `steps`, for `calls`: as many, but for some grids of a table."""
        if getattr(self, "grid", None) not in STEPS:
            return steps
        ends = len(self.calls(steps)) - steps  # intervals beside those of the grid
        return len(self.times(schedule, steps)) - 1 - ends

    def spending(self, nfe: int) -> "Sampler":
        """Returns the sampler with those settings changed that a wish for `nfe` network calls decides: none in most.

        A recipe with `sampling.nfe` holds the result, so that its sampler and its number of steps belong together.
        """
        return self

    def start(self, schedule: Schedule, noise: Noise, like: "Tensor") -> "Tensor":
        """X at the first time: normal noise of the schedule's prior, in most."""
        return schedule.prior_std * noise(like, schedule.t_max, schedule.t_max)

    @abc.abstractmethod
    def init(self, times: Sequence[float]) -> Any:
        """What the first step is given as memory."""

    @abc.abstractmethod
    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: Any, noise: Noise
    ) -> "tuple[Tensor, Any]":
        """Goes from `t` down to `s < t`: returns x_s and the memory for the next step."""


@attrs.frozen(kw_only=True)
class OneCallSampler(Sampler):
    """A sampler that calls the network once, at the start of each interval.

    Args:
        grid: How the times are spaced, see `msdk.samplers.grids`; as suits the schedule when not given.
        rho: Exponent of the "rho" grid.
        t_end: Last time of the grid; the schedule's `t_min` if that is larger.
        final_denoise: Whether one more call at `t_end` replaces the sample by its estimate of x_0.
    """

    repeats: ClassVar[bool] = False
    """Whether a step of no length, which latent diffusion's quadratic grid has, is one too."""

    grid: Grid | None = None
    rho: float = attrs.field(default=7.0, validator=gt(0))
    t_end: float = attrs.field(default=1e-3, validator=gt(0))
    final_denoise: bool = False

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        grid = grid_of(self.grid, schedule)
        nodes = time_grid(grid, schedule, steps, self.t_end, self.rho, repeats=self.repeats)
        return then_clean(nodes, grid) if self.final_denoise else nodes

    def calls(self, steps: int) -> list[int]:
        return [1] * (steps + self.final_denoise)


def steps_for(sampler: Sampler, nfe: int, schedule: Schedule | None = None) -> int:
    """The number of steps with which a sampler, see `Sampler.spending`, makes exactly `nfe` network calls.

    Args:
        sampler: With all its settings.
        nfe: The wish.
        schedule: What it runs on, which decides how many intervals some grids of a table have.

    Raises:
        PartError: No number of steps does; the message has the nearest that can be had.
    """
    totals: dict[int, int] = {}
    for steps in range(1, nfe + 2):
        try:
            intervals = steps if schedule is None else sampler.intervals(schedule, steps)
            totals[steps] = sum(sampler.calls(intervals))
        except PartError:  # no such grid of a table
            continue
        if totals[steps] == nfe:
            return steps
    if schedule is not None and not totals:
        sampler.times(schedule, nfe)  # says why
    near = sorted(set(totals.values()), key=lambda total: abs(total - nfe))[:2]
    raise PartError(
        f"no number of steps makes exactly {nfe} network calls; the nearest are {' and '.join(map(str, near))}"
    )


def run(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    times: Sequence[float],
    x: "Tensor",
    noise: Noise,
    progress: Callable[[int], None] | None = None,
) -> "Tensor":
    """The one loop over a time grid: from x at the first time to the sample at the last.

    Args:
        sampler: Whose steps.
        denoise: Estimates x_0.
        schedule: Gives alpha and sigma.
        times: `sampler.times(schedule, steps)`.
        x: At the first time, [batch, ...].
        noise: What stochastic samplers add.
        progress: Told the number of intervals done.

    Raises:
        PartError: The sampler's settings lead to numbers that cannot be computed.
    """
    memory = sampler.init(times)
    for done, (t, s) in enumerate(itertools.pairwise(times), 1):
        try:
            x, memory = sampler.step(denoise, schedule, x, t, s, memory, noise)
        except ArithmeticError as error:  # of the sampler's own numbers; those of tensors are never refused
            raise PartError(
                f"{type(sampler).__name__} cannot compute its step from t = {t:g} to {s:g} ({error.args[-1]}): use "
                "less extreme settings of the sampler or the schedule, or more steps"
            ) from error
        if progress is not None:
            progress(done)
    return x


def call_times(sampler: Sampler, schedule: Schedule, steps: int) -> list[list[float]]:
    """The time of every network call, interval by interval: the sampler itself is run around a recording network.

    Where steps depend on what the network says, it is the exact one of pixels that are -1 or 1: an estimate.
    """
    import torch

    seen: list[float] = []

    def record(x: "Tensor", t: float) -> "Tensor":
        seen.append(t)
        if not sampler.adaptive:
            return torch.zeros_like(x[:, :64])  # a network may be fed more than it answers with
        return torch.tanh(x * schedule.alpha(t) / max(schedule.sigma(t), 1e-6) ** 2)

    times = sampler.times(schedule, steps)
    generator = torch.Generator().manual_seed(0)
    x = schedule.prior_std * torch.randn(1, 64, generator=generator, dtype=torch.float64)
    ends: list[int] = []
    run(sampler, record, schedule, times, x, lambda x, t, s: torch.zeros_like(x), lambda _: ends.append(len(seen)))
    return [seen[first:last] for first, last in itertools.pairwise([0, *ends])]
