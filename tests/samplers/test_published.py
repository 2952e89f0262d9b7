"""Samples, evaluation times, call counts and states of the published programs, from the vectors alone."""

import collections
import json
import os
from pathlib import Path

import attrs
import pytest
import torch
from golden_samplers import ABOUT, Mixture, NotExpressedError, compare, load, problem_of, replay, setup_of


def index():
    place = os.environ.get("MSDK_TEST_DATA")
    if not place:
        return {"cases": [], "meta": {}}
    return json.loads((Path(place) / "golden" / "samplers" / "index.json").read_text())


def parameters():
    found = [pytest.param(case, id=case["id"]) for case in index()["cases"]]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason="MSDK_TEST_DATA is not set"))]


@pytest.fixture(scope="module")
def vectors(outside_data):
    return load(outside_data / "golden" / "samplers", index())


@pytest.mark.golden
@pytest.mark.parametrize("case", parameters())
def test_published_samples(vectors, case):
    """Samples, evaluation times, call count and two states on the way are those of the published programs."""
    setup = setup_of(case)
    if isinstance(setup, str):
        pytest.skip(f"not expressed: {setup}")
    for reading in (setup, *setup.readings):
        try:
            replayed = replay(reading, case, vectors)
        except NotExpressedError as error:
            pytest.skip(f"not expressed: {error}")
        try:
            return compare(replayed, case, vectors, times_tolerance=setup.times_tolerance)
        except AssertionError as error:
            last = error
    raise last


LEFT_OUT = {
    ("gddim", "coefficients by a Riemann sum, which the exact ones replace"): 2,
}
"""(family, why its cases are not expressed here) -> how many of the 1490 that are public, see docs/samplers.md."""


@pytest.mark.golden
def test_what_is_left_out(outside_data):
    """Cases that nothing here expresses are known by family, reason and number: none can be left out unseen."""
    if index()["meta"]["split"] != "public":
        pytest.skip("other vectors than those that docs/samplers.md counts")
    left = collections.Counter(
        (case["f"], reason) for case in index()["cases"] if isinstance(reason := setup_of(case), str)
    )
    assert left == LEFT_OUT


@pytest.mark.golden
def test_the_exact_denoisers_are_those_of_the_vectors(vectors):
    """The problems are stated as there, so that the other tests mean what they say."""
    places = [name for name in vectors if name.startswith("check/") and "/sigma" in name and name.endswith("/x")]
    assert places
    for place in places:
        _, problem, level, _ = place.split("/")
        found = problem_of(problem, vectors).mean(vectors[place], float(level.removeprefix("sigma")))
        torch.testing.assert_close(found, vectors[place.replace("/x", "/D")], rtol=1e-10, atol=1e-10)


def firsts():
    """The first case of each family that is expressed."""
    found = {}
    for case in index()["cases"]:
        if case["f"] not in found and not isinstance(setup_of(case), str):
            found[case["f"]] = case
    return list(found.values())


@pytest.mark.golden
def test_what_is_not_known_is_not_expressed(outside_data):
    """An unknown family, setting, or value of any setting is a reason, never an error and never another sampler."""
    first = index()["cases"][0]
    assert "the family soon" in setup_of({**first, "f": "soon"})
    with pytest.raises(NotExpressedError, match="the problem Z"):
        replay(setup_of(first), {**first, "p": "Z"}, {})
    for case in firsts():
        assert setup_of({**case, "another": 1}) == "the setting another", case["f"]
        for key in case.keys() - ABOUT:
            for value in ("unknown", None, {"unknown": 1}):
                if value != case[key]:
                    assert isinstance(setup_of({**case, key: value}), str), (case["f"], key, value)


@pytest.mark.golden
def test_problems_and_sizes_are_those_of_the_vectors(vectors):
    """Another mixture, of three components in three dimensions and for five samples, is what the sampler then sees."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mixture = Mixture(torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), drawn(3, 3), drawn(3, 3).abs())
    others = {f"A/{part}": getattr(mixture, part) for part in ("weights", "means", "stds")}
    others |= {"A/z": drawn(5, 3), "A/noise": drawn(50, 5, 3), "arr_off": vectors["arr_off"]}
    case = next(case for case in index()["cases"] if case["f"] == "dpm" and case["p"] == "A")
    setup = setup_of(case)
    seen = []

    def sees(problem, x, t):
        seen.append(problem)
        return problem.mean(x / setup.schedule.alpha(t), setup.schedule.ratio(t))

    found = replay(attrs.evolve(setup, mean=sees), case, others)
    assert found.final.shape == (5, 3)
    assert torch.equal(found.final, replay(setup, case, others).final)
    assert all(torch.equal(problem.means, mixture.means) for problem in seen)
