"""Promises of batches that fit: as the recipe says where memory suffices, else halved until they do."""

import attrs
import pytest
import torch

import msdk
from msdk.denoiser import memory
from msdk.evaluation import fitting
from msdk.sampling import settings_of
from recipes import tiny


@pytest.fixture(scope="module")
def drawn():
    recipe = tiny("sampling.steps=2")
    return msdk.build(recipe).eval(), settings_of(recipe, seeds=range(8))


def test_what_an_image_holds_is_followed(drawn):
    """More than its pixels in each of its features, less than the weights; twice the channels hold twice as much."""
    denoiser, settings = drawn
    found = fitting.memory_of_an_image(denoiser, settings)
    assert 8 * 8 * 8 * 4 < found < 4 * sum(each.numel() for each in denoiser.parameters())
    wide = tiny("sampling.steps=2", "encoder.channels=16", "decoders.0.channels=24", "decoders.1.channels=16")
    assert 1.6 < fitting.memory_of_an_image(msdk.build(wide).eval(), settings) / found < 2.4


@pytest.mark.parametrize(("images", "size"), [(1000, 64), (64, 64), (63, 32), (3, 2), (0.5, 1), (float("inf"), 64)])
def test_batches_are_halved_until_they_fit(drawn, monkeypatch, images, size):
    """Of half of what is free, and of that a share where processes have one memory."""
    denoiser, settings = drawn
    needed = fitting.memory_of_an_image(denoiser, settings)
    for sharing in (1, 2):
        monkeypatch.setattr(fitting, "free_memory", lambda _, own=sharing: images * needed * 2 * own)
        assert fitting.fitting(denoiser, settings, sharing) == attrs.evolve(settings, batch_size=size)


def test_a_container_has_less(tmp_path, monkeypatch):
    """Its limit less what it holds, but for pages of files; without a limit, and on other systems, the host's."""
    host = memory.free_memory()
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free_memory(torch.device("cpu")) == pytest.approx(host, rel=0.5)
    for name, text in (("max", "5000"), ("current", "4000"), ("stat", "anon 10\nactive_file 300\ninactive_file 40\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_memory(torch.device("cpu")) == 1340
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(torch.device("cpu")) > 5000
