"""Promises of consistency models: the second network follows, a teacher is obeyed, and what is trained is sampled."""

import pytest
import torch

import msdk
from msdk.batch import Batch
from msdk.errors import RecipeError, RunError
from msdk.objectives.base import Draw
from msdk.objectives.consistency import Consistency
from msdk.runs import latest, load_checkpoint
from recipes import tiny

MODEL = (
    'schedule="edm"',
    'parameterization={name="consistency", sigma_data=0.75}',
    'weighting={name="snr", power=0.0}',
    'training.noise="rho"',
    'sampler="consistency"',
    "sampling.steps=2",
    "training.checkpoint_every=2",
)
OWN = 'training.objective={name="consistency", total_steps=8, start_scales=4, end_scales=20}'


def test_it_trains_resumes_and_is_sampled_in_two_steps(tmp_path):
    """The second network of a resumed run is that of one that was never stopped; two calls draw an image."""
    msdk.train(tiny(*MODEL, OWN), tmp_path / "whole", device="cpu")
    msdk.train(tiny(*MODEL, OWN, "training.iterations=2"), tmp_path / "halves", device="cpu")
    msdk.train(tiny(*MODEL, OWN), tmp_path / "halves", device="cpu", resume=True)
    whole, halves = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    assert whole.objective
    for part in ("model", "objective"):
        one, other = getattr(whole, part), getattr(halves, part)
        assert all(torch.equal(value, other[name]) for name, value in one.items()), part
    images = msdk.sample(msdk.load_run(tmp_path / "whole"))
    assert bool(images.isfinite().all())
    assert msdk.load_run(tmp_path / "whole").recipe.solver.calls(2) == [1, 1]


@pytest.mark.parametrize("rate", [0.0, 0.75, 1.0])
def test_the_second_network_follows_at_its_rate(rate):
    """F' <- rate f' + (1 - rate) f, which begins as f; no optimiser and no average of weights sees it."""
    denoiser = msdk.build(tiny(*MODEL))
    loss = Consistency(scales="fixed", ema="fixed", target_ema=rate).build(denoiser)
    began = {name: value.clone() for name, value in denoiser.network.state_dict().items()}
    for weight in denoiser.network.parameters():
        torch.nn.init.normal_(weight)
    loss.follow(denoiser, 0)
    for name, value in denoiser.network.state_dict().items():
        wanted = rate * began[name] + (1 - rate) * value
        torch.testing.assert_close(loss.state_dict()[f"target.{name}"], wanted, msg=name)
    assert list(loss.parameters()) == []


def test_each_time_has_the_decoder_of_its_stage():
    """Just above an edge the estimate is the upper stage's, and the second network's, a step down, the lower one's."""
    denoiser = msdk.build(tiny(*MODEL))
    loss, asked = Consistency(scales="fixed", start_scales=11).build(denoiser), []
    for name, network in (("own", denoiser.network), ("target", loss.target)):
        for stage, decoder in enumerate(network.decoders):
            decoder.register_forward_hook(lambda *_, seen=(name, stage): asked.append(seen))
    x_0, noise = torch.randn(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for ratio, wanted in ((0.31, [("own", 1), ("target", 0)]), (2.6, [("own", 2), ("target", 1)])):
        times = torch.tensor([denoiser.schedule.t_of_ratio(ratio)], dtype=torch.float64)
        draw = Draw(denoiser.partition.at(times, denoiser.schedule), times, torch.ones_like(times), noise)
        asked.clear()
        loss.loss(Batch(x_0), draw, denoiser)
        assert asked == wanted


def test_a_run_is_distilled(tmp_path):
    """Into a consistency model and into half the steps, by its folder; the teacher is not saved with it."""
    edm = ('schedule="edm"', 'sampler="heun"', 'training.noise="edm"', "training.iterations=2", "training.warmup=0")
    msdk.train(tiny(*edm), tmp_path / "teacher", device="cpu")
    for name, model in (("consistency", MODEL), ("progressive-distillation", edm)):
        told = f'training.objective={{name="{name}", teacher="{tmp_path / "teacher"}"}}'
        msdk.train(tiny(*model, told, "training.iterations=2"), tmp_path / name, device="cpu")
        assert all("teacher" not in key for key in load_checkpoint(latest(tmp_path / name)).objective or {})
    with pytest.raises(RunError, match="nowhere"):
        msdk.train(tiny(*edm, told.replace('teacher"', 'nowhere"')), tmp_path / "none", device="cpu")


def test_what_does_not_suit_it_is_told():
    """Estimates that are not the image at the floor, a missing teacher, and weights in shards."""
    with pytest.raises(RecipeError, match=r'set parameterization to \{ name = "consistency", floor = 0\.002 \}'):
        tiny(*MODEL, OWN, 'parameterization="edm"')
    with pytest.raises(RecipeError, match="needs a teacher"):
        tiny('training.objective="progressive-distillation"')
    with pytest.raises(RecipeError, match=r'set training\.parallel to "ddp"'):
        tiny(*MODEL, OWN, 'training.parallel="fsdp"')


def test_its_estimate_is_the_image_at_the_floor():
    """Whatever the network says: f(x, floor) = x."""
    denoiser = msdk.build(tiny(*MODEL, OWN))
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(denoiser(x, 0.002), x)


def test_nodes_grow_and_the_average_slows():
    """From 2 to 151 nodes over the training, while the rate rises from 0.81 towards 1."""
    spec = Consistency(start_scales=2, end_scales=150, total_steps=1000, target_ema=0.9)
    assert [spec.nodes(0), spec.nodes(1000)] == [2, 151]
    assert spec.rate(0) == pytest.approx(0.81)
    assert spec.rate(1000) == pytest.approx(0.9 ** (2 / 150))
