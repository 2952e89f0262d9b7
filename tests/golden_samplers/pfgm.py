"""PFGM's samplers."""

import torch

from golden_samplers import Json, Setup, ragged
from msdk.samplers.pfgm import PFGM, PFGMEuler
from msdk.schedules import pfgm as schedules


def field_mean(vectors, x, z):
    """The mean of the points, weighted by 1 / distance^17 in 17 dimensions."""
    points = vectors["B/points"]
    distance = ((x[:, None] - points).square().sum(2) + z**2).sqrt()
    weights = (-17 * distance.log()).softmax(1)
    return weights @ points


def setup(case: Json) -> Setup | str:
    options = {"gamma": float(case["gamma"]), "z_exp": float(case["z_exp"]), "furthest": float(case["upper_norm"])}
    schedule = schedules.PFGM(z_min=case["z_min"], z_max=float(case["z_max"]))
    if case["solver"] == "rk45":
        sampler = PFGM(**options, tolerance=case["rtol"])
    else:
        sampler = PFGMEuler(**options, corrects=case["solver"] == "improved_euler")
    return Setup(
        schedule=schedule,
        sampler=sampler,
        steps=case["N"],
        start=lambda vectors: ragged(vectors, case["x_init"]).reshape(8, 16).to(torch.float64),
        mean=field_mean,
        times_tolerance=1e-6,
    )
