"""gDDIM's sampler of critically damped Langevin diffusion."""

import torch

from golden_samplers import Json, Setup
from msdk.samplers.gddim import GDDIM
from msdk.schedules.cld import CLD
from msdk.testing.problems import MEANS, STDS, WEIGHTS

SCHEDULE = CLD()


def posterior_mean(problem):
    """E[x_0 | x, v]: components are independent by dimension, and Gaussian in (x, v)."""

    def mean(vectors, u, t):
        x, v = u.chunk(2, dim=1)
        if problem == "A":
            weights, means, stds = WEIGHTS, MEANS, STDS
        else:
            means = vectors["B/points"]
            weights, stds = torch.full((len(means),), 1 / len(means), dtype=means.dtype), torch.zeros_like(means)
        psi = torch.from_numpy(CLD.transition(t)[:, 0].copy())
        sigma = torch.from_numpy(SCHEDULE.covariance(t))
        covariance = psi[:, None] * psi[None, :] * stds[..., None, None] ** 2 + sigma  # component, dimension, 2, 2
        off = torch.stack([x, v], -1)[:, None] - psi * means[..., None]  # batch, component, dimension, 2
        solved = torch.linalg.solve(covariance, off[..., None])[..., 0]
        logits = weights.log() - 0.5 * ((off * solved).sum(-1) + torch.logdet(covariance)).sum(-1)
        estimates = means + stds**2 * (solved * psi).sum(-1)
        return (logits.softmax(1)[..., None] * estimates).sum(1)

    return mean


def setup(case: Json) -> Setup | str:
    if case["coef_kind"] != "exact":
        return "coefficients by a Riemann sum, which the exact ones replace"
    sampler = GDDIM(
        order=case["order"] + 1, grid="power-t", rho=case["ts_order"], t_end=1e-3, final_denoise=case["denoise"]
    )
    return Setup(schedule=SCHEDULE, sampler=sampler, steps=case["steps"], scale=1.0, mean=posterior_mean(case["p"]))
