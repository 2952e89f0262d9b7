"""Published networks, to the last digit: every case of golden/networks, and every full size of golden/shapes."""

import functools
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import msdk
from msdk.pretrained import AUTOENCODERS, FAMILIES
from msdk.pretrained.autoencoders import pieces_of, spec_of
from msdk.pretrained.config import Config

pytestmark = pytest.mark.golden

FAMILY = {
    "EDMPrecond": "edm",
    "VPPrecond": "vp",
    "VEPrecond": "ve",
    "iDDPMPrecond": "iddpm",
    "NCSNpp": "score_sde",
    "DDPM": "score_sde",
    "NCSNpp_multimodel": "multistage-score-sde",
    "UNetModel": "ldm",
    "UNetModel_multistage": "multistage-ldm",
    "VQModelInterface": "vq",
    "AutoencoderKL": "kl",
}
"""The original's class -> family."""

FORK = "LucasYFL/Multistage_Diffusion"


def folder(name):
    """A folder of golden vectors, or None where there are none: the cases below are drawn from what it holds."""
    place = os.environ.get("MSDK_TEST_DATA")
    return Path(place) / "golden" / name if place else None


@functools.cache
def cases():
    """The cases of golden/networks by name."""
    place = folder("networks")
    index = json.loads((place / "index.json").read_text())["cases"] if place else []
    return {case["name"]: case for case in index}


def family_of(cls, constructor):
    multistage = constructor.get("model_type") == "MultistageUNet"
    return "multistage-edm" if multistage else FAMILY[cls]


def config_of(case):
    """The constructor with what was overridden, and the groups that the fork's EDM code has."""
    overridden = {
        key: value
        for table in ("override_after_construction", "override_at_construction")
        for key, value in (case.get(table) or {}).items()
        if key != "why"
    }
    fork = case["reference"]["repo"] == FORK and case["reference"]["cls"] == "EDMPrecond"
    return {**case["constructor"], **overridden, **({"groups": 16} if fork else {})}


@functools.cache
def loaded(name):
    """The denoiser of a case with the original's weights, and the case's vectors."""
    case, place = cases()[name], folder("networks") / name
    family = family_of(case["reference"]["cls"], case["constructor"])
    state = load_file(place / "state.safetensors")
    return msdk.load_pretrained(family, state, config_of(case)), load_file(place / "io.safetensors")


def outputs(denoiser, case, call, vectors, dtype):
    """What ours computes of a call, by the name of the vector that it must equal."""
    if "h_f64" in vectors:  # an autoencoder
        h = denoiser.encode(vectors["x"].to(dtype))
        if not hasattr(denoiser, "quantize"):
            return {"h": h, "dec": denoiser.decode(h)}
        z_q, loss, indices = denoiser.quantize(h)
        assert torch.equal(indices.flatten(), vectors["indices"].flatten().long())
        plain = denoiser.decode(h, quantize=False)
        return {"h": h, "z_q": z_q, "vq_loss": loss[None], "dec": denoiser.decode(h), "dec_not_quantized": plain}
    given = {
        key.split(".")[1]: value.to(dtype) if value.is_floating_point() else value
        for key, value in vectors.items()
        if key.startswith(f"{call['id']}.")
    }
    label, augment, stage = given.get("class_labels"), given.get("augment_labels"), call.get("stage", 0)
    network = functools.partial(denoiser.network, stage=stage, label=label, augment=augment)
    if "sigma" in given:  # EDM
        c_noise = given["c_noise"].reshape(-1)
        if dtype == torch.float64:  # the vectors' is rounded; the original computes it from sigma
            c_noise = denoiser.parameterization.coefficients(denoiser.schedule, given["sigma"].double()).c_noise
        c = denoiser.parameterization.coefficients(denoiser.schedule, given["sigma"].double())
        net_in = c.c_in.to(dtype).reshape(-1, 1, 1, 1) * given["x"]
        return {"net_out": network(net_in, c_noise), "out": denoiser(given["x"], given["sigma"], label, augment)}
    if "timesteps" in given:  # LDM
        y = given.get("y")
        steps = given["timesteps"].to(dtype)
        t = (given["timesteps"].double() + 1) / denoiser.schedule.steps
        return {
            "out": denoiser.network(given["x"], steps, stage=stage, label=y),
            "routed": denoiser.eps(given["x"], t, y),  # the same, through our routing and parameterisation
        }
    fed = denoiser.parameterization.coefficients(denoiser.schedule, given["t"].double()).c_noise.to(dtype)
    return {"net_out": network(given["x"], fed), "score": denoiser.score(given["x"], given["t"])}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", cases())
def test_published_network(name, dtype):
    """With the original's weights, outputs are the original's: within tol_f32, and to 1e-9 relative in float64."""
    case = cases()[name]
    denoiser, vectors = loaded(name)
    denoiser = denoiser.to(dtype)
    checked = 0
    for call in case["calls"]:
        with torch.no_grad():
            found = outputs(denoiser, case, call, vectors, dtype)
        for part, value in found.items():
            name = "out" if part == "routed" else part
            key = name if "h_f64" in vectors else f"{call['id']}.{name}"
            wanted = vectors.get(f"{key}_f64")
            if value is None or wanted is None:
                continue
            relative = 1e-4 if part == "score" and not continuous(case) else 1e-9
            tolerance = case["tol_f32"][key] if dtype == torch.float32 else relative * float(wanted.abs().max())
            torch.testing.assert_close(value.double(), wanted, rtol=0, atol=tolerance)
            checked += 1
    assert checked >= len(case["calls"])


def continuous(case):
    """score_sde's discrete VP models divide by a table in float32: networks.md section 0."""
    return case["constructor"].get("training", {}).get("continuous", True)


@functools.cache
def shapes():
    """The full-size configurations of golden/shapes by name."""
    place = folder("shapes")
    files = sorted(place.glob("*.json")) if place else []
    return {file.stem: json.loads(file.read_text()) for file in files}


@pytest.mark.parametrize("name", shapes())
def test_full_size(name):
    """On the meta device, the original's keys, each once, their shapes, and the number of parameters follow."""
    wanted = shapes()[name]
    family = family_of(wanted["cls"], wanted["constructor"])
    network = msdk.load_pretrained(family, None, wanted["constructor"], device="meta")
    if family in AUTOENCODERS:
        pieces = pieces_of(spec_of(wanted["constructor"])[0], network)
    else:
        network = network.network
        pieces = FAMILIES[family](family, Config(wanted["constructor"])).pieces(network).found
    assert len({piece.key for piece in pieces}) == len(pieces)
    assert {piece.key: list(piece.shape) for piece in pieces} == {
        key: value[0] for key, value in wanted["keys"].items()
    }
    assert {piece.key for piece in pieces if not piece.ours or "freqs" in piece.key} == {
        key for key, value in wanted["keys"].items() if "buffer" in value
    }
    assert sum(parameter.numel() for parameter in network.parameters()) == wanted["n_params"]
    assert {piece.ours for piece in pieces} - {""} == set(network.state_dict())
    if family.endswith(("score_sde", "score-sde")):  # a list of averages is read in this order
        assert [piece.key for piece in pieces] == list(wanted["keys"])
