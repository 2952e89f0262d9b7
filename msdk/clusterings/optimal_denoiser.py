"""Stages between which the optimal denoiser changes: the paper's own strategy."""

from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, gt, le

from msdk.clusterings.base import Found, Interval, Subject
from msdk.clusterings.bootstrap import intervals, resampled
from msdk.clusterings.denoising import DenoiserClustering, drawn_times
from msdk.clusterings.similarity_matrix import SimilarityMatrix
from msdk.errors import PartError

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLED = 1000
"""Bootstrap samples that the intervals of the edges come from."""


@attrs.frozen
class Comparison:
    """Optimal denoisers at the times drawn; all float64 [k], by growing time.

    Attributes:
        times: In the time of the schedule.
        to_clean: Share of pixels in which the denoiser resembles that of clean data.
        to_noise: The same with that of pure noise.
        error: Mean over pixels of (x_0 - E[x_0 | x_t])^2, in squares of the pixels' range.
        signal: Mean over pixels of (E[x_0 | x_t] - E x_0)^2. By the law of total variance the expectations of both add
            up to the variance of the data.
        warnings: What to say about the data.
    """

    times: "Tensor"
    to_clean: "Tensor"
    to_noise: "Tensor"
    error: "Tensor"
    signal: "Tensor"
    warnings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class OptimalDenoiser(DenoiserClustering):
    """Three stages: where the optimal denoiser resembles that of clean data, that of pure noise, or neither.

    S(t) is the share of pixels in which two optimal denoisers differ by at most `eta`. The first edge is the last time
    up to which the mean S to the denoiser at t = 0 is at least `alpha`; the second is the first time from which the
    mean S to the denoiser at the largest time is. Another number of stages is cut by `similarity-matrix`, with the same
    `draws`, `eta`, `pixels` and `t_first`.
    Source: the paper, arXiv 2312.09181, section 4.2, Eq. 5 and Algorithm 1.

    Args:
        stages: Number of stages; Algorithm 1 makes three.
        draws: Number of (image, noise, time) triples.
        eta: Largest difference of a pixel that counts as alike.
        alpha: Least mean similarity inside the outer stages.
        pixels: Range that pixels are scaled to, which `eta` is relative to. "0..1" reproduces the paper. Latents stay
            as they are, and `eta` is a difference of latents.
        reference: "limit" compares with the limit of large noise at the same x_t, where the posterior mean is the mean
            of the data; "literal" evaluates the last denoiser at its own x_1, as Eq. 5 is printed. The first
            reproduces the paper's edges.
        t_first: Smallest time drawn; the schedule's `t_min` if that is larger.
    """

    stages: int = attrs.field(default=3, validator=ge(2))
    eta: float = attrs.field(default=2 / 256, validator=gt(0))
    alpha: float = attrs.field(default=0.9, validator=[gt(0), le(1)])
    reference: Literal["limit", "literal"] = "limit"

    def find(self, subject: Subject) -> Found:
        if self.stages != 3:
            matrix = SimilarityMatrix(
                stages=self.stages, draws=self.draws, eta=self.eta, pixels=self.pixels, t_first=self.t_first
            )
            return matrix.find(subject)
        drawn = self.compared(subject)
        from_clean, from_noise = _running(drawn.to_clean), _running(drawn.to_noise.flip(0)).flip(0)
        for name, running in (("first", from_clean), ("second", from_noise)):
            if bool((running < self.alpha).all()):
                what = (
                    f"no {name} edge: the mean similarity reaches at most {float(running.max()):.3f}, below "
                    f"alpha = {self.alpha}. Lower alpha, raise eta, or draw more."
                )
                raise PartError(" ".join([what, *drawn.warnings]))
        first, second = (float(edge) for edge in _edges(drawn, self.alpha, None))
        schedule = subject.schedule
        if not schedule.t_min < first < second < schedule.t_max:
            what = (
                f"the edges t = {first:.4f} and {second:.4f} leave no stage between or outside them: raise "
                f"alpha = {self.alpha} or lower eta = {self.eta:.4g}, or cut the time of another schedule: "
                'stages.schedule = { name = "vp-linear" }.'
            )
            raise PartError(" ".join([what, *drawn.warnings]))
        curves = {
            "t": drawn.times,
            "to_clean": drawn.to_clean,
            "to_noise": drawn.to_noise,
            "from_clean": from_clean,
            "from_noise": from_noise,
            "error": drawn.error,
            "signal": drawn.signal,
        }
        return Found(
            edges_t=(first, second),
            curves={name: values.tolist() for name, values in curves.items()},
            intervals_t=_bootstrapped(drawn, self.alpha, subject.seed),
            warnings=drawn.warnings,
        )

    def compared(self, subject: Subject) -> Comparison:
        """Draws (image, noise, time) and compares the optimal denoisers there."""
        import torch

        schedule, points = subject.schedule, subject.points()
        times = drawn_times(subject, self.draws, *self.span(subject))
        ratios = [schedule.ratio(times)]
        if self.reference == "literal":
            ratios.append(torch.full_like(times, schedule.ratio(schedule.t_max)))
        values: list[Tensor] = []
        warnings: tuple[str, ...] = ()
        for piece in self.pieces(subject, points, torch.stack(ratios, 1)):
            excess = piece.excess()
            centre = piece.data_mean
            other = (piece.clean - centre) / piece.ratios[:, :1] if self.reference == "limit" else excess[:, 1]
            at_t, mean = excess[:, 0], piece.mean[:, 0]
            measured = [
                (at_t.abs() <= self.eta).double().mean(1),
                ((at_t - other).abs() <= self.eta).double().mean(1),
                (piece.clean - mean).square().mean(1),
                (mean - centre).square().mean(1),
            ]
            values.append(torch.stack(measured).cpu())
            warnings = self.range_warnings(points, piece.found)
        to_clean, to_noise, error, signal = torch.cat(values, 1)
        return Comparison(times, to_clean, to_noise, error, signal, warnings)


def _running(values: "Tensor") -> "Tensor":
    """The mean of the first 1, 2, 3, ... values."""
    import torch

    return values.cumsum(0) / torch.arange(1, len(values) + 1, dtype=values.dtype)


def _edges(drawn: Comparison, alpha: float, weights: "Tensor | None") -> "Tensor":
    """Both edges, [2] or [2, samples]; `weights` [samples, k] counts how often each triple was drawn.

    A sample without an edge gives NaN.
    """
    import torch

    counts = torch.ones(1, len(drawn.times), dtype=torch.float64) if weights is None else weights
    found: list[Tensor] = []
    for values, from_last in ((drawn.to_clean, False), (drawn.to_noise, True)):
        order = torch.arange(len(values)).flip(0) if from_last else torch.arange(len(values))
        each = counts[:, order]
        running = (each * values[order]).cumsum(1) / each.cumsum(1)
        good = (running >= alpha) & (each > 0)
        last = (good * torch.arange(1, len(values) + 1)).amax(1)
        times = drawn.times[order][(last - 1).clamp(min=0)]
        found.append(torch.where(last > 0, times, torch.nan))
    edges = torch.stack(found)
    return edges[:, 0] if weights is None else edges


def _bootstrapped(drawn: Comparison, alpha: float, seed: int) -> tuple[Interval, ...]:
    """Between which ends each edge lies with 95 %, if the triples are drawn again."""
    import torch

    edges = [_edges(drawn, alpha, counts) for counts in resampled(len(drawn.times), RESAMPLED, seed)]
    return intervals(torch.cat(edges, 1).T)
