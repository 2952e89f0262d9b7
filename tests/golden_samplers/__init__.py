"""Published samplers on problems whose exact denoiser is known; each family of the vectors has a module here.

A module is named as the family is in the vectors, and has `setup(case)`: a `Setup` that expresses the case with
msdk's samplers, or the reason why nothing of msdk does.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from msdk.samplers.base import Denoise, Sampler, run
from msdk.schedules.base import Schedule
from msdk.testing.problems import mixture_mean

Json = Mapping[str, Any]


def points_mean(points: Tensor, y: Tensor, ratio: float) -> Tensor:
    """E[x_0 | x_t] of equally likely points (problem B), for y = x_t / alpha."""
    return (-(torch.cdist(y, points, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / (2 * ratio**2)).softmax(
        1
    ) @ points


class Recorded:
    """Recorded draws in their order.

    Args:
        draws: [draws, batch, ...].
        per_interval: How many the published program draws in each interval, used or not; draws are taken in the order
            of calls when not given.
    """

    def __init__(self, draws: Sequence[Tensor] | Tensor, per_interval: int | None = None) -> None:
        self.draws, self.per_interval, self.taken, self.interval = draws, per_interval, 0, 0

    def __call__(self, x: Tensor, t: float, s: float) -> Tensor:
        self.taken += 1
        return self.draws[self.taken - 1].to(x).reshape(x.shape)

    def next_interval(self, done: int) -> None:
        if self.per_interval is not None:
            self.taken = done * self.per_interval


@attrs.frozen(kw_only=True)
class Setup:
    """A case in msdk's words.

    Attributes:
        sampler: With all settings.
        schedule: What it runs on.
        steps: For `sampler.times`.
        label: What the published network is fed at a time of the schedule.
        scale: Of the initial normals; the schedule's prior when not given.
        per_interval: See `Recorded`.
        start: The initial state, where it is not scaled normals.
        mean: The exact denoiser at (x, t), where alpha and ratio do not describe the process.
        result: What of the last state is compared.
        wrap: Around the denoiser.
        times_tolerance: Relative, of evaluation times.
    """

    sampler: Sampler
    schedule: Schedule
    steps: int
    label: Callable[[float], float] = lambda t: t
    scale: float | None = None
    per_interval: int | None = None
    start: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    mean: Callable[[Mapping[str, Tensor], Tensor, float], Tensor] | None = None
    result: Callable[[Tensor], Tensor] = lambda x: x
    wrap: Callable[[Denoise], Denoise] = lambda denoise: denoise
    times_tolerance: float = 1e-9


@attrs.frozen
class Replayed:
    """What a sampler did.

    Attributes:
        final: The sample.
        labels: What the network was fed at each call, in order.
        states: x_t / alpha at each call.
    """

    final: Tensor
    labels: list[float]
    states: list[Tensor]


def family(case: Json) -> Any:
    """The module of a case's family; None where there is none."""
    try:
        return importlib.import_module(f"golden_samplers.{case['f']}")
    except ModuleNotFoundError as error:
        if error.name != f"golden_samplers.{case['f']}":
            raise
        return None


def ragged(vectors: Mapping[str, Tensor], number: int) -> Tensor:
    """The array of that number."""
    begin, end = vectors["arr_off"][number : number + 2]
    return vectors["arr_data"][begin:end]


def replay(setup: Setup, case: Json, vectors: Mapping[str, Tensor]) -> Replayed:
    """Runs a case."""
    problem, schedule = case["p"], setup.schedule
    labels, states = list[float](), list[Tensor]()

    def denoise(x: Tensor, t: float) -> Tensor:
        labels.append(setup.label(t))
        alpha = schedule.alpha(t)
        states.append(x / alpha)
        if setup.mean is not None:
            return setup.mean(vectors, x, t)
        if problem == "A":
            return mixture_mean(x / alpha, schedule.ratio(t))
        return points_mean(vectors["B/points"], x / alpha, schedule.ratio(t))

    noise = Recorded(vectors[f"{problem}/noise"], setup.per_interval)
    scale = schedule.prior_std if setup.scale is None else setup.scale
    x = scale * vectors[f"{problem}/z"] if setup.start is None else setup.start(vectors)
    setup.sampler.check(schedule, setup.steps)
    times = setup.sampler.times(schedule, setup.steps)
    final = run(setup.sampler, setup.wrap(denoise), schedule, times, x, noise, noise.next_interval)
    return Replayed(setup.result(final), labels, states)


def compare(replayed: Replayed, case: Json, vectors: Mapping[str, Tensor], *, times_tolerance: float) -> None:
    """Final samples, evaluation times, number of calls and two states on the way, within the case's tolerances."""
    problem = case["p"]
    assert len(replayed.labels) == case["nfe"]
    labels = torch.tensor(replayed.labels, dtype=torch.float64)
    torch.testing.assert_close(labels, ragged(vectors, case["evals"]), rtol=times_tolerance, atol=1e-12)
    final = replayed.final.reshape(8, -1)
    torch.testing.assert_close(final, vectors[f"final_{problem}"][case["row"]], rtol=0, atol=case["tol"])
    if "chk_row" in case:
        for call, expected in zip(case["chk_calls"], vectors[f"check_{problem}"][case["chk_row"]], strict=True):
            state = replayed.states[call].reshape(8, -1)[: len(expected)]
            tolerance = case["chk_tol"] * max(1, float(expected.abs().max()))
            torch.testing.assert_close(state, expected, rtol=0, atol=tolerance)
