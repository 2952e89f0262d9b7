"""timm's learning-rate schedulers: `training.lr_schedule = { name = "timm", sched = "step" }`."""

import functools
from typing import Any, Literal, cast

import attrs
from attrs.validators import ge, gt, le

from msdk.lr_schedules.base import LRSchedule


@attrs.frozen(kw_only=True)
class TimmLRSchedule(LRSchedule):
    """A scheduler of timm, step by step; its warmup is `training.warmup`.

    Source: `timm.scheduler.create_scheduler_v2`. "plateau" looks at a metric, so it is no function of the step and not
    among them.

    Args:
        sched: Its name.
        min_lr: Factor at the end.
        decay: Factor of each decay, of "step" and "poly".
        every: Share of the training between decays, of "step".
        k: Exponent of the time, of "cosine" and "poly" (k-decay, arXiv 2004.05909).
    """

    sched: Literal["cosine", "tanh", "step", "poly"] = "cosine"
    min_lr: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    decay: float = attrs.field(default=0.1, validator=gt(0))
    every: float = attrs.field(default=0.3, validator=[gt(0), le(1)])
    k: float = attrs.field(default=1.0, validator=gt(0))

    def factor(self, iteration: int, iterations: int) -> float:
        optimizer, scheduler = _scheduler(self, iterations)
        scheduler.step_update(iteration)
        return float(optimizer.param_groups[0]["lr"])


@functools.lru_cache(maxsize=8)
def _scheduler(spec: TimmLRSchedule, iterations: int) -> tuple[Any, Any]:
    """A scheduler over a made-up weight whose learning rate is 1."""
    import torch
    from timm import scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    make: Any = cast("Any", scheduler).create_scheduler_v2
    made, _ = make(
        optimizer,
        sched=spec.sched,
        num_epochs=iterations,
        min_lr=spec.min_lr,
        decay_rate=spec.decay,
        decay_epochs=max(round(spec.every * iterations), 1),
        k_decay=spec.k,
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    return optimizer, made
