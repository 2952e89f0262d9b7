"""Subjects for tests of clusterings: points in memory, and a subject that refuses what is not said to be needed."""

import pytest

from msdk.clusterings.base import Subject
from msdk.schedules.vp import VPLinear
from msdk.testing.clusterings import PointsInMemory, few_images


def subject(values=None, *, length=7, pixels=True, schedule=None, **other):
    """A subject with these points, those of `few_images` by default."""
    points = PointsInMemory(few_images() if values is None else values, length=length, pixels=pixels)
    return Subject(schedule=schedule or VPLinear(), points=lambda: points, **other)


def limited(clustering, whole):
    """The subject with what the strategy says it needs; anything else fails the test."""

    def refused(*arguments, **named):
        pytest.fail("a strategy asked for what it does not say it needs")

    names = {"data": "points", "calls": "calls", "models": "models", "denoiser": "denoiser", "draws": "drawn"}
    kept = {field: getattr(whole, field) if need in clustering.needs else refused for need, field in names.items()}
    return Subject(schedule=whole.schedule, seed=whole.seed, **kept)
