"""Routing by stage, and what the denoiser's estimate is worth in other words."""

import attrs
import pytest
import torch

import msdk
from msdk.decoders.score_sde import DDPMpp as DecoderSpec
from msdk.denoiser import Denoiser, StagedNetwork
from msdk.encoders.base import Features
from msdk.encoders.score_sde import DDPMpp as EncoderSpec
from msdk.errors import PartError
from msdk.parameterizations.edm import EDM
from msdk.parameterizations.eps import Eps
from msdk.partition import Partition
from msdk.schedules.vp import VPLinear
from recipes import tiny

SHAPE = (3, 8, 8)
SCHEDULE = VPLinear()
PARTITION = Partition.of_times((0.442, 0.6308), SCHEDULE)
TIMES = torch.tensor([0.9, 0.1, 0.5, 0.442, 0.6308, 0.2, 1.0], dtype=torch.float64)
STAGES = [2, 0, 1, 0, 1, 0, 2]


def make(sharing="shared", parameterization=None, **labels):
    """A small denoiser of three stages in float64, all of whose weights matter."""
    spec = EncoderSpec(channels=8, channel_mult=(1, 2), blocks=1, attention=(4,), groups=4, dropout=0.0, **labels)
    encoders = [spec.build(SHAPE) for _ in range(3 if sharing == "separate" else 1)]
    decoders = [DecoderSpec(channels=n, groups=4, dropout=0.0).build(spec.info(SHAPE), SHAPE) for n in (16, 12, 4)]
    network = StagedNetwork(encoders, decoders)
    denoiser = Denoiser(network, PARTITION, SCHEDULE, parameterization or Eps(), SHAPE).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return denoiser


def images(count=7):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(denoiser, estimate):
    denoiser.zero_grad(set_to_none=True)
    estimate.square().mean().backward()
    return {name: parameter.grad for name, parameter in denoiser.named_parameters()}


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_a_mixed_batch_is_its_images_one_by_one(sharing):
    """Estimates and all gradients of a batch of mixed stages equal those of single images at a float time."""
    denoiser, x = make(sharing), images()
    mixed = denoiser(x, TIMES)
    single = torch.cat([denoiser(x[i : i + 1], t) for i, t in enumerate(TIMES.tolist())])
    torch.testing.assert_close(mixed, single, rtol=1e-10, atol=1e-10)
    mixed_gradients, single_gradients = gradients(denoiser, mixed), gradients(denoiser, single)
    assert all(gradient is not None and gradient.any() for gradient in mixed_gradients.values())
    torch.testing.assert_close(mixed_gradients, single_gradients, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_labels_stay_with_their_images(sharing):
    """In a batch of mixed stages each image keeps its class and its augmentation label."""
    denoiser, x = make(sharing, classes=7, augment=2), images()
    label, augment = torch.arange(7), torch.arange(14.0, dtype=torch.float64).reshape(7, 2)
    single = [denoiser(x[i : i + 1], t, label[i : i + 1], augment[i : i + 1]) for i, t in enumerate(TIMES.tolist())]
    torch.testing.assert_close(denoiser(x, TIMES, label, augment), torch.cat(single), rtol=1e-10, atol=1e-10)


def test_features_are_split_without_copies():
    """Pieces are views of the features, also nested ones; what all samples share goes to every piece."""
    skip, one, scale = torch.randn(5, 2, 4, 4), torch.randn(1, 3), torch.arange(5.0)
    first, second = Features((skip, skip + 1), skip, one, scale).split([2, 3])
    assert [len(part.bottom) for part in (first, second)] == [2, 3]
    assert second.bottom.data_ptr() == skip[2:].data_ptr()
    torch.testing.assert_close(second.skips, (skip[2:], skip[2:] + 1))
    assert first.embedding is second.embedding is one
    torch.testing.assert_close([first.output_scale, second.output_scale], [scale[:2], scale[2:]])
    assert Features((), skip, one).split([5])[0].output_scale is None


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_each_network_runs_once_per_batch(sharing):
    """A shared encoder sees the whole batch once; every decoder, and separate encoder, only its own images, once."""
    denoiser, seen = make(sharing), {}

    def count(name, batch):
        seen.setdefault(name, []).append(batch)

    for kind in ("encoders", "decoders"):
        for k, module in enumerate(getattr(denoiser.network, kind)):
            size = (lambda out: len(out.bottom)) if kind == "encoders" else len
            module.register_forward_hook(lambda _, __, out, name=(kind, k), size=size: count(name, size(out)))
    denoiser(images(), TIMES)
    own = {k: [STAGES.count(k)] for k in range(3)}
    encoders = own if sharing == "separate" else {0: [len(TIMES)]}
    assert seen == {("encoders", k): n for k, n in encoders.items()} | {("decoders", k): n for k, n in own.items()}


def test_a_float_and_a_tensor_of_one_stage_agree():
    """One time for the batch is the same as that time for every image, and so for every dtype of t."""
    denoiser, x = make(), images(3)
    for t in (0.125, 0.5, 0.75):  # exact in float32
        expected = denoiser(x, t)
        for dtype in (torch.float64, torch.float32):
            torch.testing.assert_close(denoiser(x, torch.full((3,), t, dtype=dtype)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("edge", [0.442, 0.6308])
def test_an_edge_uses_the_lower_decoder(edge):
    """At an edge's own time the decoder below it answers, for floats and tensors; just above, the next one does."""
    denoiser, x = make(), images(1)
    lower = [0.442, 0.6308].index(edge)
    c = Eps().coefficients(SCHEDULE, edge)
    below = c.c_skip * x + c.c_out * denoiser.network(x, torch.tensor([c.c_noise], dtype=torch.float64), lower)
    torch.testing.assert_close(denoiser(x, edge), below)
    torch.testing.assert_close(denoiser(x, torch.tensor([edge], dtype=torch.float64)), below)
    assert not torch.allclose(denoiser(x, edge + 1e-9), below)


@pytest.mark.parametrize("t", [0.3, TIMES])
@pytest.mark.parametrize("parameterization", [Eps(), EDM()])
def test_conversions_say_the_same(parameterization, t):
    """x_t = alpha x_0 + sigma eps, score = -eps / sigma and v = alpha eps - sigma x_0, at floats and tensors."""
    denoiser, x = make(parameterization=parameterization), images()
    time = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1, 1, 1)
    alpha, sigma = SCHEDULE.alpha(time), SCHEDULE.sigma(time)
    x_0, eps = denoiser(x, t), denoiser.eps(x, t)
    torch.testing.assert_close(alpha * x_0 + sigma * eps, x)
    torch.testing.assert_close(denoiser.score(x, t), -eps / sigma)
    torch.testing.assert_close(denoiser.v(x, t), alpha * eps - sigma * x_0)


def test_eps_of_an_eps_network_is_its_output():
    """With the eps parameterisation the raw network of the stage, fed x_t and 999 t, is the noise estimate."""
    denoiser, x = make(), images(2)
    c_noise = torch.tensor([999 * 0.5], dtype=torch.float64)
    torch.testing.assert_close(denoiser.eps(x, 0.5), denoiser.network(x, c_noise, stage=1))


def test_a_stage_alone_is_encoder_and_decoder_with_shared_weights():
    """`stage(k)` computes what the network does in stage k, and owns no copies."""
    denoiser, x = make(), images(2)
    c_noise = torch.tensor([7.0], dtype=torch.float64)
    for k in range(3):
        stage = denoiser.stage(k)
        torch.testing.assert_close(stage(x, c_noise), denoiser.network(x, c_noise, k), rtol=0, atol=0)
        own = {id(parameter) for parameter in denoiser.parameters()}
        assert all(id(parameter) in own for parameter in stage.parameters())


def test_routing_needs_no_values_from_the_images_device():
    """Times on the CPU decide everything: images whose values nobody can read (meta) are routed all the same."""
    denoiser = make().to("meta")
    x = torch.empty(len(TIMES), *SHAPE, dtype=torch.float64, device="meta")
    assert denoiser(x, TIMES).shape == x.shape
    assert denoiser(x, 0.5).device.type == "meta"


def test_an_idle_decoder_keeps_no_gradient():
    """A decoder without images in the batch has grad None, not zeros, so that no optimiser moves it."""
    denoiser = make()
    found = gradients(denoiser, denoiser(images(2), torch.tensor([0.1, 0.9], dtype=torch.float64)))
    idle = {name for name, gradient in found.items() if gradient is None}
    assert idle == {name for name in found if name.startswith("network.decoders.1.")}


def test_times_that_do_not_match_the_images_are_refused():
    """A tensor t needs one entry per image; the message has both shapes."""
    with pytest.raises(PartError, match=r"one entry per image, got \(2,\) for 3 images"):
        make()(images(3), torch.tensor([0.1, 0.2]))


def test_parts_that_do_not_add_up_are_refused():
    """One encoder or one per decoder; as many decoders as stages."""
    network = make().network
    with pytest.raises(PartError, match="2 encoders for 3 decoders: give one, or one for each"):
        StagedNetwork([network.encoder(0)] * 2, list(network.decoders))
    with pytest.raises(PartError, match="2 stages need as many decoders, got 3"):
        Denoiser(network, Partition((1.0,)), SCHEDULE, Eps(), SHAPE)


def test_lazy_modules_are_refused():
    """A layer without shapes could be neither counted nor trained nor saved: whatever builds it says so."""

    class Lazy(EncoderSpec):
        def build(self, shape):
            return torch.nn.Sequential(torch.nn.ReLU(), torch.nn.LazyConv2d(3, 1))

    recipe = tiny()
    with pytest.raises(
        PartError, match=r"encoders\.0\.1\.weight is of a lazy module.*a part's `build` must call it once"
    ):
        msdk.build(attrs.evolve(recipe, encoder=Lazy(channels=8, blocks=1)))
