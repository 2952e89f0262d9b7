"""Stages of equal complexity: what strategies share that equidistribute a monitor of the velocity field."""

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs.validators import ge, gt, le

from msdk.clusterings.base import Found, Subject
from msdk.clusterings.bootstrap import intervals, resampled
from msdk.clusterings.denoising import MOST_DRAWS, DenoiserClustering, Piece, drawn_times
from msdk.clusterings.moments import Moments, moments
from msdk.clusterings.posterior import Range, Scaled
from msdk.errors import PartError
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLED = 1000
"""Bootstrap samples that the intervals of the edges come from."""


@attrs.frozen(kw_only=True)
class Complexity(DenoiserClustering):
    """Stages with equal integrals of monitor^exponent over time, the monitor being a mean over noisy images.

    The velocity is that of the optimal denoiser of the data, v = dx_t / dt = alpha' D + sigma' (x_t - alpha D) / sigma,
    in closed form and without a network. Means are taken in bins of time with equally many draws.

    Args:
        stages: Number of stages.
        draws: Number of (image, noise, time) triples.
        bins: Bins of time, in each of which the monitor is one number.
        exponent: Power of the monitor, which is a mean of squares: 0.5 shares out its root, de Boor's rule for
            approximations whose error falls with the length of a piece; 1 the squares themselves.
        pixels: Range that pixels are scaled to, that of the network.
        t_first: Smallest time looked at. Near the data a finite set has no smooth density, and the field of its
            optimal denoiser is as steep as 1 / t.
    """

    changes: ClassVar[bool] = False
    """Whether the monitor looks at the change along paths."""

    stages: int = attrs.field(default=3, validator=ge(2))
    draws: int = attrs.field(default=400, validator=[ge(10), le(MOST_DRAWS)])
    bins: int = attrs.field(default=40, validator=[ge(2), le(10_000)])
    exponent: float = attrs.field(default=0.5, validator=[gt(0), le(4)])
    pixels: Range = "-1..1"
    t_first: float = attrs.field(default=0.01, validator=gt(0))

    @abc.abstractmethod
    def monitor(self, schedule: Schedule, times: "Tensor", piece: Piece, found: Moments, probe: "Tensor") -> "Tensor":
        """Of every noisy image, float64 [pairs]."""

    def find(self, subject: Subject) -> Found:
        import torch

        if min(self.draws, self.bins) < 2 * self.stages:
            raise PartError(
                f"{self.draws} draws in {self.bins} bins are too few for {self.stages} stages: set both to at least "
                f"{2 * self.stages}"
            )
        schedule, points = subject.schedule, subject.points()
        schedule.slopes(schedule.t_max)  # told before anything is read
        times = drawn_times(subject, self.draws, *self.span(subject))
        data, done = Scaled(points, self.pixels), 0
        values: list[Tensor] = []
        warnings: tuple[str, ...] = ()
        for piece in self.pieces(subject, points, schedule.ratio(times)[:, None]):
            warnings = self.range_warnings(points, piece.found)
            here = times[done : done + len(piece.clean)]
            probe = torch.randn(piece.clean.shape, generator=_probes(subject.seed, done), dtype=torch.float64)
            probe = probe.to(piece.clean)
            found = moments(
                data,
                piece.clean.float(),
                piece.noise.float(),
                piece.ratios[:, 0],
                piece.mean[:, 0],
                probe,
                changes=self.changes,
                group=subject.group,
            )
            values.append(self.monitor(schedule, here, piece, found, probe).cpu())
            done += len(here)
        measured = torch.cat(values)
        once = torch.ones(1, self.draws, dtype=torch.float64)
        edges = self._edges(times, measured, once, self.span(subject))[0]
        samples = [
            self._edges(times, measured, counts, self.span(subject))
            for counts in resampled(self.draws, RESAMPLED, subject.seed)
        ]
        return Found(
            edges_t=tuple(edges.tolist()),
            curves={"t": times.tolist(), "monitor": measured.tolist()},
            intervals_t=intervals(torch.cat(samples)),
            warnings=warnings,
        )

    def _edges(self, times: "Tensor", measured: "Tensor", counts: "Tensor", span: tuple[float, float]) -> "Tensor":
        """The edges of each sample, [samples, stages - 1]; `counts` [samples, draws] says how often a draw is in it."""
        import torch

        bins = torch.arange(len(times)) * self.bins // len(times)
        ends = torch.tensor(
            [span[0], *((times[1:] + times[:-1]) / 2)[bins.diff() > 0].tolist(), span[1]], dtype=torch.float64
        )
        into = torch.nn.functional.one_hot(bins, self.bins).double()
        mean = (counts * measured) @ into / (counts @ into).clamp(min=1)
        below = (mean**self.exponent * ends.diff()).cumsum(1)
        below = torch.cat([torch.zeros(len(below), 1, dtype=torch.float64), below], 1)
        if not bool((below[:, -1] > 0).all()):
            raise PartError("the velocity changes nowhere, so there is nothing to share: use more images")
        wanted = below[:, -1:] * torch.arange(1, self.stages, dtype=torch.float64) / self.stages
        left = (torch.searchsorted(below, wanted.contiguous()) - 1).clamp(0, self.bins - 1)
        low, high = below.gather(1, left), below.gather(1, left + 1)
        share = (wanted - low) / (high - low)
        return ends[left] + share * (ends[left + 1] - ends[left])


def _probes(seed: int, first: int) -> Any:
    import torch

    return torch.Generator().manual_seed((seed * 1_000_003 + first * 7919 + 17) % 2**63)
