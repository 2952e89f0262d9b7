"""Stages of equal complexity: what strategies share that equidistribute a monitor of the velocity field."""

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs.validators import ge, gt, le

from msdk.clusterings.base import Found, Need, Points, Subject
from msdk.clusterings.bootstrap import intervals, resampled
from msdk.clusterings.denoising import MOST_DRAWS, DenoiserClustering, drawn_noise, drawn_points, drawn_times
from msdk.clusterings.measured import measured, spherical
from msdk.clusterings.moments import Moments, moments
from msdk.clusterings.posterior import Range, Scaled
from msdk.errors import PartError
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLED = 1000
"""Bootstrap samples that the intervals of the edges and of the monitor come from."""

AT_A_TIME = 32
"""Noisy images that the networks of a run see at a time."""


@attrs.frozen(kw_only=True)
class Complexity(DenoiserClustering):
    """Stages with equal integrals of monitor^exponent over time, the monitor being a mean over noisy images.

    The velocity is v = dx_t / dt = alpha' D + sigma' (x_t - alpha D) / sigma. D is the optimal denoiser of the data, in
    closed form and without a network; or, with `run`, the one that was trained. Means are taken in bins of time with
    equally many draws; intervals are those of a bootstrap over draws, each of which has an image, a noise, a time and a
    probe of its own.

    Args:
        stages: Number of stages.
        draws: Number of (image, noise, time) triples.
        bins: Bins of time, in each of which the monitor is one number; at most one for each draw.
        exponent: Power of the monitor, which is a mean of squares: 0.5 shares out its root, de Boor's rule for
            approximations whose error falls with the length of a piece; 1 the squares themselves.
        pixels: Range that pixels are scaled to, that of the network.
        t_first: Smallest time looked at. Near the data a finite set has no smooth density, and the field of its
            optimal denoiser is as steep as 1 / t.
        run: Run folder of a trained network, of stages or of one, whose averaged weights are looked at instead; its
            newest checkpoint.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data", "denoiser"})

    changes: ClassVar[bool] = False
    """Whether the monitor looks at the change along paths."""

    stages: int = attrs.field(default=3, validator=ge(2))
    draws: int = attrs.field(default=400, validator=[ge(10), le(MOST_DRAWS)])
    bins: int = attrs.field(default=40, validator=[ge(2), le(10_000)])
    exponent: float = attrs.field(default=0.5, validator=[gt(0), le(4)])
    pixels: Range = "-1..1"
    t_first: float = attrs.field(default=0.01, validator=gt(0))
    run: Path | None = None

    @abc.abstractmethod
    def monitor(self, schedule: Schedule, times: "Tensor", y: "Tensor", mean: "Tensor", found: Moments) -> "Tensor":
        """Of every noisy image y = x_t / alpha, [pairs, d], of which the denoiser says `mean`; float64 [pairs]."""

    def find(self, subject: Subject) -> Found:
        import torch

        if min(self.draws, self.bins) < 2 * self.stages:
            raise PartError(
                f"{self.draws} draws in {self.bins} bins are too few for {self.stages} stages: set both to at least "
                f"{2 * self.stages}"
            )
        if self.bins > self.draws:
            raise PartError(f"{self.draws} draws leave some of {self.bins} bins empty: lower bins, or raise draws")
        schedule, points = subject.schedule, subject.points()
        schedule.slopes(schedule.t_max)  # told before anything is read
        times = drawn_times(subject, self.draws, *self.span(subject))
        look = self._of_data if self.run is None else self._of_run
        values, warnings = look(subject, points, times)
        once = torch.ones(1, self.draws, dtype=torch.float64)
        means, edges = self._edges(times, values, once, self.span(subject))
        samples = [
            self._edges(times, values, counts, self.span(subject))
            for counts in resampled(self.draws, RESAMPLED, subject.seed)
        ]
        bins = self._bins(times)
        low, high = zip(*intervals(torch.cat([mean for mean, _ in samples])), strict=True)
        curves = {"t": times, "monitor": values, "monitor_mean": means[0, bins]}
        bands = {"monitor_low": torch.tensor(low)[bins], "monitor_high": torch.tensor(high)[bins]}
        return Found(
            edges_t=tuple(edges[0].tolist()),
            curves={name: values.tolist() for name, values in (curves | bands).items()},
            intervals_t=intervals(torch.cat([edges for _, edges in samples])),
            warnings=warnings,
        )

    def _of_data(self, subject: Subject, points: Points, times: "Tensor") -> "tuple[Tensor, tuple[str, ...]]":
        """The monitor of the optimal denoiser at the times drawn, and what to say about the data."""
        import torch

        schedule, data, done = subject.schedule, Scaled(points, self.pixels), 0
        values: list[Tensor] = []
        warnings: tuple[str, ...] = ()
        for piece in self.pieces(subject, points, schedule.ratio(times)[:, None]):
            warnings = self.range_warnings(points, piece.found)
            here = times[done : done + len(piece.clean)]
            probe = torch.randn(piece.clean.shape, generator=_probes(subject.seed, done), dtype=torch.float64)
            mean = piece.mean[:, 0]
            found = moments(
                data,
                piece.clean.float(),
                piece.noise.float(),
                piece.ratios[:, 0],
                mean,
                probe.to(piece.clean),
                changes=self.changes,
                group=subject.group,
            )
            y = piece.clean + piece.ratios * piece.noise
            values.append(self.monitor(schedule, here, y, mean, found).cpu())
            done += len(here)
        return torch.cat(values), warnings

    def _of_run(self, subject: Subject, points: Points, times: "Tensor") -> "tuple[Tensor, tuple[str, ...]]":
        """The monitor of a run's denoiser at the same times, images and noise; processes share them."""
        import torch

        assert self.run is not None
        if self.pixels != "-1..1":
            raise PartError('networks see pixels in [-1, 1]: with a run, set pixels = "-1..1" or leave it out')
        schedule, rank = subject.schedule, subject.group.rank
        estimate, data = subject.denoiser(self.run), Scaled(points, self.pixels)
        images = drawn_points(subject, points, self.draws)
        values = torch.zeros(self.draws, dtype=torch.float64)
        for start in range(AT_A_TIME * rank.index, self.draws, AT_A_TIME * rank.count):
            rows = range(start, min(start + AT_A_TIME, self.draws))
            here, picked = times[rows.start : rows.stop], images[rows.start : rows.stop]
            ratios = schedule.ratio(here)
            clean = data.take(picked).double()
            y = clean + ratios[:, None] * drawn_noise(subject, points, rows).double()
            probe = torch.randn(y.shape, generator=_probes(subject.seed, start), dtype=torch.float64)
            y, probe = y.to(subject.device), spherical(probe).to(subject.device)
            mean, found = measured(estimate, y, ratios, probe, picked, changes=self.changes)
            values[rows.start : rows.stop] = self.monitor(schedule, here, y, mean, found).cpu()
            subject.progress(rows.stop, self.draws)
        return subject.group.total(values), ()

    def _bins(self, times: "Tensor") -> "Tensor":
        """The bin of every draw."""
        import torch

        return torch.arange(len(times)) * self.bins // len(times)

    def _edges(
        self, times: "Tensor", values: "Tensor", counts: "Tensor", span: tuple[float, float]
    ) -> "tuple[Tensor, Tensor]":
        """Of each sample the mean monitor in the bins, and the edges, [samples, stages - 1].

        `counts` [samples, draws] says how often a draw is in it.
        """
        import torch

        bins = self._bins(times)
        ends = torch.tensor(
            [span[0], *((times[1:] + times[:-1]) / 2)[bins.diff() > 0].tolist(), span[1]], dtype=torch.float64
        )
        into = torch.nn.functional.one_hot(bins, self.bins).double()
        mean = (counts * values) @ into / (counts @ into).clamp(min=1)
        below = (mean.clamp(min=0) ** self.exponent * ends.diff()).cumsum(1)
        below = torch.cat([torch.zeros(len(below), 1, dtype=torch.float64), below], 1)
        if not bool((below[:, -1] > 0).all()):
            raise PartError("the velocity changes nowhere, so there is nothing to share: use more images")
        wanted = below[:, -1:] * torch.arange(1, self.stages, dtype=torch.float64) / self.stages
        left = (torch.searchsorted(below, wanted.contiguous()) - 1).clamp(0, self.bins - 1)
        low, high = below.gather(1, left), below.gather(1, left + 1)
        share = (wanted - low) / (high - low)
        return mean, ends[left] + share * (ends[left + 1] - ends[left])


def _probes(seed: int, first: int) -> Any:
    import torch

    return torch.Generator().manual_seed((seed * 1_000_003 + first * 7919 + 17) % 2**63)
