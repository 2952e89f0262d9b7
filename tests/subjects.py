"""What clusterings look at in tests: points in memory, and subjects that refuse what is not said to be needed."""

import pytest
import torch

from msdk.clusterings.base import Points, Subject
from msdk.schedules.vp import VPLinear


class InMemory(Points):
    """Points [n, d] in blocks of a given length."""

    def __init__(self, values, *, length=7, pixels=True):
        self.values, self.length, self.pixels = values, length, pixels
        self.count, self.size = values.shape

    @property
    def block_count(self):
        return -(-self.count // self.length)

    def take(self, indices):
        return self.values[list(indices)]

    def blocks(self, first=0, step=1):
        yield from self.values.split(self.length)[first::step]


def few_images(count=60, *, seed=0, size=3 * 8 * 8):
    """Points of whole numbers in 0 .. 255, float32 [count, size]."""
    return torch.randint(0, 256, (count, size), generator=torch.Generator().manual_seed(seed)).float()


def subject(values=None, *, length=7, pixels=True, schedule=None, **other):
    """A subject with these points, those of `few_images` by default."""
    points = InMemory(few_images() if values is None else values, length=length, pixels=pixels)
    return Subject(schedule=schedule or VPLinear(), points=lambda: points, **other)


def limited(clustering, whole):
    """The subject with what the strategy says it needs; anything else fails the test."""

    def refused(*arguments, **named):
        pytest.fail("a strategy asked for what it does not say it needs")

    names = {"data": "points", "calls": "calls", "models": "models"}
    kept = {field: getattr(whole, field) if need in clustering.needs else refused for need, field in names.items()}
    return Subject(schedule=whole.schedule, seed=whole.seed, **kept)
