"""Every row of the paper's Table 1 is a setting that runs, with the paper's number of network calls."""

import pytest

import msdk
from recipes import tiny

ROWS = {
    "DDPM": (["sampler.name=ddpm", "sampling.steps=1000"], 1000),
    "Score SDE (predictor-corrector)": (["sampler.name=predictor-corrector", "sampling.steps=1000"], 2000),
    "DDIM": (["sampler.name=ddim", "sampling.steps=100"], 100),
    "DEIS": (["sampler.name=deis", "sampling.steps=20"], 20),
    "DPM-Solver": (["sampler.name=dpm-solver", "sampling.nfe=20"], 20),
    "Multistage DPM-Solver": (
        ['sampler={name="dpmpp-2m", grid="uniform-t", final_denoise=true}', "sampling.steps=19"],
        20,
    ),
    "EDM": (["sampler.name=heun", "schedule.name=edm", "sampling.steps=18"], 35),
    "Multistage EDM": (["sampler.name=heun", "schedule.name=edm", "sampling.nfe=35"], 35),
}


LONG = {row for row, (_, nfe) in ROWS.items() if nfe > 500}


@pytest.mark.parametrize("row", [pytest.param(row, marks=pytest.mark.slow) if row in LONG else row for row in ROWS])
def test_rows_run_with_their_calls(row):
    """The budget, the trace and the network itself agree on the number of calls; images are finite."""
    settings, nfe = ROWS[row]
    recipe = tiny(*settings)
    assert sum(recipe.solver.calls(recipe.steps)) == nfe
    denoiser, calls = msdk.build(recipe).eval(), []
    denoiser.network.register_forward_hook(lambda *_: calls.append(1))
    images = msdk.sample(denoiser, recipe.solver, recipe.steps, [0])
    assert len(calls) == nfe
    assert images.isfinite().all()


def test_the_poisson_flow_runs():
    """PFGM chooses its own steps: about a hundred calls at its default tolerance (the paper's row has 147)."""
    recipe = tiny("sampler.name=pfgm", "schedule.name=pfgm", "stages.edges_ratio=[0.3, 2.5]")
    denoiser, calls = msdk.build(recipe).eval(), []
    denoiser.network.register_forward_hook(lambda *_: calls.append(1))
    images = msdk.sample(denoiser, recipe.solver, recipe.steps, [0, 1])
    assert images.isfinite().all()
    assert 30 < len(calls) / 2 < 500
    assert msdk.budget(recipe).nfe > 30
