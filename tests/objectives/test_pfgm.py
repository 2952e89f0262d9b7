"""Promises of training on Poisson flows: its noise, its optimum, and samples that reach the data."""

import pytest
import torch
from golden_samplers.pfgm import field_mean
from torch import nn
from toys import Passed

import msdk
from msdk.batch import Batch
from msdk.denoiser import Denoiser, StagedNetwork
from msdk.errors import PartError, RecipeError
from msdk.noise_levels.log_uniform import LogUniform
from msdk.objectives.base import Draw
from msdk.objectives.pfgm import PFGM
from msdk.parameterizations.x0 import X0
from msdk.partition import Partition
from msdk.samplers.base import run
from msdk.samplers.pfgm import PFGMEuler
from msdk.schedules import pfgm
from msdk.weightings.soft_min_snr import SoftMinSNR
from recipes import tiny

POISSON = (
    'schedule="pfgm"',
    'parameterization={name="x0", time_scale=1.0}',
    'weighting={name="soft-min-snr", gamma=2.56}',
    'training.noise="log-uniform"',
    'training.objective="pfgm"',
    'sampler="pfgm-euler"',
)


def drawn(x_0, z, generator):
    noise = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
    extra = torch.randn(len(x_0), 1, *x_0.shape[1:], generator=generator, dtype=x_0.dtype)
    weights = SoftMinSNR(gamma=100.0).weight(pfgm.PFGM(), z)
    return Draw(torch.zeros(len(z), dtype=torch.int64), z, weights, noise, extra)


def test_its_noise_is_that_of_poisson_flows():
    """|x - x_0| = z sqrt(b / (1 - b)) with b ~ Beta(D / 2, 1 / 2); of D = 2 the law of the distance is closed."""
    generator = torch.Generator().manual_seed(0)
    x_0, z = torch.zeros(40_000, 2, 1, dtype=torch.float64), torch.full((40_000,), 3.0, dtype=torch.float64)
    far = PFGM(reach=1e9).build(None).noise(drawn(x_0, z, generator)).flatten(1).norm(dim=1).sort().values
    # Of D = 2, P(distance < r) = 1 - 1 / sqrt(r^2 + 1), in units of z.
    found = 1 - 1 / (far.square() + 1).sqrt()
    wanted = (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
    assert float((found - wanted).abs().max()) < 1.6 / 200  # Kolmogorov's bound of 1 %
    near = PFGM(reach=4.0).build(None).noise(drawn(x_0, z, generator))
    assert float(near.flatten(1).square().sum(1).max()) < (4 / 3) ** 2 * 40  # no scale is above the reach


class Plane(nn.Module):
    """A small network of points in the plane and the height."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(7, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))

    def forward(self, features):
        x = features.bottom.flatten(1)
        z = features.embedding.expand(len(x)).to(x)[:, None]
        size = (1 + x.square().sum(1, keepdim=True) + z.square()).sqrt()
        seen = torch.cat([x / size, x / (1 + x.square()).sqrt(), size.log(), z.log(), z / size], 1)
        return self.layers(seen).view_as(features.bottom)


def test_a_trained_toy_reaches_the_data():
    """Two Gaussians in the plane: lines of the trained field end where those of the exact field do, on the data."""
    torch.manual_seed(0)
    schedule, generator = pfgm.PFGM(z_min=1e-2), torch.Generator().manual_seed(1)
    law, objective = LogUniform(low=5e-3, high=40.0), PFGM()
    network = Denoiser(StagedNetwork([Passed()], [Plane()]), Partition(), schedule, X0(time_scale=1.0), (2, 1))
    loss, rule = objective.build(network), torch.optim.Adam(network.parameters(), lr=3e-3)
    signs = torch.tensor([-1.0, 1.0]).repeat(512)
    data = torch.randn(1024, 2, 1, generator=generator) * 0.2 + signs[:, None, None] * torch.tensor([[1.0], [0.5]])
    for step in range(400):
        rule.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
        chosen = data[torch.randint(1024, (384,), generator=generator)]
        z = law.quantile(schedule, torch.rand(384, generator=generator, dtype=torch.float64))
        rule.zero_grad()
        loss.loss(Batch(chosen), drawn(chosen, z, generator), network).mean().backward()
        rule.step()
    sampler = PFGMEuler(gamma=1.0, z_exp=0.0)
    times = sampler.times(schedule, 40)
    like = torch.zeros(256, 2, 1)
    start = sampler.start(schedule, lambda like, t, s: torch.randn(like.shape, generator=generator), like)
    problem = type("Points", (), {"places": data.flatten(1)})()

    def exact(x, z):
        return field_mean(problem, x.flatten(1), z).view_as(x)

    with torch.no_grad():
        ends, true = (run(sampler, each, schedule, times, start, None).flatten(1) for each in (network, exact))
    middle = torch.tensor([1.0, 0.5])
    for found in (ends, true):
        side = (found @ middle).sign()
        assert 0.35 < float((side > 0).float().mean()) < 0.65
        off = (found - side[:, None] * middle).square().mean(0).sqrt()
        assert bool((off < 0.33).all()), off
    assert float((ends - true).norm(dim=1).median()) < 0.2


def test_recipes_train_and_sample_it(tmp_path):
    """Three steps in stages and a few images; other objectives and other schedules are refused by name."""
    msdk.train(tiny(*POISSON, "training.iterations=3"), tmp_path / "run", device="cpu")
    images = msdk.sample(msdk.load_run(tmp_path / "run"))
    assert bool(images.isfinite().all())
    with pytest.raises(PartError, match=r'has noise of its own: set training\.objective to "pfgm"'):
        msdk.train(tiny(*POISSON[:4], POISSON[5]), tmp_path / "other", device="cpu")
    with pytest.raises(RecipeError, match="use that one, or another objective"):
        tiny(POISSON[4])
    with pytest.raises(RecipeError, match="must be above the schedule's z_max = 40"):
        tiny(*POISSON, "training.objective.reach=30.0")
