"""Any number of stages, inside which the optimal denoiser changes least."""

import math
from typing import TYPE_CHECKING

import attrs
from attrs.validators import ge, gt, le

from msdk.clusterings.base import Found, Interval, Subject
from msdk.clusterings.bootstrap import intervals, resampled
from msdk.clusterings.denoising import DenoiserClustering
from msdk.clusterings.segmentation import MOST_POINTS, Lengths, grid, within
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLED = 200
"""Bootstrap samples that the intervals of the edges come from."""


@attrs.frozen(kw_only=True)
class SimilarityMatrix(DenoiserClustering):
    """Contiguous stages with the highest mean similarity of the optimal denoiser between the times of a stage.

    S(t, t') is the share of pixels in which the optimal denoisers at t and t' differ by at most `eta`, each at its own
    x_t of the same image and noise (Eq. 5). Of all cuts of a time grid the one is taken for which the mean, over
    all times, of the mean similarity of a time to those of its stage is highest.
    Source: ours, from the paper's Eq. 5, which section 4.2 says generalises to any number of stages.

    Args:
        stages: Number of stages.
        points: Points of the time grid.
        draws: Number of noisy images; each (image, noise) is looked at at every point of the grid.
        eta: Largest difference of a pixel that counts as alike.
        pixels: Range that pixels are scaled to, which `eta` is relative to. Latents stay as they are.
        shortest: Least length of a stage as a share of the grid.
        longest: Largest length.
        t_first: Where the grid starts; the schedule's `t_min` if that is larger.
    """

    stages: int = attrs.field(default=3, validator=ge(2))
    points: int = attrs.field(default=100, validator=[ge(4), le(MOST_POINTS)])
    eta: float = attrs.field(default=2 / 256, validator=gt(0))
    shortest: float = attrs.field(default=0.0, validator=ge(0))
    longest: float = attrs.field(default=1.0, validator=gt(0))

    def find(self, subject: Subject) -> Found:
        lengths = Lengths.of_shares(self.points, self.stages, self.shortest, self.longest)
        times = grid(subject.schedule, self.points, self.span(subject)[0])
        by_pair, warnings = self.similarities(subject, times)
        similarity = by_pair.mean(0)
        cuts = within(similarity, self.stages, lengths)
        return Found(
            edges_t=tuple(times[cuts].tolist()),
            curves={"t": times.tolist()},
            matrices={"similarity": similarity.tolist()},
            intervals_t=self._bootstrapped(by_pair, times, lengths, subject.seed),
            warnings=warnings,
        )

    def similarities(self, subject: Subject, times: "Tensor") -> "tuple[Tensor, tuple[str, ...]]":
        """S(t, t') of every (image, noise), float64 [pairs, points, points], and what to say about the data."""
        import torch

        pairs = self.draws // self.points
        if pairs < 2:
            raise PartError(
                f"{self.draws} draws are too few for a time grid of {self.points} points, which all look at the "
                f"same images: set draws to at least {2 * self.points}, or points to at most {self.draws // 2}"
            )
        points = subject.points()
        ratios = subject.schedule.ratio(times).expand(pairs, -1)
        found: list[Tensor] = []
        warnings: tuple[str, ...] = ()
        for piece in self.pieces(subject, points, ratios):
            found += [_alike(excess.float(), self.eta).cpu() for excess in piece.excess()]
            warnings = self.range_warnings(points, piece.found)
        return torch.stack(found), warnings

    def _bootstrapped(self, by_pair: "Tensor", times: "Tensor", lengths: Lengths, seed: int) -> tuple[Interval, ...]:
        """Between which ends each edge lies with 95 %, if images and noise are drawn again."""
        import torch

        pairs = len(by_pair)
        edges: list[Tensor] = []
        for samples in resampled(pairs, RESAMPLED, seed):
            for counts in samples:
                similarity = torch.einsum("p,pst->st", counts / pairs, by_pair)
                edges.append(times[within(similarity, self.stages, lengths)])
        return intervals(torch.stack(edges))


def _alike(excess: "Tensor", eta: float) -> "Tensor":
    """Share of pixels in which each two rows of [points, d] differ by at most `eta`; float64 [points, points]."""
    import torch

    size = excess.shape[1]
    piece = max(2**22 // (math.prod(excess.shape)), 1)
    rows = [((part[:, None] - excess).abs_() <= eta).sum(2, dtype=torch.float64) / size for part in excess.split(piece)]
    return torch.cat(rows)
