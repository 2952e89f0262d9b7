"""Published samplers on problems whose exact denoiser is known; each family of the vectors has a module here.

A module is named as the family is in the vectors, and has `setup(case)`: a `Setup` that expresses the case with
msdk's samplers. Problems, sizes and settings are those of the vectors. What a module does not know, be it a setting or
a value, is `NotExpressedError`, so that other vectors of the same form are read as far as they can be.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Sampler, run
from msdk.schedules.base import Schedule
from msdk.testing.problems import Mixture

Json = Mapping[str, Any]


class NotExpressedError(Exception):
    """Why nothing of msdk, or of these modules, is what a case asks for."""


ABOUT = {
    "id",
    "p",
    "row",
    "nfe",
    "f",
    "grid",
    "evals",
    "trace",
    "coef",
    "R",
    "orders",
    "x_init",
    "v_final",
    "noise_draws",
}
ABOUT |= {"chk_calls", "chk_row", "chk_tol", "chk_ind_err", "amp", "maxabs", "ind_err", "tol"}
"""Keys of a case that say what is compared, no settings."""


class Settings(Mapping[str, Any]):
    """The settings of a case, which remembers those that were read."""

    def __init__(self, given: Json) -> None:
        self.given, self.read, self.inner = given, set[str](), dict[str, Settings]()

    def __getitem__(self, key: str) -> Any:
        if key not in self.given:
            raise NotExpressedError(f"a case without {key}")
        self.read.add(key)
        value = self.given[key]
        return self.inner.setdefault(key, Settings(value)) if isinstance(value, dict) else value

    def __contains__(self, key: object) -> bool:
        return key in self.given

    def __iter__(self) -> Iterator[str]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self.given else default

    def one(self, key: str, table: Mapping[Any, Any]) -> Any:
        """What a table has for the value of a setting."""
        value = self[key]
        try:
            return table[value]
        except (KeyError, TypeError):
            raise NotExpressedError(f"{key} = {value}") from None

    def flag(self, key: str) -> bool:
        """The value of a setting that is true or false, or 1 or 0."""
        return self.one(key, {True: True, False: False})

    def table(self, key: str) -> "Settings":
        """The value of a setting that is a table."""
        value = self[key]
        if not isinstance(value, Settings):
            raise NotExpressedError(f"{key} = {value}")
        return value

    def number(self, key: str, default: Any = None) -> Any:
        """The value of a setting that is a number."""
        value = self[key] if default is None else self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise NotExpressedError(f"{key} = {value}")
        return value

    def only(self, key: str, *values: Any) -> None:
        """Refuses all but these values of a setting that may be left out."""
        if key in self.given and self[key] not in values:
            raise NotExpressedError(f"{key} = {self[key]}")

    def done(self) -> None:
        """Refuses settings that nothing read."""
        unread = sorted(set(self.given) - self.read - ABOUT)
        if unread:
            raise NotExpressedError(f"the setting {', '.join(unread)}")
        for settings in self.inner.values():
            settings.done()


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
        mean: The exact denoiser of a problem at (x, t), where alpha and ratio do not describe the process.
        grid: Number of the array of times, where msdk has no grid of that kind.
        result: What of the last state is compared.
        wrap: Around the denoiser.
        times_tolerance: Relative, of evaluation times.
        readings: Other setups that the case may mean, where its settings do not tell.
    """

    sampler: Sampler
    schedule: Schedule
    steps: int
    label: Callable[[float], float] = lambda t: t
    scale: float | None = None
    per_interval: int | None = None
    start: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    mean: "Callable[[Mixture | Points, Tensor, float], Tensor] | None" = None
    grid: int | None = None
    result: Callable[[Tensor], Tensor] = lambda x: x
    wrap: Callable[[Denoise], Denoise] = lambda denoise: denoise
    times_tolerance: float = 1e-9
    readings: "tuple[Setup, ...]" = ()


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


@attrs.frozen
class Points:
    """Equally likely points.

    Args:
        places: [points, d].
    """

    places: Tensor

    def mean(self, y: Tensor, ratio: float) -> Tensor:
        """E[x_0 | x_t], for y = x_t / alpha [batch, d]."""
        far = torch.cdist(y, self.places, compute_mode="donot_use_mm_for_euclid_dist")
        return (-(far**2) / (2 * ratio**2)).softmax(1) @ self.places


def problem_of(name: str, vectors: Mapping[str, Tensor]) -> Mixture | Points:
    """A problem as the vectors state it."""
    if f"{name}/points" in vectors:
        return Points(vectors[f"{name}/points"])
    if f"{name}/weights" in vectors:
        return Mixture(*(vectors[f"{name}/{part}"] for part in ("weights", "means", "stds")))
    raise NotExpressedError(f"the problem {name}, which has neither points nor weights")


def load(folder: Path, index: Json) -> dict[str, Tensor]:
    """The vectors of a folder; draws of which it has only the first follow from their seed, as the last ones prove."""
    with np.load(folder / "data.npz") as data:
        found = {name: torch.from_numpy(data[name]) for name in data.files}
    most = max((len(found[name]) for name in found if name.endswith("/noise")), default=0)
    for name in [name for name in found if name.endswith("/noise_tail10")]:
        problem = name.split("/")[0]
        shape = (most, *found[f"{problem}/z"].shape)
        draws = np.random.RandomState(index["meta"]["seeds"]["noise"][problem]).standard_normal(shape)
        assert np.array_equal(draws[-10:], found[name].numpy())
        found[f"{problem}/noise"] = torch.from_numpy(draws)
    return found


def family(case: Json) -> Any:
    """The module of a case's family.

    Raises:
        NotExpressedError: There is none.
    """
    name = f"golden_samplers.{case['f']}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    raise NotExpressedError(f"the family {case['f']}")


def setup_of(case: Json) -> Setup | str:
    """A case in msdk's words, or the reason why it is not expressed."""
    settings = Settings(case)
    try:
        setup = family(case).setup(settings)
        settings.done()
        if setup.grid is None:
            setup.sampler.check(setup.schedule, setup.steps)
            setup.sampler.times(setup.schedule, setup.steps)
    except NotExpressedError as error:
        return str(error)
    except (PartError, ValueError, TypeError) as error:  # of attrs' validators, for settings out of range
        return f"msdk refuses it: {str(error.args[0]) if error.args else error}"
    return setup


def ragged(vectors: Mapping[str, Tensor], number: int) -> Tensor:
    """The array of that number."""
    begin, end = vectors["arr_off"][number : number + 2]
    return vectors["arr_data"][begin:end]


def replay(setup: Setup, case: Json, vectors: Mapping[str, Tensor]) -> Replayed:
    """Runs a case."""
    name, schedule = case["p"], setup.schedule
    problem = problem_of(name, vectors)
    labels, states = list[float](), list[Tensor]()

    def denoise(x: Tensor, t: float) -> Tensor:
        labels.append(setup.label(t))
        alpha = schedule.alpha(t)
        states.append(x / alpha)
        if setup.mean is not None:
            return setup.mean(problem, x, t)
        return problem.mean(x / alpha, schedule.ratio(t))

    noise = Recorded(vectors[f"{name}/noise"], setup.per_interval)
    scale = schedule.prior_std if setup.scale is None else setup.scale
    x = scale * vectors[f"{name}/z"] if setup.start is None else setup.start(vectors)
    given = None if setup.grid is None else ragged(vectors, setup.grid).tolist()
    times = given or setup.sampler.times(schedule, setup.steps)
    final = run(setup.sampler, setup.wrap(denoise), schedule, times, x, noise, noise.next_interval)
    return Replayed(setup.result(final), labels, states)


def compare(replayed: Replayed, case: Json, vectors: Mapping[str, Tensor], *, times_tolerance: float) -> None:
    """Final samples, evaluation times, number of calls and two states on the way, within the case's tolerances."""
    problem = case["p"]
    assert len(replayed.labels) == case["nfe"]
    labels = torch.tensor(replayed.labels, dtype=torch.float64)
    torch.testing.assert_close(labels, ragged(vectors, case["evals"]), rtol=times_tolerance, atol=1e-12)
    wanted = vectors[f"final_{problem}"][case["row"]]
    torch.testing.assert_close(replayed.final.reshape(wanted.shape), wanted, rtol=0, atol=case["tol"])
    if "chk_row" in case:
        for call, expected in zip(case["chk_calls"], vectors[f"check_{problem}"][case["chk_row"]], strict=True):
            state = replayed.states[call].flatten(1)[: len(expected)]
            tolerance = case["chk_tol"] * max(1, float(expected.abs().max()))
            torch.testing.assert_close(state, expected, rtol=0, atol=tolerance)
