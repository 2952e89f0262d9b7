"""PFGM's samplers."""

import torch

from golden_samplers import NotExpressedError, Settings, Setup, ragged
from msdk.samplers.pfgm import PFGM, PFGMEuler
from msdk.schedules import pfgm as schedules


def field_mean(problem, x, z):
    """The mean of the points, weighted by 1 / distance^(d + 1) in d + 1 dimensions."""
    distance = ((x[:, None] - problem.places).square().sum(2) + z**2).sqrt()
    weights = (-(problem.places.shape[1] + 1) * distance.log()).softmax(1)
    return weights @ problem.places


def setup(case: Settings) -> Setup:
    if case["p"] != "B":
        raise NotExpressedError("a problem that is no points")
    start, like, steps = case.given["x_init"], f"{case['p']}/z", case.number("N")
    case.number("prior_seed")  # the start is recorded
    options = {"gamma": float(case.number("gamma")), "z_exp": float(case.number("z_exp"))}
    options["furthest"] = float(case.number("upper_norm"))
    schedule = schedules.PFGM(z_min=case.number("z_min"), z_max=float(case.number("z_max")))
    if case["solver"] == "rk45":
        case.only("atol", case.number("rtol"))
        sampler = PFGM(**options, tolerance=case.number("rtol"))
    else:
        corrects = case.one("solver", {"improved_euler": True, "forward_euler": False})
        sampler = PFGMEuler(**options, corrects=corrects)
    return Setup(
        schedule=schedule,
        sampler=sampler,
        steps=steps,
        start=lambda vectors: ragged(vectors, start).reshape(vectors[like].shape).to(torch.float64),
        mean=field_mean,
        times_tolerance=1e-6,
    )
