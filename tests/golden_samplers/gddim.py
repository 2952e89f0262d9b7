"""gDDIM's sampler of critically damped Langevin diffusion."""

import torch

from golden_samplers import Mixture, NotExpressedError, Points, Settings, Setup
from msdk.samplers.gddim import GDDIM
from msdk.schedules.cld import CLD

SCHEDULE = CLD()


def posterior_mean(problem, u, t):
    """E[x_0 | x, v]: components are independent by dimension, and Gaussian in (x, v)."""
    x, v = u.chunk(2, dim=1)
    if isinstance(problem, Points):
        places = problem.places
        even = torch.full((len(places),), 1 / len(places), dtype=places.dtype)
        problem = Mixture(even, places, torch.zeros_like(places))
    weights, means, stds = problem.weights, problem.means, problem.stds
    psi = torch.from_numpy(SCHEDULE.transition(0.0, t)[:, 0].copy())
    sigma = torch.from_numpy(SCHEDULE.covariance(t))
    covariance = psi[:, None] * psi[None, :] * stds[..., None, None] ** 2 + sigma  # component, dimension, 2, 2
    off = torch.stack([x, v], -1)[:, None] - psi * means[..., None]  # batch, component, dimension, 2
    solved = torch.linalg.solve(covariance, off[..., None])[..., 0]
    logits = weights.log() - 0.5 * ((off * solved).sum(-1) + torch.logdet(covariance)).sum(-1)
    estimates = means + stds**2 * (solved * psi).sum(-1)
    return (logits.softmax(1)[..., None] * estimates).sum(1)


def setup(case: Settings) -> Setup:
    if not case.one("coef_kind", {"exact": True, "riemann10000": False}):
        raise NotExpressedError("coefficients by a Riemann sum, which the exact ones replace")
    sampler = GDDIM(
        order=case.number("order") + 1,
        grid="power-t",
        rho=case.number("ts_order"),
        t_end=1e-3,
        final_denoise=case.flag("denoise"),
    )
    return Setup(schedule=SCHEDULE, sampler=sampler, steps=case.number("steps"), scale=1.0, mean=posterior_mean)
