"""`recipe check --build` finds what parts promise and do not keep, part by part."""

import json

import attrs
import pytest
import torch
from commands import quick

from msdk.decoders.score_sde import DDPMpp
from msdk.denoiser.trial import misbuilt
from msdk.encoders.score_sde import DDPMpp as DDPMppEncoder
from msdk.recipe import to_toml
from recipes import tiny

UNET = tiny()


def told(recipe):
    return {problem.path: problem.message for problem in misbuilt(recipe)}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("encoder.classes=10", "encoder.augment=9"),
        ('autoencoder={name="vq-f4", channels=8, channel_mult=[1, 2], blocks=1, groups=4, codes=16}',),
        ("adapter.channels=[8, 16]",),
        (
            'encoder={name="dit", width=32, heads=2, patch=1, depth=1}',
            'decoders=[{name="dit", width=32, heads=2, depth=1}, {name="dit", width=32, heads=2, depth=1, '
            'variance=true}, {name="dit", width=16, heads=2, depth=1}]',
        ),
    ],
    ids=["plain", "conditional", "latent", "adapter", "tokens"],
)
def test_good_parts_have_no_problem(overrides):
    """Nothing is told of networks that keep their promises, and nothing real is made."""
    assert told(tiny(*overrides)) == {}


def changed(base, build):
    """A spec like another, whose network is something else."""
    part = attrs.make_class("Changed", [], bases=(type(base),), frozen=True, kw_only=True)
    part.build = build
    return part(**{field.name: getattr(base, field.name) for field in attrs.fields(type(base))})


class Wider(torch.nn.Module):
    """A network whose last output has one channel too many."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs, **named):
        found = self.inner(*inputs, **named)
        if isinstance(found, torch.Tensor):
            return torch.cat([found, found[:, :1]], 1)
        return found._replace(skips=(*found.skips[:-1], torch.cat([found.skips[-1]] * 2, 1)))


def test_promises_that_are_not_kept_are_told_by_part():
    """Features beside their info, a prediction of another shape, and what raises; the rest is tried all the same."""
    wide = changed(UNET.encoder, lambda self, shape: Wider(DDPMppEncoder.build(self, shape)))
    assert list(told(attrs.evolve(UNET, encoder=wide))) == ["encoder"]
    assert "skip" in told(attrs.evolve(UNET, encoder=wide))["encoder"]
    first, second, third = UNET.decoders
    more = changed(first, lambda self, info, shape: Wider(DDPMpp.build(self, info, shape)))
    raising = changed(third, lambda self, info, shape: torch.nn.Linear(3, 4))
    found = told(attrs.evolve(UNET, decoders=(more, second, raising)))
    assert list(found) == ["decoders.0", "decoders.2"]
    assert found["decoders.0"] == "predicts [2, 8, 8] for images [1, 8, 8], not [1, 8, 8]"
    assert found["decoders.2"].startswith("is built, but fails on images: TypeError")


def test_the_command_builds_beside_other_mistakes(tmp_path, capsys, monkeypatch):
    """`--build` tells what building says where nothing else is wrong, in words and as JSON."""
    path = tmp_path / "r.toml"
    path.write_text(to_toml(tiny()))

    def broken(self, info, shape):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(DDPMpp, "build", broken)
    arguments = ("recipe", "check", path, "--set", "training.lr=0", "--set", "decoders.1.channels=x")
    code, out, _ = quick(capsys, monkeypatch, *arguments, "--json", "--build")
    (found,) = json.loads(out)
    assert (code, found["good"]) == (2, False)
    problems = {each["path"]: each["message"] for each in found["problems"]}
    assert set(problems) == {"training.lr", "decoders.1.channels", "decoders.0", "decoders.2"}
    assert problems["decoders.0"] == "cannot be built: RuntimeError: no such kernel"
    code, out, err = quick(capsys, monkeypatch, "recipe", "check", path)
    assert (code, err) == (0, "")
