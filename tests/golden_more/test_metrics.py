"""Metrics against torch-fidelity's own program; cases, settings and tolerances come from the vectors' index alone."""

import json
import os
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from msdk.extractors.base import Extracted
from msdk.metrics.base import Evidence
from msdk.metrics.fid import FID
from msdk.metrics.inception_score import InceptionScore
from msdk.metrics.kid import KID
from msdk.metrics.precision_recall import PrecisionRecall

HOME = Path(os.environ.get("MSDK_TEST_DATA", "")) / "golden" / "more" / "metrics"
INDEX = json.loads((HOME / "index.json").read_text()) if (HOME / "index.json").is_file() else {"cases": [], "isc": []}
pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not INDEX["cases"], reason="MSDK_TEST_DATA has no golden/more/metrics"),
]

KID_FIELDS = {
    "kid_subsets": "subsets",
    "kid_subset_size": "subset_size",
    "kid_kernel": "kernel",
    "kid_kernel_poly_degree": "degree",
    "kid_kernel_poly_gamma": "gamma",
    "kid_kernel_poly_coef0": "coef0",
    "kid_kernel_rbf_sigma": "sigma",
    "rng_seed": "seed",
}
ISC_FIELDS = {"splits": "splits", "shuffle": "shuffle", "rng_seed": "seed"}
WITHOUT_EFFECT = ("prc_batch_size", "save_cpu_ram")
"""Settings that change how much is computed at a time there, and no number."""


def settings(given, fields):
    """The vectors' settings by our names."""
    assert set(given) <= {*fields, *WITHOUT_EFFECT}, "the vectors have a setting that is not known here"
    return {fields[name]: value for name, value in given.items() if name in fields}


def evidence(case):
    data = np.load(HOME / "data.npz")
    generated, real = (Extracted(torch.from_numpy(data[f"{case['id']}/features_{which}"])) for which in (1, 2))
    return Evidence(generated=generated, reference=real)


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["id"])
def test_fid(case):
    """As there, and as through singular values; 0 of a set to itself; the same both ways."""
    shown, wanted = evidence(case), case["fid"]
    (found,) = FID().score(shown).numbers
    assert found.value == pytest.approx(wanted["value"], abs=wanted["abs_tol"], rel=0)
    assert found.value == pytest.approx(wanted["independent"], abs=wanted["abs_tol"], rel=0)
    back = attrs.evolve(shown, generated=shown.reference, reference=shown.generated)
    assert FID().score(back).numbers[0].value == pytest.approx(found.value, rel=1e-9, abs=1e-3 * wanted["abs_tol"])
    itself = attrs.evolve(shown, reference=shown.generated)
    assert FID().score(itself).numbers[0].value <= 0.1 * wanted["abs_tol"]


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["id"])
def test_kid(case):
    """Every setting of a case."""
    shown = evidence(case)
    for wanted in case["kid"]:
        (found,) = KID(**settings(wanted["settings"], KID_FIELDS)).score(shown).numbers
        for ours, theirs in ((found.value, "mean"), (found.std, "std")):
            assert ours == pytest.approx(wanted[theirs], abs=wanted["abs_tol"], rel=0)
            assert ours == pytest.approx(wanted[f"{theirs}_f64"], abs=1e-10, rel=1e-8)


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["id"])
def test_precision_recall(case):
    """The very same counts of images."""
    shown = evidence(case)
    for wanted in case["prc"]:
        spec = PrecisionRecall(**settings(wanted["settings"], {"prc_neighborhood": "neighbours"}))
        found = {number.name: number.value for number in spec.score(shown).numbers}
        counts = [round(found["precision"] * wanted["n1"]), round(found["recall"] * wanted["n2"])]
        near = case.get("prc_relative_margin_k3", 1.0) < 1e-5 or not wanted.get("same_in_float64", True)
        allowed = 1 if near else 0
        assert [abs(a - b) <= allowed for a, b in zip(counts, wanted["counts"], strict=True)] == [True, True]
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f-score", "f_score")):
            slack = wanted["abs_tol"] + allowed / min(wanted["n1"], wanted["n2"])
            assert found[ours] == pytest.approx(wanted[theirs], abs=slack, rel=0)


@pytest.mark.parametrize("case", INDEX["isc"], ids=lambda case: case["id"])
def test_inception_score(case):
    """Mean and spread of the splits."""
    logits = torch.from_numpy(np.load(HOME / "data.npz")[f"{case['id']}/logits"])
    shown = Evidence(generated=Extracted(logits, logits))
    (found,) = InceptionScore(**settings(case["settings"], ISC_FIELDS)).score(shown).numbers
    assert found.value == pytest.approx(case["mean"], rel=case["rtol"])
    assert found.std == pytest.approx(case["std"], rel=case["rtol"], abs=1e-12)
