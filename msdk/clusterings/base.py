"""What a clustering strategy is: settings, and a function from a schedule and a recipe's data to stage edges."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import attrs

from msdk.distributed import Group
from msdk.errors import PartError
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

Need = Literal["data", "calls", "models", "denoiser", "draws"]
"""What a strategy asks for beside the schedule: images, the sampler's calls, networks in training, the denoiser of
a run, or the times that training draws."""

Interval = tuple[float, float]


@attrs.frozen(kw_only=True)
class Found:
    """The result of a strategy.

    Attributes:
        edges_t: Interior edges, ascending, in the time of the schedule.
        curves: Name -> values, for plots: what the strategy looked at.
        matrices: Name -> rows; both axes are the times of the curve "t".
        intervals_t: For each edge, the ends between which it lies with a probability of 95 % if everything that is
            random is drawn again; none where nothing is.
        notes: Sentences on how the result came about.
        warnings: Sentences on why it may not be what is wanted.
    """

    edges_t: tuple[float, ...]
    curves: Mapping[str, list[float]] = attrs.field(factory=dict[str, list[float]])
    matrices: Mapping[str, list[list[float]]] = attrs.field(factory=dict[str, list[list[float]]])
    intervals_t: tuple[Interval, ...] | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Points(abc.ABC):
    """A data set as points, read in blocks: all of them never need to be in memory.

    Attributes:
        count: Number of points.
        size: Numbers in a point, d.
        pixels: Whether the numbers are those of pixels, in 0 .. 255; latents have no range of their own.
    """

    count: int
    size: int
    pixels: bool

    @abc.abstractmethod
    def take(self, indices: Sequence[int]) -> "Tensor":
        """These points, float32 [len(indices), d] on the CPU."""

    @abc.abstractmethod
    def blocks(self, first: int = 0, step: int = 1) -> "Iterator[Tensor]":
        """Every `step`-th block from number `first` on, float32 [b, d]; all blocks together are all points, once."""

    @property
    @abc.abstractmethod
    def block_count(self) -> int:
        """Number of blocks."""


class TrainedModel(Protocol):
    """A network at some point of its training."""

    def gradient(self, t: float) -> "Tensor":
        """The gradient of the training loss at a time, on a batch that is the same for every time; [p]."""
        ...


class Models(Protocol):
    """Gives networks of one training, first to last; see `gradient` for what is asked of it."""

    def __call__(
        self,
        run: Path | None,
        *,
        checkpoints: int,
        iterations: int,
        batch: int,
        seed: int,
        as_published: bool = False,
    ) -> Iterator[TrainedModel]: ...


class Estimate(Protocol):
    """The denoiser of a trained run, of noisy points of any schedule."""

    @property
    def edges(self) -> Sequence[float]:
        """Ratios at which another network takes over, ascending."""
        ...

    def __call__(self, y: "Tensor", ratios: "Tensor", images: Sequence[int]) -> "Tensor":
        """Its estimate of x_0, [b, d], through which torch can differentiate.

        Args:
            y: x_0 + ratio eps, [b, d].
            ratios: sigma / alpha, float64 [b], on the CPU.
            images: Which points of the data they are noisy versions of, for networks that are told their classes.
        """
        ...


def _no_points() -> Points:
    raise PartError("this strategy looks at images, but there are none")


def _no_calls() -> Sequence[float]:
    raise PartError("this strategy looks at a sampler's calls, but there is no sampler")


def _no_models(
    run: Path | None, *, checkpoints: int, iterations: int, batch: int, seed: int, as_published: bool = False
) -> Iterator[TrainedModel]:
    raise PartError("this strategy looks at networks in training, but there are none")


def _no_denoiser(run: Path) -> Estimate:
    raise PartError("this strategy looks at the denoiser of a run, but there is none")


def _no_draws(share: float) -> float:
    raise PartError("this strategy looks at the times that training draws, but there is no training")


@attrs.frozen(kw_only=True)
class Subject:
    """What is cut into stages, and what strategies may ask about it.

    Attributes:
        schedule: Whose time is cut.
        points: Opens the training data; only strategies that look at it call this.
        calls: The times of the sampler's network calls, in the time of `schedule`.
        models: Networks in training.
        denoiser: The denoiser of a run folder.
        drawn: The time below which training draws a share of its images, in the time of `schedule`.
        seed: Of everything drawn.
        device: Where large products run.
        group: The processes that share the data.
        progress: Told (done, total) after each piece of work.
    """

    schedule: Schedule
    points: Callable[[], Points] = _no_points
    calls: Callable[[], Sequence[float]] = _no_calls
    models: Models = _no_models
    denoiser: Callable[[Path], Estimate] = _no_denoiser
    drawn: Callable[[float], float] = _no_draws
    seed: int = 0
    device: str = "cpu"
    group: Group = attrs.field(factory=Group)
    progress: Callable[[int, int], None] = lambda done, total: None


class Clustering(abc.ABC):
    """A strategy. Concrete ones are frozen attrs classes whose fields are its settings.

    Attributes:
        stages: How many stages it makes.
        needs: What `find` asks for beside the schedule.
    """

    stages: int
    needs: ClassVar[frozenset[Need]] = frozenset()

    @abc.abstractmethod
    def find(self, subject: Subject) -> Found:
        """Finds the edges.

        Raises:
            PartError: The settings allow no edges; the message says what would.
        """
