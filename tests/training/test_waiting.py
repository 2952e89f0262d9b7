"""Promise of the loop: nothing of a step waits for the device, so that the host is ahead of it between log lines.

Tensors of the meta device have no numbers, so looking at one fails wherever it happens, and what stands beside it is
seen by operator: copies that are not asked to be asynchronous, and indices that lie on the other side.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from msdk.distributed import Rank
from msdk.training import step
from msdk.training.drawing import Feed
from msdk.training.loop import Trainer
from recipes import AUTOENCODER, tiny

COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default)


class Watch(TorchDispatchMode):
    """Fails on what would make a host wait for its device, were that what the meta device stands for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        sides = {leaf.device.type for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, torch.Tensor)}
        if len(sides) > 1 and func in COPIES:
            blocking = not (kwargs.get("non_blocking") or (func is COPIES[1] and len(args) > 2 and args[2]))
            assert not blocking, f"{func} waits for the device: {[tuple(leaf.shape) for leaf in tree_leaves(args)[:2]]}"
        if len(sides) > 1 and func in INDEXING:
            raise AssertionError(f"{func} with indices on the other side")
        return found


class LoggedError(Exception):
    """Training has come to a log line."""


def steps(recipe, monkeypatch, rank=None):
    """Trains on a device without numbers until the first log line."""
    monkeypatch.setattr(step, "autocast", lambda recipe, device: torch.autocast("cpu", enabled=False))
    trainer = Trainer(recipe, None, recipe.data.open(), [], "meta")
    if rank is not None:
        trainer.feed = Feed(recipe, trainer.step.denoiser, trainer.feed.source, rank)

    def log(*_):
        raise LoggedError

    monkeypatch.setattr(trainer, "_log", log)
    with Watch(), pytest.raises(LoggedError):
        trainer.run(lambda step: None)
    assert trainer.iteration == recipe.training.log_every


EVERYTHING = (
    "encoder.classes=10",
    "encoder.augment=9",
    "training.augment=0.5",
    "training.label_dropout=0.3",
    "training.flip=true",
    "training.accumulation=2",
    "training.clip_norm=0.1",
    "training.sanitize=true",
    "training.recompute=true",
    "training.ema_half_life=1000",
)


@pytest.mark.parametrize(
    ("settings", "rank"),
    [
        ((), None),
        (EVERYTHING, None),
        (EVERYTHING, Rank(1, 2)),
        (("sharing=separate", "training.mixed=false", "training.objective={name='uncertainty'}"), None),
        (("training.clip_norm=0",), None),
        ((f"autoencoder={AUTOENCODER}}}",), None),
        (("training.gradients={name='nash-mtl', every=2}",), None),
    ],
    ids=["plain", "everything", "one of two processes", "separate", "unclipped", "latents", "gradients"],
)
def test_no_step_waits(settings, rank, monkeypatch):
    """Reading, drawing, augmenting, routing, losses, clipping, the optimiser and averages."""
    recipe = tiny(*settings, "training.log_every=3", "training.optimizer={name='sgd'}")
    steps(recipe, monkeypatch, rank)


def test_waiting_is_seen(monkeypatch):
    """The watch is awake: a number that is looked at, a copy that is waited for, and a foreign index fail."""
    recipe = tiny("training.log_every=1", "training.optimizer={name='sgd'}")

    def looking(given, change):
        feed = Feed.__call__

        def fed(self, iteration):
            work = feed(self, iteration)
            change(work)
            return work

        monkeypatch.setattr(Feed, "__call__", fed)
        with pytest.raises((RuntimeError, AssertionError), match=given):
            steps(recipe, monkeypatch)
        monkeypatch.setattr(Feed, "__call__", feed)

    looking("meta", lambda work: work.draw.noise.sum().item())
    looking("waits for the device", lambda work: work.draw.times.to("meta"))
    looking("other side", lambda work: work.draw.noise[work.draw.stages])
