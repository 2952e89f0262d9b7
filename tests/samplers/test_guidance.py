"""Promises of msdk.samplers.guidance: Ho and Salimans' combination, where it is asked for, at the cost that is told."""

import pytest
import torch

from msdk.batch import Condition
from msdk.samplers.guidance import Guidance
from msdk.schedules.vp import VPLinear

SCHEDULE = VPLinear()
LABEL = torch.tensor([0, 2, -1])


class Recorder:
    """A made-up conditional estimate: the image plus the class; it keeps the sizes of its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, t, condition):
        self.batches.append(len(x))
        return x + condition.label.to(x).view(-1, 1, 1, 1)


def images():
    return torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0, 7.5])
def test_estimates_are_combined_in_one_batch(weight):
    """x_0(no class) + w (x_0(class) - x_0(no class)), from one evaluation of twice the batch."""
    estimate, x = Recorder(), images()
    found = Guidance(weight=weight).around(estimate, SCHEDULE, LABEL)(x, 0.5)
    classes, none = LABEL.double().view(-1, 1, 1, 1), -1.0
    torch.testing.assert_close(found, x + none + weight * (classes - none))
    assert estimate.batches == ([3] if weight == 0 else [6])  # without a class alone, there is nothing to combine


def test_weight_one_is_the_plain_conditional_estimate():
    """No weight, no cost: one evaluation of the batch itself, bit for bit."""
    estimate, x = Recorder(), images()
    found = Guidance().around(estimate, SCHEDULE, LABEL)(x, 0.5)
    assert torch.equal(found, Recorder()(x, 0.5, Condition(LABEL)))
    assert estimate.batches == [3]


def test_outside_the_interval_the_class_alone_counts():
    """Guided where low < ratio <= high, so neighbouring intervals cover each level once; one evaluation elsewhere."""
    times = [0.1, 0.4, 0.6, 0.9]
    ratios = [SCHEDULE.ratio(t) for t in times]
    guidance, estimate = Guidance(weight=3.0, interval=(ratios[0], ratios[2])), Recorder()
    denoise = guidance.around(estimate, SCHEDULE, LABEL)
    for t in times:
        denoise(images(), t)
    assert estimate.batches == [3, 6, 6, 3]
    assert [guidance.evaluations(ratio) for ratio in ratios] == [1, 2, 2, 1]
    assert torch.equal(denoise(images(), 0.9), Recorder()(images(), 0.9, Condition(LABEL)))
