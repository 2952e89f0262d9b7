"""One run in float64 on any number of processes, and what becomes of it."""

import attrs
import torch

import msdk.training.loop
import msdk.training.step
from msdk.distributed import this_rank, together
from msdk.training.loop import Trainer

STILL = "decoders=[" + ", ".join(f'{{name="ddpmpp", channels={width}, dropout=0.0}}' for width in (12, 8, 4)) + "]"
"""Dropout is the one exception."""

EVERYTHING = (
    "encoder.classes=10",
    "encoder.augment=9",
    "training.augment=0.5",
    "training.label_dropout=0.3",
    "training.flip=true",
    "training.accumulation=2",
    "training.clip_norm=0.1",
    "training.recompute=true",
)


@attrs.frozen
class Trained:
    """What a process of a run has in the end.

    Attributes:
        weights: By name, whole.
        averages: Of the weights, whole.
        told: Of each step the stages of its images, and the loss of each stage.
        idle: Weights that had no gradient in the last step.
        kept: Numbers that this process keeps of weights, of averages, and of what the optimiser keeps.
        sent: Buckets of gradients that were sent before backward passes were over.
    """

    weights: dict
    averages: list
    told: list
    idle: set
    kept: tuple
    sent: int


def trained(recipe, folder, steps):
    """A run in float64, in this process of its group."""
    build, objective_of = msdk.training.loop.build, msdk.training.step.objective_of
    msdk.training.loop.build = lambda *given: build(*given).double()
    msdk.training.step.objective_of = lambda *given: objective_of(*given).double()
    try:
        with together(this_rank()) as group:
            return _trained(Trainer(recipe, folder, recipe.data.open(), [], "cpu", group), steps)
    finally:
        msdk.training.loop.build, msdk.training.step.objective_of = build, objective_of


def _trained(trainer, steps):
    told, feed, step, sent = [], trainer.feed, trainer.step, []

    def fed(iteration):
        work = feed(iteration)
        batch = work.batch._replace(images=work.batch.images.double())
        return work._replace(batch=batch, draw=attrs.evolve(work.draw, noise=work.draw.noise.double()))

    fed.before = feed.before
    trainer.feed = fed
    if step.sums is not None:
        finish = step.sums.finish

        def finished():
            sent.append(len(step.sums.sent))
            finish()

        step.sums.finish = finished
    for _ in range(steps):
        work, values = trainer.advance()
        sums = torch.zeros(3, dtype=torch.float64).index_add_(0, work.draw.stages, values)
        told.append((work.stages, trainer.group.total(sums)))
    names = [name for name, _ in step.trained.named_parameters()]
    state = step.optimizer.state
    return Trained(
        weights={name: whole(value) for name, value in step.trained.state_dict().items()},
        averages=[whole(average) for average in step.ema.averages],
        told=told,
        idle={name for name, weight in zip(names, step.own, strict=True) if weight.grad is None},
        kept=(
            sum(weight.numel() for weight in step.own),
            sum(own(average).numel() for average in step.ema.averages),
            sum(value.numel() for weight in step.own for value in state[weight].values() if value.ndim),
        ),
        sent=sum(sent),
    )


def own(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def assert_same(found, one):
    """In float64 several processes get the weights, averages and losses of one, to 1e-12 of the largest."""
    largest = max(float(weight.abs().max()) for weight in one.weights.values())
    assert found.weights.keys() == one.weights.keys()
    for name, weight in one.weights.items():
        torch.testing.assert_close(found.weights[name], weight, rtol=1e-12, atol=1e-12 * largest)
    for mine, average in zip(found.averages, one.averages, strict=True):
        torch.testing.assert_close(mine, average, rtol=1e-12, atol=1e-12 * largest)
    for (stages, sums), (same, mine) in zip(one.told, found.told, strict=True):
        assert torch.equal(stages, same)
        torch.testing.assert_close(mine, sums, rtol=1e-11, atol=1e-11)
    assert found.idle == one.idle
