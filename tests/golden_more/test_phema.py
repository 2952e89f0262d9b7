"""Power-function averages against EDM2's own program; cases, names and tolerances come from the vectors' index."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from msdk.averages.half_life import HalfLife
from msdk.averages.power import Power, coefficients, exponent, length_of, overlaps
from msdk.lr_schedules.inverse_sqrt import InverseSqrt

HOME = Path(os.environ.get("MSDK_TEST_DATA", "")) / "golden" / "more" / "phema"
INDEX = json.loads((HOME / "index.json").read_text()) if (HOME / "index.json").is_file() else {"cases": []}
pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not INDEX["cases"], reason="MSDK_TEST_DATA has no golden/more/phema"),
]


def each(function, *arrays):
    """A function of numbers, over arrays."""
    return np.vectorize(function, otypes=[float])(*arrays)


def tracked(averages, params, batch):
    """Averages after every step, [steps, averages, parameters]."""
    kept = [params[0].copy() for _ in averages]
    found = []
    for update, weights in enumerate(params[1:], 1):
        decays = [average.decay(update, batch) for average in averages]
        kept = [decay * old + (1 - decay) * weights for decay, old in zip(decays, kept, strict=True)]
        found.append(kept)
    return np.array(found)


def response(ofs, std, len):
    """The profile of an average at whole times, which its overlaps integrate: t^gamma up to its end."""
    gamma, times = each(exponent, std), np.arange(len)[:, None]
    profile = np.where(times <= ofs, (times / ofs) ** gamma, 0)
    return profile / profile.sum(0)


def traditional(params, batch_size, halflife_Mimg, rampup_ratio):  # noqa: N803  the vectors' name
    """EDM2 counts the batch in hand among the images seen; EDM, whose ramp ours is, does not."""
    ramp = 0.0 if math.isnan(rampup_ratio) else float(rampup_ratio)
    average = HalfLife(images=float(halflife_Mimg) * 1e6, ramp=ramp)
    shifted = type("Shifted", (), {"decay": lambda self, update, batch: average.decay(update + 1, batch)})()
    return tracked([shifted], params, int(batch_size))[:, 0]


def reconstructed(in_ofs, in_std, out_ofs, out_std, snapshots):
    found = coefficients(in_ofs, in_std, float(out_ofs), out_std)
    return {"coefs": found, "params": found.T @ snapshots}


def learning_rates(rows):
    """Ours is a factor by steps: `lr` beside `warmup`, see `msdk.training.step.learning_rate`."""
    found = []
    for images, batch, rate, start, ramp in rows:
        step, warm = images / batch, ramp * 1e6 / batch
        factor = InverseSqrt(start=int(start)).factor(step, 1) if start else 1.0
        found.append(rate * factor * (min(step / warm, 1.0) if warm else 1.0))
    return np.array(found)


EXPRESSED = {
    "std_to_exp": lambda std: each(exponent, std),
    "exp_to_std": lambda exp: each(length_of, exp),
    "power_function_correlation": lambda a_ofs, a_std, b_ofs, b_std: np.diag(overlaps(a_ofs, a_std, b_ofs, b_std)),
    "power_function_beta": lambda std, t_delta, t_next: each(
        lambda at: Power(length=float(std)).decay(at / t_delta, 1), t_next
    ),
    "power_function_response": response,
    "solve_posthoc_coefficients": lambda in_ofs, in_std, out_ofs, out_std: coefficients(
        in_ofs, in_std, float(out_ofs), out_std
    ),
    "PowerFunctionEMA": lambda params, batch_size, stds: tracked(
        [Power(length=float(std)) for std in stds], params, int(batch_size)
    ),
    "TraditionalEMA": traditional,
    "reconstruct_phema.py sum of coefs*snapshots": reconstructed,
    "learning_rate_schedule (training/training_loop.py)": learning_rates,
}
"""Function of the vectors -> ours, by the vectors' names of its inputs."""


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["id"])
def test_averages_are_those_of_edm2(case):
    """Every output that has a name in ours is within the case's tolerance."""
    function = EXPRESSED.get(case["function"])
    if function is None:
        pytest.skip(f"not expressed: {case['function']}")
    data = np.load(HOME / "data.npz")
    inputs = {name: data[f"{case['id']}/in/{name}"] for name in case["inputs"]}
    found = function(**inputs)
    found = found if isinstance(found, dict) else {case["outputs"][0]: found}
    compared = [name for name in case["outputs"] if name in found]
    assert compared
    for name in compared:
        wanted = data[f"{case['id']}/out/{name}"]
        np.testing.assert_allclose(found[name], wanted, rtol=case["rtol"], atol=case["rtol"] * np.abs(wanted).max())
