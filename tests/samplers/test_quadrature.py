"""DEIS's coefficients: those of the published program by its own exact quadrature, and to 1e-10 wherever it is used."""

import json

import numpy as np
import pytest
from golden_samplers import Settings, family

from msdk import schedules
from msdk.samplers.deis import DEIS, _weights

SCHEDULES = [name for name in schedules.names() if name not in ("cld", "pfgm", "rectified-flow")]


@pytest.mark.golden
def test_coefficients_are_the_published_ones(outside_data):
    """Every coefficient of every step of "t-ab" and "rho-ab", orders 1 to 4, within 1e-10 of the largest."""
    folder = outside_data / "golden" / "samplers"
    cases = [case for case in json.loads((folder / "index.json").read_text())["cases"] if case["f"] == "deis"]
    cases = [case for case in cases if case.get("coef_kind") == "exact" and "coef" in case]
    assert cases
    with np.load(folder / "data.npz") as data:
        places, values = data["arr_off"], data["arr_data"]
    for case in cases:
        setup = family(case).setup(Settings(case))
        sampler, schedule = setup.sampler, setup.schedule
        times = sampler.times(schedule, setup.steps)
        expected = values[places[case["coef"]] : places[case["coef"] + 1]].reshape(setup.steps, -1)
        for step in range(setup.steps):
            nodes = tuple(times[step - back] for back in range(min(step + 1, sampler.order)))
            found = np.array(_weights(sampler.variant, schedule, nodes, times[step], times[step + 1]))
            if sampler.variant == "t-ab":
                found *= schedule.alpha(times[step + 1])
            wanted = expected[step, 1 : 1 + len(nodes)]
            np.testing.assert_allclose(
                found, wanted, rtol=0, atol=1e-10 * max(1, np.abs(wanted).max()), err_msg=case["id"]
            )


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_polynomials_below_the_order_are_integrated_exactly(schedule, order):
    """Of p(t) = 1 the integral is the change of the ratio; of p(t) = t it follows by parts, from a fine sum.

    Down to t = 1e-5 in few steps: near the data the integrand is steep, near the prior it is large.
    """
    schedule = schedules.get(schedule)()
    for grid, steps in (("quadratic-t", 4), ("uniform-lam", 8)):
        times = DEIS(grid=grid, t_end=1e-5, order=order).times(schedule, steps)
        for step in range(steps):
            t, s = times[step], times[step + 1]
            nodes = tuple(times[step - back] for back in range(min(step + 1, order)))
            weights = _weights("t-ab", schedule, nodes, t, s)
            change = schedule.ratio(s) - schedule.ratio(t)
            assert sum(weights) == pytest.approx(change, rel=1e-10)
            if len(nodes) > 1:
                first = sum(weight * node for weight, node in zip(weights, nodes, strict=True))
                lams = np.linspace(schedule.lam(t), schedule.lam(s), 4001)
                inner = np.array([schedule.t_of_lam(float(lam)) for lam in lams])
                # Simpson's rule in log ratio, whose error on smooth schedules is far below the bound.
                shares = np.ones(4001) * 2
                shares[1::2] = 4
                shares[[0, -1]] = 1
                wanted = float((shares * inner * np.exp(-lams)).sum() * (lams[0] - lams[1]) / 3)
                tables = hasattr(schedule, "steps")
                assert first == pytest.approx(wanted, rel=1e-6 if tables else 1e-9)
