"""Stages with equal shares of the optimal denoiser's error."""

from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, le

from msdk.clusterings.base import Found, Subject
from msdk.clusterings.bootstrap import intervals, resampled
from msdk.clusterings.denoising import MOST_DRAWS, DenoiserClustering, drawn_times
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import Tensor


RESAMPLED = 1000
"""Bootstrap samples that the intervals of the edges come from."""


@attrs.frozen(kw_only=True)
class EqualError(DenoiserClustering):
    """Stages in each of which the optimal denoiser, at times drawn uniformly, errs by the same sum of squares.

    It is what no network can learn of the training data, so it says where the loss of a well-trained model lies.
    Source: ours, after the loss-based intervals of Lee et al. 2023, arXiv 2306.04990.

    Args:
        stages: Number of stages.
        draws: Number of (image, noise, time) triples.
        of: "eps" takes the error of the noise, |eps* - eps|^2, the paper's Eq. 2; "x0" that of the image, which is it
            times ratio^2.
        pixels: Range that pixels are scaled to; shares of the error do not depend on it but for the noise's size.
        t_first: Smallest time drawn; the schedule's `t_min` if that is larger.
    """

    stages: int = attrs.field(default=3, validator=ge(2))
    draws: int = attrs.field(default=2000, validator=[ge(10), le(MOST_DRAWS)])
    of: Literal["eps", "x0"] = "eps"

    def find(self, subject: Subject) -> Found:
        import torch

        schedule, points = subject.schedule, subject.points()
        if self.draws < 10 * self.stages:
            raise PartError(
                f"{self.draws} draws are too few for {self.stages} stages: set draws to at least {10 * self.stages}"
            )
        times = drawn_times(subject, self.draws, *self.span(subject))
        measured: list[Tensor] = []
        warnings: tuple[str, ...] = ()
        for piece in self.pieces(subject, points, schedule.ratio(times)[:, None]):
            measured.append(piece.excess()[:, 0].square().mean(1).cpu())
            warnings = self.range_warnings(points, piece.found)
        errors = torch.cat(measured)
        if self.of == "x0":
            errors = errors * schedule.ratio(times).square()
        if not float(errors.sum()) > 0:
            raise PartError("the optimal denoiser errs nowhere, so there is nothing to share: use more images")
        once = torch.ones(1, self.draws, dtype=torch.float64)
        edges = self._edges(times, errors, once)[0]
        samples = [self._edges(times, errors, counts) for counts in resampled(self.draws, RESAMPLED, subject.seed)]
        curves = {"t": times, "error": errors, "share": errors.cumsum(0) / errors.sum()}
        return Found(
            edges_t=tuple(edges.tolist()),
            curves={name: values.tolist() for name, values in curves.items()},
            intervals_t=intervals(torch.cat(samples)),
            warnings=warnings,
        )

    def _edges(self, times: "Tensor", errors: "Tensor", counts: "Tensor") -> "Tensor":
        """The edges of each sample, [samples, stages - 1]; `counts` [samples, draws] says how often a draw is in it."""
        import torch

        below = (counts * errors).cumsum(1)
        shares = torch.arange(1, self.stages, dtype=torch.float64) / self.stages
        return times[torch.searchsorted(below / below[:, -1:], shares.expand(len(counts), -1).contiguous())]
