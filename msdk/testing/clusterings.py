"""Laws of clusterings. Option: `subject`, where the strategy needs more than data and calls."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from msdk.clusterings.base import Clustering, Points, Subject
from msdk.schedules.vp import VPLinear
from msdk.testing.laws import COMMON, LawError, require


class PointsInMemory(Points):
    """Points [n, d] in blocks of a given length.

    Args:
        values: Numbers of pixels, 0 .. 255, or latents.
        length: Of a block.
        pixels: Whether they are pixels.
    """

    def __init__(self, values: Tensor, *, length: int = 7, pixels: bool = True) -> None:
        self.values, self.length, self.pixels = values, length, pixels
        self.count, self.size = values.shape

    @property
    def block_count(self) -> int:
        return -(-self.count // self.length)

    def take(self, indices: Sequence[int]) -> Tensor:
        return self.values[list(indices)]

    def blocks(self, first: int = 0, step: int = 1) -> Iterator[Tensor]:
        yield from self.values.split(self.length)[first::step]


@attrs.frozen
class GaussianEstimate:
    """The denoiser of pixels from N(0, s^2), as a run's: s^2 / (s^2 + ratio^2) of what it sees.

    Attributes:
        s: Their standard deviation.
        edges: Where it pretends that another network takes over.
        dtype: Of what it says.
    """

    s: float = 0.5
    edges: tuple[float, ...] = ()
    dtype: torch.dtype = torch.float64

    def __call__(self, y: Tensor, ratios: Tensor, images: Sequence[int]) -> Tensor:
        require(len(images) == len(y) == len(ratios), f"{len(images)} images for {len(y)} noisy ones")
        return ((self.s**2 / (self.s**2 + ratios.square()))[:, None].to(y) * y).to(self.dtype)


def few_images(count: int = 60, *, size: int = 192) -> Tensor:
    """Whole numbers in 0 .. 255, float32 [count, size]; the same each time."""
    return torch.randint(0, 256, (count, size), generator=torch.Generator().manual_seed(0)).float()


def some(values: Tensor | None = None, *, length: int = 7) -> Subject:
    """VP's time with these points, or `few_images`, 20 calls of a sampler, training at even times, and any run."""
    points = PointsInMemory(few_images() if values is None else values, length=length)
    schedule = VPLinear()
    calls = torch.linspace(schedule.t_min, schedule.t_max, 21, dtype=torch.float64)[1:].tolist()
    return Subject(
        schedule=schedule,
        points=lambda: points,
        calls=lambda: calls,
        drawn=lambda share: share,
        denoiser=lambda run: GaussianEstimate(),
    )


def edges_ascend_inside_the_schedule(clustering: Clustering, *, subject: Subject | None = None) -> None:
    """One edge fewer than stages, ascending inside the schedule, for other numbers of stages too; the same twice."""
    subject = subject or some()
    for stages in (clustering.stages, 2, 4):
        each: Any = clustering
        if stages != clustering.stages:
            try:
                each = attrs.evolve(each, stages=stages)
            except ValueError:
                continue  # its settings refuse other numbers of stages
        found = each.find(subject)
        bounds = [subject.schedule.t_min, *found.edges_t, subject.schedule.t_max]
        require(
            len(found.edges_t) == stages - 1, f"{stages} stages have {stages - 1} edges, but it found {found.edges_t}"
        )
        require(
            all(low < high for low, high in itertools.pairwise(bounds)),
            f"the edges {found.edges_t} do not ascend between {bounds[0]} and {bounds[-1]}",
        )
        require(each.find(subject) == found, "the same subject and seed give something else the second time")


def curves_fit_the_times(clustering: Clustering, *, subject: Subject | None = None) -> None:
    """Each curve has a value for each time of the curve "t", each matrix a row and a column."""
    found = clustering.find(subject or some())
    count = len(found.curves.get("t", ()))
    wrong = [name for name, values in found.curves.items() if len(values) != count]
    wrong += [name for name, rows in found.matrices.items() if [len(row) for row in rows] != [count] * count]
    require(not wrong, f"{', '.join(wrong)} do not fit the {count} times of the curve t")


def only_what_is_needed_is_asked_for(clustering: Clustering, *, subject: Subject | None = None) -> None:
    """`needs` names what `find` asks the subject for, so that no data set is opened for nothing."""
    subject = subject or some()
    asked: set[str] = set()

    def watched(need: str, ask: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            asked.add(need)
            return ask(*arguments, **named)

        return call

    names = {"data": "points", "calls": "calls", "models": "models", "denoiser": "denoiser", "draws": "drawn"}
    clustering.find(
        attrs.evolve(subject, **{field: watched(need, getattr(subject, field)) for need, field in names.items()})
    )
    surplus = asked - clustering.needs - ({"data"} if "models" in clustering.needs else set[str]())
    require(not surplus, f"it asks for {', '.join(sorted(surplus))}, which `needs` does not name")


def blocks_change_nothing(clustering: Clustering, *, subject: Subject | None = None) -> None:
    """In whatever blocks the data are read, the edges are the same."""
    if "data" not in clustering.needs or "models" in clustering.needs:
        return
    edges = [clustering.find(some(length=length)).edges_t for length in (1, 7, 60)]
    for other in edges[1:]:
        apart = max(abs(a - b) for a, b in zip(edges[0], other, strict=True))
        require(apart <= 1e-6, f"blocks of another length move an edge by {apart:.3g}")


def too_many_stages_are_refused_in_words(clustering: Clustering, *, subject: Subject | None = None) -> None:
    """What cannot be cut so finely raises a `PartError` that says what would do."""
    each: Any = clustering
    try:
        attrs.evolve(each, stages=5000).find(subject or some())
    except ValueError as error:  # of a validator of attrs, or a PartError
        require(len(str(error)) > 20, f"5000 stages are refused with nothing but {str(error)!r}")
    except Exception as error:
        raise LawError(f"5000 stages raise {type(error).__name__}: {error}; raise PartError instead") from error


LAWS = (
    *COMMON,
    edges_ascend_inside_the_schedule,
    curves_fit_the_times,
    only_what_is_needed_is_asked_for,
    blocks_change_nothing,
    too_many_stages_are_refused_in_words,
)
