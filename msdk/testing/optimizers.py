"""Laws of optimisers. Option: `lr`, a learning rate that suits a small convex problem."""

from typing import Any

import torch
from torch import Tensor, nn

from msdk.optimizers.base import Optimizer
from msdk.testing.laws import COMMON, LawError, require

LR = 1e-2


class _Problem:
    """Least squares with two weights, one of which has no gradient in odd steps, as an idle decoder has none."""

    def __init__(self, optimizer: Optimizer, lr: float) -> None:
        generator = torch.Generator().manual_seed(0)
        self.used = nn.Parameter(torch.randn(6, 5, generator=generator))
        self.idle = nn.Parameter(torch.randn(5, generator=generator))
        self.inputs = torch.randn(64, 6, generator=generator)
        self.wanted = torch.randn(64, 5, generator=generator)
        try:
            self.rule: Any = optimizer.build([self.used, self.idle], lr)
        except Exception as error:
            raise LawError(f"it cannot be built: {type(error).__name__}: {error}") from error

    def loss(self, *, both: bool = True) -> Tensor:
        return (self.inputs @ self.used + (self.idle if both else 0) - self.wanted).square().mean()

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last):
            self.rule.zero_grad(set_to_none=True)
            self.loss(both=step % 2 == 0).backward()
            self.rule.step()


def it_lowers_the_loss(optimizer: Optimizer, *, lr: float = LR) -> None:
    """A hundred steps bring a convex loss down."""
    problem = _Problem(optimizer, lr)
    before = float(problem.loss().detach())
    problem.steps(0, 100)
    after = float(problem.loss().detach())
    require(after < 0.98 * before, f"the loss was {before:.4f}, and is {after:.4f} after 100 steps with lr = {lr}")


def the_learning_rate_is_obeyed(optimizer: Optimizer, *, lr: float = LR) -> None:
    """Groups have an "lr" that training sets; at 0 nothing moves, be it the first step, as with `training.warmup`."""
    for done in (0, 2):
        problem = _Problem(optimizer, lr)
        require(all("lr" in group for group in problem.rule.param_groups), "a group of parameters has no lr")
        problem.steps(0, done)
        for group in problem.rule.param_groups:
            group["lr"] = 0.0
        before = problem.used.detach().clone()
        problem.steps(done, done + 1)
        step = "" if done else " at the first step"
        require(torch.equal(problem.used, before), f"with a learning rate of 0 the weights move{step}")


def idle_weights_stay(optimizer: Optimizer, *, lr: float = LR) -> None:
    """A weight without a gradient does not move: a decoder whose stage is not in a batch is left alone."""
    problem = _Problem(optimizer, lr)
    problem.steps(0, 1)
    before = problem.idle.detach().clone()
    problem.steps(1, 2)
    require(torch.equal(problem.idle, before), "a weight without a gradient moved")


def what_it_keeps_can_be_saved(optimizer: Optimizer, *, lr: float = LR) -> None:
    """Its state is tensors and numbers, of which a fresh one goes on as if nothing had happened."""
    whole, first = _Problem(optimizer, lr), _Problem(optimizer, lr)
    whole.steps(0, 12)
    first.steps(0, 6)
    second = _Problem(optimizer, lr)
    for mine, theirs in zip((second.used, second.idle), (first.used, first.idle), strict=True):
        mine.data.copy_(theirs.data)
        for key, value in first.rule.state.get(theirs, {}).items():
            require(
                value is None or isinstance(value, (Tensor, int, float)),
                f"its state '{key}' is a {type(value).__name__}, which checkpoints do not hold",
            )
            second.rule.state[mine][key] = value.clone() if isinstance(value, Tensor) else value
    for mine, theirs in zip(second.rule.param_groups, first.rule.param_groups, strict=True):
        kept = {key: value for key, value in theirs.items() if isinstance(value, (int, float, Tensor))}
        mine.update({key: value.clone() if isinstance(value, Tensor) else value for key, value in kept.items()})
    second.steps(6, 12)
    require(
        torch.allclose(second.used, whole.used, rtol=1e-6, atol=1e-7),
        "training that was stopped and resumed from its tensors and numbers goes another way",
    )


def it_keeps_as_much_as_it_says(optimizer: Optimizer, *, lr: float = LR) -> None:
    """`moments` is at least the tensors of a weight's own size that it keeps, so that budgets are enough."""
    problem = _Problem(optimizer, lr)
    problem.steps(0, 4)
    kept = sum(value.numel() for value in problem.rule.state[problem.used].values() if isinstance(value, Tensor))
    per = (kept - 1) / problem.used.numel()
    require(
        per <= optimizer.moments, f"it keeps {per:.2f} numbers for each weight, but `moments` is {optimizer.moments}"
    )


LAWS = (
    *COMMON,
    it_lowers_the_loss,
    the_learning_rate_is_obeyed,
    idle_weights_stay,
    what_it_keeps_can_be_saved,
    it_keeps_as_much_as_it_says,
)
