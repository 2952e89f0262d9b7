"""Samples, evaluation times, call counts and states of the published programs, from the vectors alone."""

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_samplers import compare, family, points_mean, replay

from msdk.testing.problems import MEANS, STDS, WEIGHTS, mixture_mean


def cases():
    place = os.environ.get("MSDK_TEST_DATA")
    if not place:
        return []
    return json.loads((Path(place) / "golden" / "samplers" / "index.json").read_text())["cases"]


def setup_of(case):
    module = family(case)
    return "no such family" if module is None else module.setup(case)


def parameters():
    found = [pytest.param(case, id=case["id"]) for case in cases() if not isinstance(setup_of(case), str)]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason="MSDK_TEST_DATA is not set"))]


@pytest.fixture(scope="module")
def vectors(outside_data):
    with np.load(outside_data / "golden" / "samplers" / "data.npz") as data:
        found = {name: torch.from_numpy(data[name]) for name in data.files}
    # The file holds the first draws of B; all of them follow from the seed, which the last ones prove.
    index = json.loads((outside_data / "golden" / "samplers" / "index.json").read_text())
    draws = np.random.RandomState(index["meta"]["seeds"]["noise"]["B"]).standard_normal((1000, 8, 16))
    assert np.array_equal(draws[-10:], found["B/noise_tail10"].numpy())
    return {**found, "B/noise": torch.from_numpy(draws)}


@pytest.mark.golden
@pytest.mark.parametrize("case", parameters())
def test_published_samples(vectors, case):
    """Samples, evaluation times, call count and two states on the way are those of the published programs."""
    setup = setup_of(case)
    compare(replay(setup, case, vectors), case, vectors, times_tolerance=setup.times_tolerance)


LEFT_OUT = {
    "edm": "iDDPM's levels on the clock of VP: off by 1e-10 to 1e-7, for a reason that was not found",
    "gddim": "coefficients by a Riemann sum, which the exact ones replace",
}
"""Family -> why some of its cases are not expressed here (docs/samplers.md)."""


@pytest.mark.golden
def test_what_is_left_out(outside_data):
    """Cases that nothing here expresses are known by family and reason: none can be left out unseen."""
    left = {(case["f"], reason) for case in cases() if isinstance(reason := setup_of(case), str)}
    assert all(reason in LEFT_OUT.get(name, "") for name, reason in left), left


@pytest.mark.golden
def test_the_exact_denoisers_are_those_of_the_vectors(vectors):
    """Problems A and B are stated here as there, so that the other tests mean what they say."""
    torch.testing.assert_close([WEIGHTS, MEANS, STDS], [vectors[f"A/{part}"] for part in ("weights", "means", "stds")])
    for ratio in ("0.002", "0.05", "0.3", "1", "10", "80"):
        for problem, mean in (("A", mixture_mean), ("B", functools.partial(points_mean, vectors["B/points"]))):
            y, expected = vectors[f"check/{problem}/sigma{ratio}/x"], vectors[f"check/{problem}/sigma{ratio}/D"]
            torch.testing.assert_close(mean(y, float(ratio)), expected, rtol=1e-10, atol=1e-10)
