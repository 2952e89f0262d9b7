"""Promises of training on latents: end to end on real images, with a frozen autoencoder that the run folder keeps."""

import hashlib
import json
import shutil

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

import msdk
from msdk.denoiser.building import build
from msdk.errors import RunError
from msdk.runs import checkpoints, latest, load_checkpoint
from msdk.sampling.drawing import write_samples
from msdk.training.drawing import to_range
from msdk.training.step import encoded
from recipes import AUTOENCODER, latent, tiny


def longer(recipe, iterations):
    return attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=iterations))


def test_digits_are_trained_and_drawn_through_latents(tmp_path):
    """Two steps on the digits' latents, then samples: images of the data's shape, from latents of another."""
    recipe = latent(tmp_path, "training.iterations=2", "sampling.steps=2", "sampling.images=3")
    run = tmp_path / "run"
    result = msdk.train(recipe, run)
    assert result.last.iteration == 2
    assert result.last.loss == result.last.loss
    denoiser = msdk.load_run(run)
    images = msdk.sample(denoiser, recipe.sampler, 2, [0, 1, 2], batch_size=2)
    latents = msdk.sample(denoiser, recipe.sampler, 2, [0, 1, 2], batch_size=2, decode=False)
    assert (images.shape, latents.shape) == ((3, 1, 8, 8), (3, 2, 4, 4))
    net = recipe.autoencoder.build((1, 8, 8)).eval()
    net.load_state_dict(load_file(tmp_path / "vq.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(images, net.decode(latents / 2.5))
    folder = write_samples(run, recipe)
    assert len(list(folder.glob("0*.png"))) == 3


def test_what_is_learned_is_the_scaled_latent(tmp_path):
    """Images are encoded without quantising and multiplied by the scale, also under bf16, and no gradient is kept."""
    recipe = latent(tmp_path)
    denoiser = build(recipe)
    images = to_range(recipe.data.open().read(range(4)).images)
    with torch.no_grad():
        expected = 2.5 * denoiser.autoencoder.encode(images)
    found = encoded(recipe, denoiser, images)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad
    half = encoded(attrs.evolve(recipe, training=attrs.evolve(recipe.training, precision="bf16")), denoiser, images)
    assert half.dtype == torch.float32
    assert not torch.equal(half, expected)
    torch.testing.assert_close(half, expected, rtol=0.1, atol=0.1)


def test_the_autoencoder_is_frozen(tmp_path):
    """Training changes no tensor of it, keeps it out of the checkpoints, and leaves it in eval mode."""
    recipe = latent(tmp_path, "training.precision=bf16")
    msdk.train(recipe, tmp_path / "run")
    before, after = load_file(tmp_path / "vq.safetensors"), msdk.load_run(tmp_path / "run").autoencoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    saved = load_checkpoint(latest(tmp_path / "run"))
    assert saved.model.keys() == build(recipe).network.state_dict().keys()
    denoiser = build(recipe).train()
    assert denoiser.network.training
    assert not denoiser.autoencoder.training
    assert not any(parameter.requires_grad for parameter in denoiser.autoencoder.parameters())


def test_a_run_folder_keeps_its_autoencoder(tmp_path):
    """The weights are stored once, named in the lock by their SHA-256, and move with the folder."""
    recipe = latent(tmp_path)
    msdk.train(recipe, tmp_path / "run")
    lock = json.loads((tmp_path / "run" / "lock.json").read_text())["autoencoder"]
    content = (tmp_path / "vq.safetensors").read_bytes()
    assert lock == {
        "name": "vq-f4",
        "weights": str(tmp_path / "vq.safetensors"),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert (tmp_path / "run" / "autoencoder.safetensors").read_bytes() == content
    assert not list((tmp_path / "run" / "checkpoints").rglob("autoencoder*"))
    (tmp_path / "vq.safetensors").unlink()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert msdk.load_run(tmp_path / "moved").autoencoder is not None


def test_resume_is_exact_and_needs_no_other_file(tmp_path):
    """Training on latents, stopping and resuming equals training at once, after the first weights file is gone."""
    recipe = latent(tmp_path)
    msdk.train(longer(recipe, 4), tmp_path / "whole")
    msdk.train(longer(recipe, 2), tmp_path / "halves")
    (tmp_path / "vq.safetensors").unlink()
    msdk.train(longer(recipe, 4), tmp_path / "halves", resume=True)
    whole, halves = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    assert all(torch.equal(whole.model[key], halves.model[key]) for key in whole.model)
    again = msdk.load_recipe(tmp_path / "halves" / "recipe.toml")
    assert msdk.train(longer(again, 5), tmp_path / "halves", resume=True).last.iteration == 5


def test_weights_in_the_folder_that_is_replaced(tmp_path):
    """A run's own recipe may start over in the same folder: its autoencoder is read before the folder goes."""
    msdk.train(latent(tmp_path), tmp_path / "run")
    (tmp_path / "vq.safetensors").unlink()
    again = msdk.load_recipe(tmp_path / "run" / "recipe.toml", ["training.seed=7"])
    msdk.train(again, tmp_path / "run", force=True)
    assert msdk.load_run(tmp_path / "run").autoencoder is not None


def test_a_run_folder_may_give_its_autoencoder(tmp_path):
    """`weights` may name a run folder that has one."""
    recipe = latent(tmp_path)
    msdk.train(recipe, tmp_path / "run")
    other = attrs.evolve(recipe, autoencoder=attrs.evolve(recipe.autoencoder, weights=tmp_path / "run"))
    expected, found = (build(each).autoencoder.state_dict() for each in (recipe, other))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_missing_weights_are_told(tmp_path):
    """Building and counting do without weights; training says first what is needed and how to get it."""
    recipe = tiny(f"autoencoder={AUTOENCODER}}}")
    assert build(recipe).autoencoder is not None
    with pytest.raises(RunError, match=r"set autoencoder.weights .*msdk pretrained convert FILE --family vq --out X"):
        msdk.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    nowhere = attrs.evolve(recipe, autoencoder=attrs.evolve(recipe.autoencoder, weights=tmp_path / "no.safetensors"))
    for use in (build, lambda each: msdk.train(each, tmp_path / "run")):
        with pytest.raises(RunError, match=r"autoencoder.weights names .*no.safetensors, but there is no such file"):
            use(nowhere)


def test_weights_that_do_not_fit_leave_the_old_run_alone(tmp_path):
    """Damaged weights, or another autoencoder's, are told before --force replaces a folder."""
    msdk.train(latent(tmp_path), tmp_path / "run")
    weights = load_file(tmp_path / "vq.safetensors")
    save_file({**weights, "quantizer.codes": torch.zeros(8, 2)}, tmp_path / "vq.safetensors")
    recipe = tiny(f'autoencoder={AUTOENCODER}, weights="{tmp_path / "vq.safetensors"}"}}')
    with pytest.raises(RunError, match=r"another autoencoder: quantizer.codes is \(8, 2\) instead of \(16, 2\)"):
        msdk.train(recipe, tmp_path / "run", force=True)
    (tmp_path / "vq.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"vq.safetensors is damaged"):
        msdk.train(recipe, tmp_path / "run", force=True)
    assert checkpoints(tmp_path / "run")


def test_another_autoencoder_is_another_recipe(tmp_path):
    """A run is resumed with its own scale; where the weights file lies does not matter."""
    recipe = latent(tmp_path)
    msdk.train(recipe, tmp_path / "run")
    other = attrs.evolve(recipe, autoencoder=attrs.evolve(recipe.autoencoder, scale=1.0))
    with pytest.raises(RunError, match="another recipe, with other autoencoder"):
        msdk.train(other, tmp_path / "run", resume=True)
