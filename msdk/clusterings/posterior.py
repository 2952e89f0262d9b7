"""E[x_0 | x_t] of a finite data set, exactly, at many noisy points at once and with the data read block by block.

It is attention whose keys and values are the data, so it streams: a softmax over blocks needs only the largest logit,
the sum of weights and the weighted sum so far. Its memory does not grow with the data, and its two matrix products per
block are nearly all of its time.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from msdk.clusterings.base import Points
from msdk.distributed import Group
from msdk.errors import PartError
from msdk.threads import threads_for

if TYPE_CHECKING:
    from torch import Tensor

Range = Literal["0..1", "-1..1"]

NEGLIGIBLE = 30.0
"""A block is skipped where all its weights together are below exp(-30) = 1e-13 of the largest one known."""

ZERO = 69.0
"""A weight below exp(-69) = 1e-30 of the largest one is an exact zero.

All of a million of them are less than float64 can tell. Left as they are, those below 1e-38 are subnormal float32
numbers, with which products are a hundred times slower on many processors; and 1e-30 times a coordinate is not one yet.
"""

CENTRE = 256
"""How many points the centre is the mean of; it has to be near the mean of the data, no more."""


@attrs.frozen
class Scaled:
    """Points with pixels brought to a range; latents, which have none, stay as they are."""

    points: Points
    pixels: Range

    def __call__(self, raw: "Tensor") -> "Tensor":
        if not self.points.pixels:
            return raw
        return raw / 255 if self.pixels == "0..1" else raw / 127.5 - 1

    def take(self, indices: Sequence[int]) -> "Tensor":
        return self(self.points.take(indices))

    def blocks(self, group: Group) -> "Iterator[Tensor]":
        """The share of the blocks that is this process's."""
        return map(self, self.points.blocks(group.rank.index, group.rank.count))


@attrs.frozen
class Posterior:
    """What one reading of the data gives.

    Attributes:
        mean: E[x_0 | x_t] at every pair and ratio, float64 [pairs, ratios, d].
        data_mean: Mean of the data, float64 [d].
        variance: Mean over the d coordinates of the variance of the data.
        low: Smallest number in the data, after scaling.
        high: The largest.
    """

    mean: "Tensor"
    data_mean: "Tensor"
    variance: float
    low: float
    high: float


def posterior(
    data: Scaled,
    clean: "Tensor",
    noise: "Tensor",
    ratios: "Tensor",
    *,
    group: Group | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Posterior:
    """E[x_0 | x_t] = sum_i w_i y_i, w = softmax_i(-|x - y_i|^2 / (2 ratio^2)) at x = x_t / alpha = x_0 + ratio eps.

    With x_0 and the data y_i taken about a centre near their mean, which keeps float32 products exact enough, the
    logits relative to that of x_0 itself are A / ratio^2 + B / ratio, A = x_0 y_i - |y_i|^2/2 - |x_0|^2/2 and
    B = eps (y_i - x_0). So all ratios of a pair (x_0, eps) share two inner products; and as x_0 is one of the data, 0
    is known to be among the logits before any block is read: rows whose logits all lie far below take no part in the
    second product. Sums run in float64.
    Source: the paper's Proposition 1; the online softmax is Milakov and Gimelshein 2018, arXiv 1805.02867.

    Args:
        data: The points.
        clean: x_0, [pairs, d]: points of the data.
        noise: eps, [pairs, d].
        ratios: sigma / alpha, float64 [pairs, ratios].
        group: Processes that read a share of the blocks each and put the sums together.
        progress: Told (blocks read, blocks in all).

    Raises:
        PartError: The data are not finite.
    """
    import torch

    group = group or Group()
    sums = Sums(data, clean, noise, ratios)
    total = math.ceil((data.points.block_count - group.rank.index) / group.rank.count)
    count, size = data.points.count, data.points.size
    with threads_for(ratios.numel() * size * count / data.points.block_count):
        for done, block in enumerate(data.blocks(group), start=1):
            sums.add(block)
            progress(done, total)
    top = group.highest(sums.top)
    shrink = negligible_as_zero(sums.top - top)
    norm = group.total(sums.norm * shrink)
    mean = group.total(sums.mean.mul_(shrink[:, None])).div_(norm[:, None]).add_(sums.centre)
    offset = group.total(sums.sum) / count
    square = group.total(sums.square) / count
    low, high = group.highest(torch.stack([-sums.low, sums.high])).tolist()
    return Posterior(
        mean.view(*ratios.shape, size),
        sums.centre + offset,
        max(float(square - offset.square().sum()) / size, 0.0),
        -low,
        high,
    )


def negligible_as_zero(logits: "Tensor") -> "Tensor":
    """exp(logits) in their place, for logits of at most 0: what is negligible (`ZERO`) becomes an exact zero."""
    from torch.nn.functional import threshold

    return threshold(logits, -ZERO, -math.inf, inplace=True).exp_()


class Sums:
    """What is known of the softmax and of the data after some blocks; a row is a pair at a ratio."""

    def __init__(self, data: Scaled, clean: "Tensor", noise: "Tensor", ratios: "Tensor") -> None:
        import torch

        device, real = clean.device, torch.float64
        centre = data.take(range(min(CENTRE, data.points.count))).to(device, clean.dtype).mean(0)
        self._centre, self._pixels = centre, data.points.pixels
        pairs, times = ratios.shape
        ratios = ratios.to(device)
        x_0 = clean - centre
        half = x_0.square().sum(1, dtype=real) / 2
        self._inverse = ratios.reciprocal()[..., None].to(clean.dtype)
        if times == 1:
            query = noise * ratios.to(clean.dtype) + x_0
            self._queries, own = [query], (query * x_0).sum(1, dtype=real) - half
            reach = query.norm(dim=1, dtype=real)
            self._own = [own[:, None].to(clean.dtype)]
        else:
            self._queries = [x_0, noise]
            own = [half, (noise * x_0).sum(1, dtype=real)]
            self._own = [each[:, None].to(clean.dtype) for each in own]
            reach = x_0.norm(dim=1, dtype=real)[:, None] + ratios * noise.norm(dim=1, dtype=real)[:, None]
        # The logit of x_0 itself is 0 up to the rounding of the products.
        rounding = 64 * torch.finfo(clean.dtype).eps * reach.view(pairs, -1) * x_0.norm(dim=1, dtype=real)[:, None]
        self._floor = -(rounding / ratios.square()).flatten()
        rows = pairs * times
        self._skip = NEGLIGIBLE + math.log(data.points.count)
        self.centre = centre.to(real)
        self.top = torch.full((rows,), -torch.inf, dtype=real, device=device)
        self.norm = torch.zeros_like(self.top)
        self.mean = torch.zeros(rows, len(centre), dtype=real, device=device)
        self.sum, self.square = torch.zeros_like(self.centre), self.top.new_zeros(())
        self.low, self.high = self.top.new_tensor(torch.inf), self.top.new_tensor(-torch.inf)

    def add(self, block: "Tensor") -> None:
        import torch

        low, high = block.aminmax()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise PartError(f"the {'images' if self._pixels else 'latents'} hold numbers that are not finite")
        self.low, self.high = torch.minimum(self.low, low.to(self.low)), torch.maximum(self.high, high.to(self.high))
        keys = block.to(self._centre) - self._centre
        squares = keys.square().sum(1, dtype=torch.float64)
        self.sum += keys.sum(0, dtype=torch.float64)
        self.square += squares.sum()
        logits = self._logits(keys, squares.to(keys.dtype) / 2)
        highest = logits.amax(1).double()
        # One wait for the device a block, against two products of many billion operations.
        rows = (highest > torch.maximum(self.top, self._floor) - self._skip).nonzero().squeeze(1)
        if len(rows) < len(logits):
            logits, highest = logits[rows], highest[rows]
        top = torch.maximum(self.top[rows], highest)
        weights = negligible_as_zero(logits.sub_(top.to(logits.dtype)[:, None]))
        shrink = negligible_as_zero(self.top[rows] - top)
        self.norm[rows] = self.norm[rows] * shrink + weights.sum(1, dtype=torch.float64)
        product = (weights @ keys).double()
        self.mean[rows] = product.addcmul_(self.mean[rows], shrink[:, None])
        self.top[rows] = top
        self.gather(rows, weights, keys, squares, shrink)

    def gather(self, rows: "Tensor", weights: "Tensor", keys: "Tensor", squares: "Tensor", shrink: "Tensor") -> None:
        """Takes in what more is summed under these weights; `shrink` is for what was summed before."""

    def _logits(self, keys: "Tensor", half: "Tensor") -> "Tensor":
        """Of every row and key, relative to that of x_0 itself; [rows, keys]."""
        import torch

        inner = torch.addmm(half, self._queries[0], keys.T, beta=-1).sub_(self._own[0])
        if len(self._queries) == 1:
            return inner.mul_(self._inverse.squeeze(1).square())
        across = (self._queries[1] @ keys.T).sub_(self._own[1])
        return ((inner[:, None] * self._inverse).add_(across[:, None]) * self._inverse).flatten(0, 1)
