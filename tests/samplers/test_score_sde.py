"""Predictor-corrector with one of the two alone, as score_sde's programs without a predictor or a corrector run."""

import pytest
import torch

from msdk.errors import PartError
from msdk.samplers.base import run
from msdk.samplers.score_sde import PredictorCorrector
from msdk.schedules.ve import VE
from msdk.schedules.vp import VPLinear
from msdk.testing.problems import gaussian_mean


def drawn(sampler, schedule, steps):
    """The sample, x at the start, the draws in their order, and the number of network calls."""
    generator = torch.Generator().manual_seed(0)
    x, draws, calls = torch.randn(4, 3, generator=generator, dtype=torch.float64), [], []

    def denoise(x, t):
        calls.append(t)
        return gaussian_mean(x / schedule.alpha(t), schedule.ratio(t))

    def noise(x, t, s):
        draws.append(torch.randn(x.shape, generator=generator, dtype=x.dtype))
        return draws[-1]

    sampler.check(schedule, steps)
    return run(sampler, denoise, schedule, sampler.times(schedule, steps), x, noise), x, draws, calls


def score(schedule, x, t):
    clean = gaussian_mean(x / schedule.alpha(t), schedule.ratio(t))
    return (schedule.alpha(t) * clean - x) / schedule.sigma(t) ** 2


@pytest.mark.parametrize("corrections", [1, 2])
def test_a_corrector_alone_keeps_its_last_noise(corrections):
    """Annealed Langevin steps at every time, and nothing else: score_sde returns x, not the mean, of the last one."""
    schedule, steps = VE(), 6
    sampler = PredictorCorrector(predictor="none", corrector="ald", corrections=corrections, snr=0.1)
    found, x, draws, calls = drawn(sampler, schedule, steps)
    assert len(calls) == len(draws) == steps * corrections == sum(sampler.calls(steps))
    draws = iter(draws)
    for k in range(steps):
        t = 1 + (1e-3 - 1) * k / (steps - 1)
        size = 2 * (0.1 * schedule.sigma(t)) ** 2
        for _ in range(corrections):
            x = x + size * score(schedule, x, t) + (2 * size) ** 0.5 * next(draws)
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


def test_a_predictor_alone_ends_on_its_mean():
    """Reverse diffusion on VE at N times with no correction: one call and one draw each, the last without noise."""
    schedule, steps = VE(), 6
    sampler = PredictorCorrector(corrector="none")
    found, x, draws, calls = drawn(sampler, schedule, steps)
    assert (len(calls), len(draws)) == (steps, steps - 1)
    for k in range(steps):
        t = 1 + (1e-3 - 1) * k / (steps - 1)
        index = int(t * (steps - 1))
        high = 0.01 * 5000 ** (index / (steps - 1))
        low = 0.01 * 5000 ** ((index - 1) / (steps - 1)) if index else 0.0
        added = high**2 - low**2
        x = x + added * score(schedule, x, t) + (added**0.5 * draws[k] if k < steps - 1 else 0)
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


def test_neither_is_refused():
    """Nothing would call the network."""
    with pytest.raises(PartError, match="neither a predictor nor a corrector"):
        PredictorCorrector(predictor="none", corrector="none").check(VPLinear(), 50)
