"""Loss weights by noise level."""

import pytest
import torch

import msdk
from msdk.weightings.edm import EDM
from msdk.weightings.uniform import Uniform

every_weighting = pytest.mark.parametrize(
    "weighting", [msdk.weightings.get(name)() for name in msdk.weightings.names()]
)
RATIOS = torch.logspace(-2, 1.5, 50, dtype=torch.float64)
every_schedule = pytest.mark.parametrize("schedule", [msdk.schedules.get(name)() for name in msdk.schedules.names()])


@every_schedule
@every_weighting
def test_weights_are_positive_and_floats_agree(weighting, schedule):
    """Every noise level counts, and a float's weight is a tensor's."""
    times = schedule.t_of_ratio(RATIOS)
    weights = weighting.weight(schedule, times)
    assert bool((weights > 0).all())
    assert weights.tolist() == pytest.approx([weighting.weight(schedule, t) for t in times.tolist()], rel=1e-12)


@every_schedule
@pytest.mark.parametrize(
    ("weighting", "parameterization"),
    [
        (Uniform(), msdk.parameterizations.get("eps")()),
        (EDM(sigma_data=0.7), msdk.parameterizations.get("edm")(sigma_data=0.7)),
    ],
)
def test_the_matching_parameterization_sees_weight_one(weighting, parameterization, schedule):
    """The published pairs weigh the error of the network's own output with 1 at every noise level."""
    t = schedule.t_of_ratio(RATIOS)
    c = parameterization.coefficients(schedule, t)
    torch.testing.assert_close(weighting.weight(schedule, t) * c.c_out**2, torch.ones_like(t))


def test_closed_forms():
    """At sigma = 2 with sigma_data = 0.5: 1/4 for the simple loss, 4.25 for EDM's."""
    assert Uniform().weight(msdk.schedules.get("edm")(), 2.0) == 0.25
    assert EDM().weight(msdk.schedules.get("edm")(), 2.0) == 4.25
