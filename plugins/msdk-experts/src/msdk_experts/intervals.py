"""A weight for each interval of noise levels, and the weights that uncertainty weighting settles at."""

import json
from pathlib import Path
from typing import Any

import attrs
from attrs.validators import deep_iterable, gt, min_len

from msdk.errors import RunError
from msdk.schedules.base import Schedule, Time
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class Intervals(Weighting):
    """The simple loss of the noise, with a factor for each interval of the ratio: time intervals as tasks (ANT).

    Source: Go et al. 2023, arXiv 2306.00354, section 4.3, with uncertainty weighting (Kendall et al. 2018, arXiv
    1705.07115): a task with loss L has the weight exp(-s) and the penalty s, which is least at exp(-s) = 1 / L. That is
    what `msdk-experts uncertainty RUN` reads off a run; here the weights are fixed.

    Args:
        edges_ratio: Interior edges, ascending: those of a clustering, for example.
        factors: One for each interval, least noise first.
    """

    edges_ratio: tuple[float, ...] = attrs.field(default=(1.0,), validator=deep_iterable(gt(0)))
    factors: tuple[float, ...] = attrs.field(default=(1.0, 1.0), validator=[min_len(1), deep_iterable(gt(0))])

    def __attrs_post_init__(self) -> None:
        if len(self.factors) != len(self.edges_ratio) + 1:
            raise ValueError(
                f"{len(self.edges_ratio)} edges make {len(self.edges_ratio) + 1} intervals, but there are "
                f"{len(self.factors)} factors"
            )
        if list(self.edges_ratio) != sorted(set(self.edges_ratio)):
            raise ValueError(f"edges_ratio have to ascend, got {list(self.edges_ratio)}")

    def weight(self, schedule: Schedule, t: Time) -> Time:
        return self._factor(schedule.ratio(t)) / schedule.ratio(t) ** 2

    def _factor(self, ratio: Any) -> Any:
        """Of the interval; an edge belongs to the lower one, as with stages."""
        if isinstance(ratio, float):
            return self.factors[sum(edge < ratio for edge in self.edges_ratio)]
        import torch

        edges = torch.tensor(self.edges_ratio, dtype=ratio.dtype, device=ratio.device)
        factors = torch.tensor(self.factors, dtype=ratio.dtype, device=ratio.device)
        return factors[torch.bucketize(ratio, edges)]


def uncertainty(run: str | Path, last: int = 10) -> tuple[float, ...]:
    """1 / loss of each stage over the last lines of a run's metrics, scaled to a mean of 1.

    Args:
        run: A run folder whose stages are the intervals.
        last: Lines of metrics.jsonl that are averaged.

    Raises:
        RunError: There are no metrics, or a stage has no loss among these lines.
    """
    file = Path(run) / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[-last:]]
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    if not lines:
        raise RunError(f"{file} is empty: train for longer")
    weights: list[float] = []
    for stage in range(len(lines[0]["loss_by_stage"])):
        losses = [line["loss_by_stage"][stage] for line in lines if line["loss_by_stage"][stage] is not None]
        if not losses or sum(losses) <= 0:
            raise RunError(f"stage {stage} has no loss in the last {last} lines of {file}")
        weights.append(len(losses) / sum(losses))
    mean = sum(weights) / len(weights)
    return tuple(weight / mean for weight in weights)
