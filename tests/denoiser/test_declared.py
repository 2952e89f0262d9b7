"""Features and predictions are held to what parts declare: at build, without storage, and at the first call."""

import re

import attrs
import pytest
import torch
from torch import nn

from msdk.autoencoders.vq_net import VQNet
from msdk.decoders.base import Decoder
from msdk.denoiser.building import Parts, build, join
from msdk.denoiser.declared import Declared
from msdk.encoders.base import Encoder, FeatureInfo, Features, Level
from msdk.errors import PartError
from msdk.parameterizations.eps import Eps
from msdk.partition import Partition
from msdk.schedules.vp import VPLinear
from recipes import AUTOENCODER, tiny

INFO = FeatureInfo((Level(1, (4,)), Level(2, (4, 6))), bottom=6, embedding=8)


class Net(nn.Module):
    """Features as an encoder of `INFO` should give them, but for those that are told."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong, self.weight = wrong, nn.Parameter(torch.ones(1))

    def forward(self, x, c_noise, label=None):
        if self.wrong.pop("values", None):
            float(x.sum())  # cannot be told on the meta device
        n, _, h, w = x.shape
        shapes = {"a": (n, 4, h, w), "b": (n, 4, h // 2, w // 2), "c": (n, 6, h // 2, w // 2)}
        shapes |= {"bottom": (n, 6, h // 2, w // 2), "embedding": (n, 8), "scale": (n,)} | self.wrong
        a, b, c, bottom, embedding, scale = (self.weight * x.new_ones(shape) for shape in shapes.values())
        return Features((a, b, c), bottom, embedding, scale)


class Head(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape, self.weight = shape, nn.Parameter(torch.ones(1))

    def forward(self, features):
        return self.weight * features.bottom.new_ones(len(features.bottom), *self.shape)


@attrs.frozen
class Odd(Encoder):
    wrong: dict = attrs.field(factory=dict, hash=False)

    def info(self, shape):
        return INFO

    def build(self, shape):
        return Net(dict(self.wrong))


@attrs.frozen
class OddHead(Decoder):
    shape: tuple = (3, 8, 8)
    variance: bool = False

    def check(self, info): ...

    def build(self, info, shape):
        return Head(self.shape)


def joined(encoder=Odd(), *decoders, device="cpu"):
    schedule = VPLinear()
    parts = Parts(
        encoders=(encoder,),
        decoders=decoders or (OddHead(),),
        schedule=schedule,
        parameterization=Eps(),
        shape=(3, 8, 8),
    )
    return join(parts, Partition.of_times((0.5,) * (len(parts.decoders) - 1), schedule), device)


def test_what_is_declared_is_no_problem():
    """Also with one embedding for a batch, and with a variance."""
    denoiser = joined(Odd({"embedding": (1, 8), "scale": (1,)}), OddHead(), OddHead((6, 8, 8), variance=True))
    assert denoiser.network(torch.zeros(2, 3, 8, 8), torch.zeros(2), 0).shape == (2, 3, 8, 8)
    assert denoiser(torch.zeros(2, 3, 8, 8), 0.9).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"a": (2, 5, 8, 8)}, r"skip 0 of images \[2, 3, 8, 8\] is \[2, 5, 8, 8\], and must be \[2, 4, 8, 8\]"),
        ({"b": (2, 4, 1, 1)}, r"skip 1 .* is \[2, 4, 1, 1\], and must be \[2, 4, 4, 4\]"),
        ({"c": (1, 6, 4, 4)}, r"skip 2 .* is \[1, 6, 4, 4\], and must be \[2, 6, 4, 4\]"),
        ({"bottom": (2, 6, 8, 8)}, r"the bottom .* is \[2, 6, 8, 8\], and must be \[2, 6, 4, 4\]"),
        ({"embedding": (2, 1)}, r"the embedding .* is \[2, 1\], and must be \[2, 8\]"),
        ({"scale": (2, 1)}, r"the output scale .* is \[2, 1\], and must be \[2\]"),
    ],
    ids=["wide", "small", "alone", "unreduced", "narrow", "column"],
)
def test_features_are_those_of_info(wrong, told):
    """At build; where that cannot tell, at the first call, of every way there is to call."""
    with pytest.raises(PartError, match=rf"^Odd of the module .*: {told}"):
        joined(Odd(wrong))
    for call in (
        lambda denoiser, x: denoiser.network(x, torch.zeros(2), 0),
        lambda denoiser, x: denoiser(x, 0.3),
        lambda denoiser, x: denoiser(x, torch.tensor([0.2, 0.7])),
    ):
        denoiser = joined(Odd({**wrong, "values": True}), OddHead(), OddHead())
        with pytest.raises(PartError, match=told):
            call(denoiser, torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("shape", [(4, 8, 8), (1, 8, 8), (6, 8, 8), (3, 1, 1), (3, 4, 8)])
def test_predictions_are_images(shape):
    """One channel too many was cut away, one alone was broadcast; twice as many are a variance if declared."""
    told = f"stage 1 predicts {[2, *shape]}, and must predict [2, 3, 8, 8]"
    with pytest.raises(PartError, match=rf"^OddHead of the module .*: of images .* {re.escape(told)}$"):
        joined(Odd(), OddHead(), OddHead(shape))
    denoiser = joined(Odd({"values": True}), OddHead(), OddHead(shape))
    with pytest.raises(PartError, match=re.escape(told)):
        denoiser(torch.zeros(2, 3, 8, 8), 0.9)
    assert denoiser(torch.zeros(2, 3, 8, 8), 0.1).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("where", ["bottom", "prediction"])
def test_what_is_not_finite_is_named(where):
    """In the first call, with the part that makes it so; images that are not finite are no part's fault."""

    class Sick(nn.Module):
        def __init__(self, network, where):
            super().__init__()
            self.network, self.where = network, where

        def forward(self, x, *rest):
            found = self.network(x, *rest)
            return found._replace(bottom=found.bottom / 0 * 0) if self.where == "bottom" else found / 0 * 0

    denoiser = joined()
    network = denoiser.network
    if where == "bottom":
        network.encoders[0] = Sick(network.encoders[0], where)
        told = "Odd of .*: the bottom is not finite, and the images were"
    else:
        network.decoders[0] = Sick(network.decoders[0], where)
        told = "OddHead of .*: the prediction of stage 0 is not finite"
    with pytest.raises(PartError, match=told):
        denoiser(torch.zeros(2, 3, 8, 8), 0.5)
    assert joined()(torch.full((2, 3, 8, 8), torch.nan), 0.5).isnan().all()


def test_what_is_returned_is_of_its_type():
    """A tuple is no Features, and a dict no FeatureInfo."""

    class Bare(Odd):
        def build(self, shape):
            return Pair()

    class Pair(nn.Module):
        def forward(self, x, c_noise, label=None):
            return x, x

    class Said(Odd):
        def info(self, shape):
            return {"bottom": 6}

    with pytest.raises(PartError, match="its network returns tuple, and must return Features"):
        joined(Bare())
    with pytest.raises(PartError, match=r"OddHead of .*: `build` returns NoneType, and must return an nn\.Module"):
        Declared((Odd(),), (OddHead(),), (INFO,), (3, 8, 8)).networks([nn.Identity()], [None])
    with pytest.raises(PartError, match="`info` returns dict, and must return FeatureInfo"):
        joined(Said())


def test_looking_changes_nothing():
    """Neither weights nor random numbers, and all is on the device that was asked for."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    denoiser = joined()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.device.type == "cpu" for parameter in denoiser.parameters())


def test_numbers_that_are_not_there_are_told():
    """A `build` that reads tensors works with storage, and is named with a remedy where budgets have none."""

    class Reading(Odd):
        def build(self, shape):
            rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
            assert len(rates) == 3
            return super().build(shape)

    joined(Reading())
    with pytest.raises(PartError, match=r"Reading of .*: its `build` reads numbers of tensors, .*: compute them in"):
        joined(Reading(), device="meta")


@pytest.mark.parametrize("where", ["meta", "cpu"])
def test_latents_are_those_of_latent_shape(monkeypatch, where):
    """An autoencoder of somebody else's that gives other latents than it says is told before anything is counted."""
    recipe = tiny(f"autoencoder={AUTOENCODER}}}")
    kind = type(recipe.autoencoder)
    build(recipe, where)
    plain = VQNet.encode

    def pooled(self, x):
        if where == "cpu" and x.is_meta:
            raise NotImplementedError("an operator without a meta kernel: its first call is looked at instead")
        return torch.nn.functional.avg_pool2d(plain(self, x), 2)

    monkeypatch.setattr(VQNet, "encode", pooled)
    monkeypatch.setattr("msdk.denoiser.declared.whose", lambda cls: "the plugin 'lab'" if cls is kind else None)
    words = r"`encode` gives \[2, 2, 2, 2\] of images \[2, 1, 8, 8\], and `latent_shape` says \[2, 2, 4, 4\]"
    with pytest.raises(PartError, match=words):
        build(recipe, where).encode(torch.zeros(2, 1, 8, 8, device=where))
