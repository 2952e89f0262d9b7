"""The learned uncertainty against EDM2's own networks."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from msdk.objectives.uncertainty import Uncertainty
from msdk.schedules import edm
from msdk.weightings.edm import EDM

HOME = Path(os.environ.get("MSDK_TEST_DATA", "")) / "golden" / "more" / "networks"
CASES = sorted(path.parent for path in HOME.glob("edm2_*/io.safetensors"))
pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not CASES, reason="MSDK_TEST_DATA has no golden/more/networks"),
]


def learned(folder):
    """Our function u with the weights of theirs: a has length 1 there, and no constant is learned."""
    state = {name: value.double() for name, value in load_file(folder / "state.safetensors").items()}
    direction = state["logvar_linear.weight"][0]
    loss = Uncertainty(channels=len(direction)).build(None).double()
    # EDM2's frequencies and phases have 2 pi in them, as ours do; the floor of its norm is 1e-4 in each number.
    own = {
        "frequencies": state["logvar_fourier.freqs"],
        "phases": state["logvar_fourier.phases"],
        "weight": direction / (1e-4 * len(direction) ** 0.5 + direction.norm()),
        "bias": torch.zeros(1, dtype=torch.float64),
    }
    loss.load_state_dict(own)
    return loss


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_uncertainty_is_edm2s(folder):
    """The function u at every noise level that the networks were called with."""
    loss, io = learned(folder), load_file(folder / "io.safetensors")
    calls = [name.split(".")[0] for name in io if name.endswith(".logvar_f64")]
    assert calls
    for call in calls:
        found = loss.log_variance(io[f"{call}.sigma"].double())
        torch.testing.assert_close(found, io[f"{call}.logvar_f64"].flatten(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_its_loss_is_a_squared_error_above_u(folder):
    """EDM2's loss of every number is (D - x_0)^2 w exp(-u) + u: what remains is a square, as small as errors are."""
    loss, io = learned(folder), load_file(folder / "io.safetensors")
    sigma = (io["loss.rnd_normal"].double().flatten() * 1.0 - 0.4).exp()
    u = loss.log_variance(sigma).view(-1, 1, 1, 1)
    weight = EDM().weight(edm.EDM(), sigma).view(-1, 1, 1, 1)
    squares = ((io["loss.eval_f64"] - u) * u.exp() / weight).detach()
    assert bool((squares >= 0).all())
    assert float(squares.min()) < 1e-3 * float(squares.mean())  # some number is hit: u is the floor of the loss
