"""Losses, targets and draws against the published programs; cases, names and tolerances come from the vectors' index.

What an option of a case has no name for in msdk is skipped with the reason; docs/objectives.md lists these cases.
"""

import json
import os
import re
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from toys import NotExpressed, named, toy

from msdk.batch import Batch, Condition
from msdk.noise_levels.beta import Beta
from msdk.noise_levels.log_uniform import LogUniform
from msdk.noise_levels.logit_normal import LogitNormal
from msdk.noise_levels.mode import Mode
from msdk.noise_levels.rho import Rho
from msdk.noise_levels.steps import Steps
from msdk.noise_levels.uniform import Uniform as EvenTimes
from msdk.objectives import cld as hybrid
from msdk.objectives.base import Draw
from msdk.objectives.cld_loss import noised
from msdk.objectives.consistency import Consistency as ConsistencyLoss
from msdk.objectives.denoising import Denoising
from msdk.objectives.denoising_loss import target
from msdk.objectives.hybrid_vlb import HybridVLB
from msdk.objectives.hybrid_vlb_loss import bits_of_step
from msdk.objectives.pfgm import PFGM
from msdk.objectives.progressive_distillation import ProgressiveDistillation
from msdk.parameterizations.consistency import Consistency as ConsistencyInputs
from msdk.parameterizations.eps import Eps
from msdk.parameterizations.score import Score
from msdk.parameterizations.v import V
from msdk.parameterizations.velocity import Velocity
from msdk.parameterizations.x0 import X0
from msdk.samplers.base import run
from msdk.samplers.guidance import Guidance
from msdk.samplers.heun import Heun
from msdk.samplers.pfgm import PFGMEuler
from msdk.schedules import cld as critical
from msdk.schedules import edm
from msdk.schedules import pfgm as pfgm_schedule
from msdk.schedules.rectified_flow import RectifiedFlow
from msdk.schedules.shifted import Shifted
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_cosine import VPCosine
from msdk.schedules.vp_discrete import VPDiscrete, VPIDDPMCosine, VPScaledLinear
from msdk.weightings.edm import EDM
from msdk.weightings.likelihood import Likelihood
from msdk.weightings.min_snr import MinSNR
from msdk.weightings.snr import SNR
from msdk.weightings.uniform import Uniform
from msdk.weightings.velocity import Velocity as FlowMatching

HOME = Path(os.environ.get("MSDK_TEST_DATA", "")) / "golden" / "more" / "losses"
INDEX = json.loads((HOME / "index.json").read_text()) if (HOME / "index.json").is_file() else {"cases": []}
pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not INDEX["cases"], reason="MSDK_TEST_DATA has no golden/more/losses"),
]


TABLE = Path("docs/objectives.md").read_text().partition("## What is not expressed")[2]
LEFT_OUT = {name for row in re.findall(r"^\| (`.*?) \|", TABLE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
"""Ids of public cases that docs/objectives.md says are not expressed."""


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
    if kind in TABLES:
        return timestep_table(options)
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


TABLES = {"COS_MAP": "cosmap", "SIGMOID": "sigmoid", "INVERTED_PARABOLA": "parabola"}
"""OneTrainer's name of weights over whole steps -> ours."""


def timestep_table(options):
    """Shares of whole steps; theirs are weights beside them, of which a law has no use."""
    kind, shift, steps = options["timestep_distribution"], options["timestep_shift"], options["num_train_timesteps"]
    if kind == "SIGMOID" and shift != 1:
        raise NotExpressed("its program shifts the place twice in the sigmoid, and once in the factor beside it")
    low, high = (int(steps * options[f"{end}_noising_strength"]) for end in ("min", "max"))
    slopes = {} if kind == "COS_MAP" else {"slope": options["noising_weight"], "middle": options["noising_bias"] + 0.5}
    law = Steps(count=high - low, weights=TABLES[kind], shift=shift, **slopes)
    below = [law.cdf(UNIT, step / (law.count - 1)) for step in range(law.count)]
    return {"probabilities": np.diff([0.0, *below])}


# --- guidance ---------------------------------------------------------------------------------------------------------


def edm2_guidance(options, given):
    """EDM's sampler around Guidance, whose network knows a class, net, and none, gnet: exact ones of two Gaussians."""
    given = as_torch(given)
    schedule = edm.EDM(sigma_min=options.get("sigma_min", 0.002), sigma_max=options.get("sigma_max", 80.0))
    churn = {ours: options[theirs] for theirs, ours in CHURN.items() if theirs in options}
    sampler = Heun(rho=options.get("rho", 7.0), **churn)

    def exact(x, t, name):
        m, s = options[f"{name}_m"], options[f"{name}_s"]
        return (s**2 * x + t**2 * m * (m * x / (s**2 + t**2)).tanh()) / (s**2 + t**2)

    def estimate(x, t, condition):
        labels = condition.label.view(-1, *[1] * (x.ndim - 1))
        return torch.where(labels >= 0, exact(x, t, "net"), exact(x, t, "gnet"))

    guided = Guidance(weight=options["guidance"]).around(
        estimate, schedule, torch.zeros(len(given["noise"]), dtype=torch.int64)
    )
    draws = iter(given["churn_noise"])
    times = sampler.times(schedule, options["num_steps"])
    start = given["noise"] * schedule.prior_std
    samples = run(sampler, guided, schedule, times, start, lambda x, t, s: next(draws))
    # The published program has two networks: here as well.
    pair = [lambda x, t, _, name=name: exact(x, t, name) for name in ("net", "gnet")]
    by_another = Guidance(weight=options["guidance"], another=True).around(pair[0], schedule, Condition(), pair[1])
    draws = iter(given["churn_noise"])
    same = run(sampler, by_another, schedule, times, start, lambda x, t, s: next(draws))
    torch.testing.assert_close(same, samples, rtol=1e-12, atol=1e-12)
    return {"samples": same}


CHURN = {"S_churn": "churn", "S_min": "churn_low", "S_max": "churn_high", "S_noise": "churn_noise"}
"""EDM's name of a setting of stochastic steps -> ours."""


# --- Poisson flows ----------------------------------------------------------------------------------------------------


def pfgm(options, given):
    """The noise of the objective, and the field that its optimum on the whole batch makes; our loss is another one."""
    restricted = given.get("restricted_rows", np.zeros(len(given["m_uniform"]), dtype=bool))
    m = given["m_uniform"] * options["M"]
    if options["restrict_M"]:
        m[restricted] = given["restrict_uniform"] * int(0.7 * options["M"])
    given, m = as_torch(given), torch.from_numpy(m)
    scale, growth = options["sigma_end"], 1 + options["tau"]
    heights = LogUniform(low=scale, high=scale * growth ** options["M"])
    z = given["z_normal"].abs() * heights.quantile(pfgm_schedule.PFGM(), m / options["M"])
    data = given["data"]
    x_0 = data[: options["small_batch"]]
    shape = (-1, *[1] * (data.ndim - 1))
    length = given["noise_normal"].flatten(1).norm(dim=1, keepdim=True)
    noise = (given["direction_normal"] / given["direction_normal"].norm(dim=1, keepdim=True) * length).view_as(x_0)
    extra = given["z_normal"].view(shape)[:, None].expand(-1, 1, *x_0.shape[1:])
    draw = Draw(torch.zeros(len(z), dtype=torch.int64), z, torch.ones_like(z), noise, extra)
    x = x_0 + z.view(shape) * PFGM(reach=float("inf")).build(None).noise(draw)
    # Their divisions are kept from 0 by 1e-7, to each of which the tolerance is tighter.
    distance = ((x.flatten(1)[:, None] - data.flatten(1)).square().sum(2) + z[:, None] ** 2).sqrt()
    weights = (distance.min(1, keepdim=True).values / (distance + 1e-7)) ** (data[0].numel() + 1)
    share = (weights.sum(1) / (weights.sum(1) + 1e-7)).view(shape)
    mean = (weights / weights.sum(1, keepdim=True) @ data.flatten(1)).view_as(x)
    v_x, v_z = PFGMEuler(gamma=float(options["gamma"])).field(x, x + share * (mean - x), z * share.flatten())
    return {"m": m, "perturbed_x": x, "perturbed_z": z, "target_x": v_x, "target_z": v_z}


# --- consistency models -----------------------------------------------------------------------------------------------

EQUAL = {"snr": SNR(), "snr+1": SNR(offset=1.0), "truncated-snr": SNR(floor=1.0), "uniform": SNR(power=0.0)}
"""Weights by their names; `karras` depends on the data."""


def consistency(options, given):
    """Training, distillation and the loss of EDM; the networks note what they are called with."""
    given = as_torch(given)
    kind, d = options["kind"], options["sigma_data"]
    schedule = edm.EDM(sigma_min=options["sigma_min"], sigma_max=options["sigma_max"])
    weighting = named(options, "weight_schedule", {**EQUAL, "karras": EDM(sigma_data=d)})
    shared = {"floor": options["sigma_min"], "rho": options["rho"]}
    x_0, calls = given["x_start"], []

    def network(name, floor):
        part = ConsistencyInputs(sigma_data=d, floor=floor)
        denoiser = toy(given[f"{name}_a"], given[f"{name}_b"], schedule, part, x_0.shape[1:])
        encoder = denoiser.network.encoders[0]
        encoder.register_forward_hook(lambda _, seen, __: calls.append((name, seen[0], seen[1])))
        return denoiser

    def made(t, spec=None, **more):
        draw = Draw(torch.zeros(len(t), dtype=torch.int64), t, weighting.weight(schedule, t), given["noise"])
        loss = (spec or Denoising()).build(student)
        for name, value in more.items():
            setattr(loss, name, value)
        found = {"loss": loss.loss(Batch(x_0), draw, student), "weight": draw.weights}
        for number, (name, seen, time) in enumerate(calls):
            found |= {f"call{number}_{name}_input": seen, f"call{number}_{name}_time": time}
        return found

    if kind.startswith("EDM training loss"):
        student = network("student", 0.0)
        return made(given["sigmas"])
    step = Rho(low=options["sigma_min"], high=options["sigma_max"], rho=options["rho"])
    teacher = network("teacher", 0.0)
    if kind.startswith("progressive distillation"):
        student = network("student", 0.0)
        steps = options["num_scales"]
        t, t2, t3 = (step.quantile(schedule, 1 - (given["indices"].double() + part) / steps) for part in (0, 0.5, 1))
        spec = ProgressiveDistillation(teacher=Path("a run"), steps=steps, **shared)
        if options["loss_norm"] != "l2":
            raise NotExpressed(f"loss_norm = {options['loss_norm']}")
        return {**made(t, spec, teachers=[teacher]), "t": t, "t2": t2, "t3": t3}
    if not kind.startswith(("consistency training", "consistency distillation")):
        raise NotExpressed(kind)
    student = network("student", options["sigma_min"])
    metric = named(options, "loss_norm", {"l2": "l2", "l1": "l1", "l2-32": "l2-32"})
    gaps = options["num_scales"] - 1
    distils = kind.startswith("consistency distillation")
    t, t2 = (step.quantile(schedule, 1 - (given["indices"].double() + part) / gaps) for part in (0, 1))
    spec = ConsistencyLoss(
        teacher=Path("a run") if distils else None, scales="fixed", start_scales=gaps + 1, metric=metric, **shared
    )
    target = network("target", options["sigma_min"]).network
    return {**made(t, spec, target=target, teachers=[teacher]), "t": t, "t2": t2}


def consistency_schedule(options, given):
    """N and the rate of the average after so many steps."""
    if options["scale_mode"] not in ("fixed", "progressive"):
        raise NotExpressed(f"scale_mode = {options['scale_mode']}: each halving is a run of its own")
    spec = ConsistencyLoss(
        scales=options["scale_mode"],
        ema=named(options, "target_ema_mode", {"fixed": "fixed", "adaptive": "adaptive"}),
        start_scales=options["start_scales"],
        end_scales=options["end_scales"],
        total_steps=options["total_steps"],
        target_ema=options["start_ema"],
    )
    steps = given["step"].tolist()
    return {
        "ema": np.array([spec.rate(step) for step in steps]),
        "scales": np.array([spec.nodes(step) for step in steps]),
    }


# --- iDDPM ------------------------------------------------------------------------------------------------------------


def iddpm_parts(options, given, schedule):
    """A denoiser around F in the first half of its outputs and cos(k x) in the second, and what says its variance."""
    steps = schedule.steps
    fed = 1000 if options.get("rescale_timesteps") else options["num_diffusion_timesteps"]
    mean = {"EPSILON": Eps(time_scale=fed, time_offset=-fed / steps), "START_X": X0(time_scale=fed)}
    parameterization = named(options, "model_mean_type", mean)
    variance = named(options, "model_var_type", {"LEARNED_RANGE": None, "FIXED_SMALL": -1.0, "FIXED_LARGE": 1.0})
    denoiser = toy(given["a"], given["b"], schedule, parameterization, given["x_start"].shape[1:], k=given.get("k"))
    return denoiser, variance


def bound(denoiser, fixed, x_0, x_t, times, *, clips=False):
    """The term of the bound, in bits per dimension: a variance that is fixed is v = -1 or 1, of the last step -1."""
    outputs, c = denoiser.raw_output(x_t, times)
    output, variance = outputs[:, : x_0.shape[1]], outputs[:, -x_0.shape[1] :]
    found = c.c_skip * x_t + c.c_out * output
    # The error without a difference of two large numbers, as the loss has it.
    noise = (x_t - alpha_of(denoiser, times, x_0) * x_0) / sigma_of(denoiser, times, x_0)
    draw = Draw(torch.zeros(len(times), dtype=torch.int64), times, times, noise)
    error = found.clamp(-1, 1) - x_0 if clips else c.c_out * (output - target(x_0, draw, denoiser))
    if fixed is not None:
        last = (times < 1.5 / denoiser.schedule.steps).view(-1, *[1] * (x_0.ndim - 1))
        variance = torch.where(last, -1.0, fixed).expand_as(variance).to(variance)
    return bits_of_step(denoiser.schedule, times, x_0, error, variance), found


def alpha_of(denoiser, times, like):
    return denoiser.schedule.alpha(times).view(-1, *[1] * (like.ndim - 1))


def sigma_of(denoiser, times, like):
    return denoiser.schedule.sigma(times).view(-1, *[1] * (like.ndim - 1))


def iddpm(options, given):
    """The hybrid loss and its gradients, and the bound alone."""
    given = as_torch(given)
    whole = steps = options["num_diffusion_timesteps"]
    if options["respacing"]:
        steps = named(options, "respacing", {f"ddim{n}": n for n in range(2, whole) if whole % n == 0})
    kind = named(options, "beta_schedule", {"cosine": VPIDDPMCosine, "linear": VPDiscrete})
    # The published betas of other numbers of steps are those of 1000, scaled.
    ends = {} if kind is VPIDDPMCosine else {"beta_min": 0.1 / whole, "beta_max": 20 / whole}
    schedule = kind(steps=steps, part_of=whole if options["respacing"] else None, **ends)
    denoiser, fixed = iddpm_parts(options, given, schedule)
    x_0, times = given["x_start"], (given["t"] + 1).double() / steps
    x_t = alpha_of(denoiser, times, x_0) * x_0 + sigma_of(denoiser, times, x_0) * given["noise"]
    bits, estimate = bound(denoiser, fixed, x_0, x_t, times)
    clipped, _ = bound(denoiser, fixed, x_0, x_t, times, clips=True)
    found = {"x_t": x_t, "pred_xstart": estimate, "vb_bpd": bits, "vb_bpd_clip_denoised": clipped}
    if options["respacing"]:
        found["betas"] = signal(schedule)[1]
    if options["model_mean_type"] == "EPSILON":
        fed = denoiser.parameterization.coefficients(schedule, times).c_noise
        found["time_given_to_network"] = fed
    if fixed is None and options["loss_type"] == "RESCALED_MSE":
        draw = Draw(
            torch.zeros(len(times), dtype=torch.int64), times, Uniform().weight(schedule, times), given["noise"]
        )
        loss = HybridVLB(vlb_weight=0.001).build(denoiser).loss(Batch(x_0), draw, denoiser)
        own = list(denoiser.network.decoders[0].parameters())
        found |= {"loss": loss, "grad_loss_mean": torch.stack(torch.autograd.grad(loss.mean(), own))}
        found |= {"mse": HybridVLB(vlb_weight=0.0).build(denoiser).loss(Batch(x_0), draw, denoiser)}
    return found


def iddpm_bpd(options, given):
    """The terms of the whole bound, from the last step to the first."""
    given = as_torch(given)
    steps = options["num_diffusion_timesteps"]
    kinds = {"numpy.linspace(1e-3,0.4,T)": VPDiscrete(steps=steps, beta_min=1e-3, beta_max=0.4)}
    if options["beta_schedule"] == "cosine":
        kinds["get_named_beta_schedule"] = VPIDDPMCosine(steps=steps)
    schedule = named(options, "betas", kinds)
    denoiser, fixed = iddpm_parts(options, given, schedule)
    x_0, rows = given["x_start"], {"vb": [], "xstart_mse": [], "mse": []}
    for row, noise in enumerate(given["noise"]):
        times = torch.full((len(x_0),), (steps - row) / steps, dtype=torch.float64)
        x_t = alpha_of(denoiser, times, x_0) * x_0 + sigma_of(denoiser, times, x_0) * noise
        bits, estimate = bound(denoiser, fixed, x_0, x_t, times, clips=options["clip_denoised"])
        estimate = estimate.clamp(-1, 1) if options["clip_denoised"] else estimate
        eps = (x_t - alpha_of(denoiser, times, x_0) * estimate) / sigma_of(denoiser, times, x_0)
        for name, value in (("vb", bits), ("xstart_mse", (estimate - x_0) ** 2), ("mse", (eps - noise) ** 2)):
            rows[name].append(value.flatten(1).mean(1) if value.ndim > 1 else value)
    return {"betas": signal(schedule)[1], **{name: torch.stack(columns, 1) for name, columns in rows.items()}}


# --- critically damped Langevin diffusion -----------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class FlooredLater(critical.CLD):
    """The published program adds its floor to the variances of each time, ours to those at t = 0, as gDDIM's does."""

    eps: float

    def variances(self, t):
        xx, xv, vv = super().variances(t)
        return xx + self.eps, xv, vv + self.eps


def cld(options, given):
    """Score matching of both kinds with any beta; the network is the second half of F(x, v)."""
    given = as_torch(given)
    if named(options, "sde", {"cld": False, "vpsde": True}):
        return vpsde(options, given)
    if options["m_inv"] != 4:
        raise NotExpressed(f"m_inv = {options['m_inv']}: with Gamma = 1 only 4 is critical damping")
    matching = named(options, "cld_objective", {"hsm": "hsm", "dsm": "dsm"})
    kinds = {"reweightedv2": "flat", "reweightedv1": "rate", "likelihood": "likelihood"}
    reweighting = named(options, "weighting", kinds)
    schedule = FlooredLater(
        velocity=options["gamma"] / options["m_inv"],
        floor=1e-300,
        mixed=options["mixed_score"],
        eps=options["numerical_eps"],
        beta_min=options["beta0"],
        beta_max=options["beta0"] + options["beta1"],
    )
    kernel = schedule if matching == "hsm" else attrs.evolve(schedule, velocity=1e-300)
    x_0, shape = given["x"], (-1, *[1] * (given["x"].ndim - 1))
    t = given["t_uniform"] * (1 - options["loss_eps"]) + options["loss_eps"]
    of_x, of_v = given["batch_normal"].chunk(2, dim=1)
    v_0 = schedule.velocity**0.5 * given["v_normal"] if matching == "dsm" else torch.zeros_like(x_0)
    of_image, of_velocity = schedule.means(t), schedule.carried(t)
    denoiser = toy(given["a"], given["b"], schedule, Eps(), x_0.shape[1:])
    (xx, xv, vv), own = kernel.variances(t), kernel.factor(t)[2]
    # Ours says the noise of the hybrid score, theirs that of the score which is matched.
    scale = (schedule.factor(t)[2] / own).view(shape)
    denoiser.network.decoders[0].register_forward_hook(lambda _, __, out: scale * out.chunk(2, dim=1)[1])
    x, v = noised(x_0, of_x, of_v, t, kernel, v_0)
    mean = torch.cat(
        [a.view(shape) * x_0 + b.view(shape) * v_0 for a, b in zip(of_image, of_velocity, strict=True)], dim=1
    )
    state = torch.cat([x, v], dim=1)
    output, _ = denoiser.output(state, t)
    # The score of v is that of its noise: -eps_v / L_vv, with what is mixed in.
    score = -(output + schedule.seen.rest(t).view(shape) * v) / schedule.factor(t)[2].view(shape)
    found = {"t": t, "perturbed": state, "mean": mean, "network_output": output / scale, "score": score}
    found |= {
        "var_xx": xx,
        "var_xv": xv,
        "var_vv": vv,
        "noise_multiplier": -1 / own,
        "loss_multiplier": schedule.beta(t),
    }
    spread = (critical.DIFFUSION * schedule.beta(t)).sqrt().view(shape).expand_as(x)
    found["diffusion"] = torch.cat([torch.zeros_like(x), spread], dim=1)
    draws = torch.stack([of_v, given["v_normal"]] if matching == "dsm" else [of_v], dim=1)
    draw = Draw(torch.zeros(len(t), dtype=torch.int64), t, Uniform().weight(schedule, t), of_x, draws)
    spec = hybrid.CLD(matching=matching, reweighting=reweighting)
    found["loss"] = x_0[0].numel() * spec.build(denoiser).loss(Batch(x_0), draw, denoiser)  # theirs is a sum
    return found


def vpsde(options, given):
    """The denoising loss of that program's VP, whose networks say what is left of the noise."""
    named(options, "weighting", {"reweightedv2": True})
    schedule = VPLinear(beta_min=options["beta0"], beta_max=options["beta0"] + options["beta1"])
    x_0, noise, shape = given["x"], given["batch_normal"], (-1, *[1] * (given["x"].ndim - 1))
    t = given["t_uniform"] * (1 - options["loss_eps"]) + options["loss_eps"]
    denoiser = toy(given["a"], given["b"], schedule, Eps(mixed=options["mixed_score"]), x_0.shape[1:])
    alpha, sigma, beta = (each(t).view(shape) for each in (schedule.alpha, schedule.sigma, schedule.beta))
    x_t = alpha * x_0 + sigma * noise
    score = denoiser.score(x_t, t)
    drift, spread = schedule.f(t).view(shape) * x_t, beta.sqrt().expand_as(x_t)
    found = {"t": t, "perturbed": x_t, "mean": alpha * x_0, "var": sigma.expand_as(x_0) ** 2, "score": score}
    found |= {"network_output": denoiser.output(x_t, t)[0], "noise_multiplier": -1 / sigma, "drift": drift}
    found |= {
        "diffusion": spread,
        "reverse_sde_drift": beta * score - drift,
        "reverse_ode_drift": beta / 2 * score - drift,
    }
    draw = Draw(torch.zeros(len(t), dtype=torch.int64), t, Uniform().weight(schedule, t), noise)
    found["loss"] = x_0[0].numel() * Denoising().build(denoiser).loss(Batch(x_0), draw, denoiser)
    return found


FAMILIES = {
    "cld": cld,
    "iddpm": iddpm,
    "iddpm-bpd": iddpm_bpd,
    "consistency": consistency,
    "consistency-schedule": consistency_schedule,
    "pfgm": pfgm,
    "edm2-guidance": edm2_guidance,
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
    family, public = FAMILIES.get(case["family"]), INDEX["split"] == "public"
    if family is None:
        assert not public or case["id"] in LEFT_OUT
        pytest.skip(f"not expressed: {case['family']}")
    with np.load(HOME / "data.npz") as data:
        given = {name: data[f"{case['id']}/in/{name}"] for name in case["inputs"]}
        golden = {name: data[f"{case['id']}/out/{name}"] for name in case["outputs"]}
    try:
        found = family(case["kwargs"], given)
    except NotExpressed as reason:
        assert not public or case["id"] in LEFT_OUT, "docs/objectives.md has a table of what is not expressed"
        pytest.skip(f"not expressed: {reason}")
    assert not public or case["id"] not in LEFT_OUT
    compared = [name for name in case["outputs"] if name in found]
    assert compared
    for name in compared:
        wanted = golden[name]
        value = found[name].detach().numpy() if isinstance(found[name], torch.Tensor) else np.asarray(found[name])
        value = np.broadcast_to(value, wanted.shape) if value.ndim == wanted.ndim else value.reshape(wanted.shape)
        np.testing.assert_allclose(value, wanted, rtol=case["rtol"], atol=case["atol"], err_msg=name)
