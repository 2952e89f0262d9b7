"""Stages between which the optimal denoiser changes: the paper's own strategy."""

from typing import TYPE_CHECKING, ClassVar, Literal

import attrs
from attrs.validators import ge, gt, in_, le

from msdk.clusterings.base import Clustering, Found, Images, Progress
from msdk.errors import PartError
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

DRAW_BLOCK, DATA_BLOCK = 1024, 4096
"""Noisy images and data images per matrix product: 1024 x 4096 weights and the blocks stay below 200 MB."""


def posterior_mean(noisy: "Tensor", ratio: "Tensor", data: "Tensor", centre: "Tensor") -> "Tensor":
    """E[x_0 | x_t] of a finite data set, exactly: sum_i softmax_i(-|x_t/alpha - y_i|^2 / (2 ratio^2)) y_i.

    It is attention with the data as keys and values, so it streams over blocks of data with an online softmax; its
    memory does not grow with the data. Products are taken about `centre`, which keeps their float32 error small.
    Source: the paper's Proposition 1.

    Args:
        noisy: x_t / alpha, [k, d].
        ratio: sigma / alpha of each, [k].
        data: All images, [n, d].
        centre: [d], near the mean of the data.
    """
    import torch

    query = noisy - centre
    precision = ratio.to(noisy.dtype).reciprocal().square()[:, None]
    top = noisy.new_full((len(noisy), 1), -torch.inf)
    norm = torch.zeros_like(top)
    mean = torch.zeros_like(noisy)
    for block in data.split(DATA_BLOCK):
        keys = block - centre
        logits = (query @ keys.T - keys.square().sum(1) / 2) * precision
        highest = torch.maximum(top, logits.amax(1, keepdim=True))
        weights = (logits - highest).exp_()
        shrink = (top - highest).exp()
        norm = norm * shrink + weights.sum(1, keepdim=True)
        mean = mean * shrink + weights @ keys
        top = highest
    return mean / norm + centre


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
    """

    times: "Tensor"
    to_clean: "Tensor"
    to_noise: "Tensor"
    error: "Tensor"
    signal: "Tensor"


@attrs.frozen(kw_only=True)
class OptimalDenoiser(Clustering):
    """Three stages: where the optimal denoiser resembles that of clean data, that of pure noise, or neither.

    S(t) is the share of pixels in which two optimal denoisers differ by at most `eta`. The first edge is the last time
    up to which the mean S to the denoiser at t = 0 is at least `alpha`; the second is the first time from which the
    mean S to the denoiser at the largest time is.
    Source: the paper's section 4.2, Eq. 5 and Algorithm 1.

    Args:
        stages: Always 3: Algorithm 1 makes two edges.
        draws: Number of (image, noise, time) triples.
        eta: Largest difference of a pixel that counts as alike.
        alpha: Least mean similarity inside the outer stages.
        pixels: Range that pixels are scaled to, which `eta` is relative to. "0..1" reproduces the paper.
        reference: "limit" compares with the limit of large noise at the same x_t, where the posterior mean is the mean
            of the data; "literal" evaluates the last denoiser at its own x_1, as Eq. 5 is printed. The first
            reproduces the paper's edges.
        t_first: Smallest time drawn; the schedule's `t_min` if that is larger.
    """

    looks_at_data: ClassVar[bool] = True
    stages: int = attrs.field(default=3, validator=in_((3,)))
    draws: int = attrs.field(default=3000, validator=ge(10))
    eta: float = attrs.field(default=2 / 256, validator=gt(0))
    alpha: float = attrs.field(default=0.9, validator=[gt(0), le(1)])
    pixels: Literal["0..1", "-1..1"] = "0..1"
    reference: Literal["limit", "literal"] = "limit"
    t_first: float = attrs.field(default=1e-3, validator=gt(0))

    def find(self, schedule: Schedule, images: Images, *, seed: int, device: str, progress: Progress) -> Found:
        drawn = self.compared(schedule, images(), seed=seed, device=device, progress=progress)
        times, to_clean, to_noise = drawn.times, drawn.to_clean, drawn.to_noise
        count = times.new_tensor(range(1, len(times) + 1))
        from_clean = to_clean.cumsum(0) / count
        from_noise = (to_noise.flip(0).cumsum(0) / count).flip(0)
        edges: list[float] = []
        for name, running, last in (("first", from_clean, True), ("second", from_noise, False)):
            good = (running >= self.alpha).nonzero().flatten()
            if len(good) == 0:
                raise PartError(
                    f"no {name} edge: the mean similarity reaches at most {float(running.max()):.3f}, below "
                    f"alpha = {self.alpha}. Lower alpha, raise eta, or draw more."
                )
            edges.append(float(times[good[-1 if last else 0]]))
        if not schedule.t_min < edges[0] < edges[1] < schedule.t_max:
            raise PartError(
                f"the edges t = {edges[0]:.4f} and {edges[1]:.4f} leave no stage between or outside them: "
                f"raise alpha = {self.alpha} or lower eta = {self.eta:.4g}"
            )
        curves = {
            "t": times,
            "to_clean": to_clean,
            "to_noise": to_noise,
            "from_clean": from_clean,
            "from_noise": from_noise,
            "error": drawn.error,
            "signal": drawn.signal,
        }
        return Found((edges[0], edges[1]), {name: values.tolist() for name, values in curves.items()})

    def compared(
        self, schedule: Schedule, images: "Tensor", *, seed: int, device: str, progress: Progress
    ) -> "Comparison":
        """Draws (image, noise, time) and compares the optimal denoisers there."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        low, high = max(self.t_first, schedule.t_min), schedule.t_max
        times = low + (high - low) * torch.rand(self.draws, generator=generator, dtype=torch.float64)
        times = times.sort().values
        picks = torch.randint(len(images), (self.draws,), generator=generator)
        scale, shift = (255.0, 0.0) if self.pixels == "0..1" else (127.5, -1.0)
        data = images.flatten(1).to(device).float().div_(scale).add_(shift)
        centre = data.mean(0)
        ratios = schedule.ratio(times)
        last_ratio = schedule.ratio(schedule.t_max)
        to_clean, to_noise = list["Tensor"](), list["Tensor"]()
        missed, restored = list["Tensor"](), list["Tensor"]()
        for start in range(0, self.draws, DRAW_BLOCK):
            block = slice(start, start + DRAW_BLOCK)
            ratio = ratios[block].to(device)
            clean = data[picks[block].to(device)]
            noise = torch.randn(clean.shape, generator=generator).to(device)
            mean = posterior_mean(clean + ratio.float()[:, None] * noise, ratio, data, centre)
            error = (clean - mean).double()
            missed.append(error.square().mean(1).cpu())
            restored.append((mean - centre).double().square().mean(1).cpu())
            # eps*_t(x_t) - eps = (x_0 - E[x_0 | x_t]) / ratio, and eps is the optimal denoiser's answer at t = 0.
            excess = error / ratio[:, None]
            if self.reference == "limit":
                other = (clean - centre).double() / ratio[:, None]
            else:
                last = torch.full_like(ratio, last_ratio)
                last_mean = posterior_mean(clean + last_ratio * noise, last, data, centre)
                other = (clean - last_mean).double() / last_ratio
            to_clean.append((excess.abs() <= self.eta).double().mean(1).cpu())
            to_noise.append(((excess - other).abs() <= self.eta).double().mean(1).cpu())
            progress(min(start + DRAW_BLOCK, self.draws), self.draws)
        return Comparison(times, *map(torch.cat, (to_clean, to_noise, missed, restored)))
