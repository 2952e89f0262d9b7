"""Losses, targets and draws against the published programs; cases, names and tolerances come from the vectors' index.

What an option of a case has no name for in msdk is skipped with the reason, which docs/objectives.md lists.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import NotExpressed, named, toy

from msdk.batch import Batch
from msdk.noise_levels.beta import Beta
from msdk.noise_levels.logit_normal import LogitNormal
from msdk.noise_levels.mode import Mode
from msdk.noise_levels.uniform import Uniform as EvenTimes
from msdk.objectives.base import Draw
from msdk.objectives.denoising import Denoising
from msdk.parameterizations.eps import Eps
from msdk.parameterizations.score import Score
from msdk.parameterizations.v import V
from msdk.parameterizations.velocity import Velocity
from msdk.parameterizations.x0 import X0
from msdk.schedules.rectified_flow import RectifiedFlow
from msdk.schedules.shifted import Shifted
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_cosine import VPCosine
from msdk.schedules.vp_discrete import VPDiscrete, VPIDDPMCosine, VPScaledLinear
from msdk.weightings.likelihood import Likelihood
from msdk.weightings.min_snr import MinSNR
from msdk.weightings.uniform import Uniform
from msdk.weightings.velocity import Velocity as FlowMatching

HOME = Path(os.environ.get("MSDK_TEST_DATA", "")) / "golden" / "more" / "losses"
INDEX = json.loads((HOME / "index.json").read_text()) if (HOME / "index.json").is_file() else {"cases": []}
pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not INDEX["cases"], reason="MSDK_TEST_DATA has no golden/more/losses"),
]


def as_torch(given):
    return {name: torch.from_numpy(np.array(value)) for name, value in given.items()}


# --- flow matching ----------------------------------------------------------------------------------------------------


def sit(options, given):
    """SiT's time runs from noise to image, as its velocity does: ours is 1 - t."""
    given = as_torch(given)
    path = named(
        options, "path_type", {"Linear": RectifiedFlow(), "GVP": VPCosine(offset=0.0, t_end=1 - 1e-9), "VP": VPLinear()}
    )
    fed = {"time_scale": -1.0, "time_offset": 1.0}
    velocity = Velocity(to_data=True, **fed)
    kinds = {"velocity": velocity, "noise": Eps(), "score": Score()}
    predicted = named(options, "prediction", kinds)
    weights = {None: Uniform(), "velocity": FlowMatching(), "likelihood": Likelihood()}
    weighting = FlowMatching() if options["prediction"] == "velocity" else named(options, "loss_weight", weights)
    x_0, noise = given["x1"], given["x0"]
    low, high = interval(options)
    t = low + given["t_uniform"] * (high - low)
    ours = 1 - t
    found = {"t": t, "alpha": path.alpha(ours), "sigma": path.sigma(ours)}
    slopes = path.slopes(ours)
    found |= {"d_alpha": -slopes[0], "d_sigma": -slopes[1]}
    shape = (-1, *[1] * (x_0.ndim - 1))
    alpha, sigma, d_alpha, d_sigma = (found[name].view(shape) for name in ("alpha", "sigma", "d_alpha", "d_sigma"))
    x_t = alpha * x_0 + sigma * noise
    found |= {"xt": x_t, "ut": d_alpha * x_0 + d_sigma * noise}

    def denoiser(parameterization):
        return toy(given["a"], given["b"], path, parameterization, x_0.shape[1:])

    draw = Draw(torch.zeros(len(t), dtype=torch.int64), ours, weighting.weight(path, ours), noise)
    network = denoiser(predicted)
    found["loss"] = Denoising().build(network).loss(Batch(x_0), draw, network)
    found["score"] = network.score(x_t, ours)
    found["ode_drift"] = d_alpha * network(x_t, ours) + d_sigma * network.eps(x_t, ours)
    found["drift_mean"] = path.f(ours).view(shape) * x_t
    found["drift_var"] = path.g2(ours).view(shape) / 2
    found["score_from_velocity"] = denoiser(velocity).score(x_t, ours)
    found["noise_from_velocity"] = denoiser(velocity).eps(x_t, ours)
    scored = denoiser(Score())
    found["velocity_from_score"] = d_alpha * scored(x_t, ours) + d_sigma * scored.eps(x_t, ours)
    return found


def interval(options):
    """Of training: velocities on straight paths and GVP need no care at the ends, VP at that of the data alone."""
    eps = options["train_eps"]
    if options["path_type"] == "VP":
        return 0.0, 1 - eps
    return (0.0, 1.0) if options["prediction"] == "velocity" else (eps, 1 - eps)


# --- weights and tables -----------------------------------------------------------------------------------------------


def table(options, **settings):
    """A schedule of diffusers by its names, with the variances that are its defaults."""
    steps = options["num_train_timesteps"]
    low, high = options.get("beta_start"), options.get("beta_end")
    betas = {} if low is None else {"beta_min": low, "beta_max": high}
    kinds = {"linear": VPDiscrete, "scaled_linear": VPScaledLinear, "squaredcos_cap_v2": VPIDDPMCosine}
    return named(options, "beta_schedule", kinds)(steps=steps, **({} if low is None else betas), **settings)


def signal(schedule):
    """The product of 1 - beta after every step, and the betas."""
    times = torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps
    kept = (2 * schedule.log_alpha(times)).exp()
    return kept, 1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])


def min_snr(options, given):
    schedule = table(options)
    kept, betas = signal(schedule)
    times = (torch.from_numpy(given["timesteps"]) + 1).double() / schedule.steps
    weight = MinSNR(gamma=options["snr_gamma"]).weight(schedule, times)
    kinds = {"weight_epsilon": Eps(), "weight_sample": X0(), "weight_v_prediction": V()}
    of_output = {name: weight * part.coefficients(schedule, times).c_out ** 2 for name, part in kinds.items()}
    return {"alphas_cumprod": kept, "betas": betas, "snr": schedule.ratio(times) ** -2, **of_output}


def zero_terminal_snr(options, given):
    """The variances come from the case, so that only the rescaling is compared."""
    betas = torch.from_numpy(given["betas"])
    if options["beta_schedule"] != "squaredcos_cap_v2":
        ends = {"beta_start": float(betas[0]), "beta_end": float(betas[-1])}
        schedule = table({**options, **ends}, zero_terminal_snr=True)
    else:
        schedule = table(options, zero_terminal_snr=True)
    kept, found = signal(schedule)
    return {"alphas_cumprod": kept, "betas": found}


def sd3_weighting(options, given):
    """Ours is relative to the error of the image, theirs to that of the velocity."""
    schemes = {"sigma_sqrt": "sigma-sqrt", "cosmap": "cosmap", "none": "flat"}
    scheme = named(options, "weighting_scheme", schemes)
    sigmas, path = torch.from_numpy(given["sigmas"]), RectifiedFlow()
    return {"weighting": FlowMatching(scheme=scheme).weight(path, sigmas) / FlowMatching().weight(path, sigmas)}


# --- draws ------------------------------------------------------------------------------------------------------------

UNIT = VPLinear()
"""A schedule whose time runs from 0 to 1, so that a share of it is a time."""


def normal(draws):
    """The uniform number that a normal one stands for, by whose inverse ours are drawn."""
    return torch.special.ndtr(draws)


def sd3_density(options, given):
    draws = torch.from_numpy(given["draws"])
    kind = options["weighting_scheme"]
    if kind == "logit_normal":
        law, u = LogitNormal(mean=options["logit_mean"], std=options["logit_std"]), normal(draws)
    elif kind == "mode":
        law, u = Mode(scale=options["mode_scale"]), 1 - draws
    elif kind == "none":
        law, u = EvenTimes(t_first=0.0), draws
    else:
        raise NotExpressed(f"weighting_scheme = {kind}")
    return {"u": law.quantile(UNIT, u)}


def timestep_distribution(options, given):
    """OneTrainer's: a law of the share of an interval of steps, then the shift of straight paths."""
    kind, weight, bias = options["timestep_distribution"], options["noising_weight"], options["noising_bias"]
    if kind in ("COS_MAP", "SIGMOID", "INVERTED_PARABOLA"):
        raise NotExpressed(f"{kind} is a table of weights over whole steps, of a third party; `cosmap` is the density")
    draws = torch.from_numpy(given["draws"])
    laws = {
        "BETA": lambda: (Beta(alpha=weight, beta=bias), 1 - draws if weight == 1 else draws),
        "UNIFORM": lambda: (EvenTimes(t_first=0.0), draws),
        "LOGIT_NORMAL": lambda: (LogitNormal(mean=bias, std=weight + 1), normal(draws)),
        "HEAVY_TAIL": lambda: (Mode(scale=weight), 1 - draws),
    }
    law, u = named(options, "timestep_distribution", laws)()
    steps = options["num_train_timesteps"]
    low, high = (int(steps * options[f"{end}_noising_strength"]) for end in ("min", "max"))
    path = RectifiedFlow()
    drawn = low + law.quantile(UNIT, u) * (high - low)
    moved = path.t_of_ratio(Shifted(schedule=path, factor=options["timestep_shift"]).ratio(drawn / steps)) * steps
    moved = torch.where(drawn < steps, moved, drawn)  # where the ratio is infinite, no shift moves it
    moved = drawn if options["timestep_shift"] == 1 else moved
    return {"timestep": moved, "timestep_int": moved.long()}


FAMILIES = {
    "sit": sit,
    "min-snr": min_snr,
    "zero-terminal-snr": zero_terminal_snr,
    "sd3-weighting": sd3_weighting,
    "sd3-density": sd3_density,
    "timestep-distribution": timestep_distribution,
}
"""Family -> what of msdk makes its outputs: a function of the case's options and inputs, by the vectors' names."""


@pytest.mark.parametrize("case", INDEX["cases"], ids=lambda case: case["id"])
def test_it_is_as_published(case):
    """Every output that msdk has is within the case's tolerance."""
    family = FAMILIES.get(case["family"])
    if family is None:
        pytest.skip(f"not expressed: {case['family']}")
    data = np.load(HOME / "data.npz")
    given = {name: data[f"{case['id']}/in/{name}"] for name in case["inputs"]}
    try:
        found = family(case["kwargs"], given)
    except NotExpressed as reason:
        pytest.skip(f"not expressed: {reason}")
    compared = [name for name in case["outputs"] if name in found]
    assert compared
    for name in compared:
        wanted = data[f"{case['id']}/out/{name}"]
        value = found[name].detach().numpy() if isinstance(found[name], torch.Tensor) else np.asarray(found[name])
        value = np.broadcast_to(value, wanted.shape) if value.ndim == wanted.ndim else value.reshape(wanted.shape)
        np.testing.assert_allclose(value, wanted, rtol=case["rtol"], atol=case["atol"], err_msg=name)
