"""What holds for every registered network: any encoder with any decoder that fits, any mixture of stages in a batch."""

import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch

import msdk
from msdk.denoiser.building import Parts, join
from msdk.encoders.adapter import Adapter
from msdk.errors import PartError
from msdk.parameterizations.edm import EDM
from msdk.parameterizations.eps import Eps
from msdk.partition import Partition
from msdk.schedules.vp import VPLinear

SHAPE = (3, 8, 8)
SCHEDULE = VPLinear()
PARTITION = Partition.of_times((0.442, 0.6308), SCHEDULE)
TIMES = torch.tensor([0.9, 0.1, 0.5, 0.442, 0.6308, 0.2, 1.0], dtype=torch.float64)
LABELS = torch.tensor([0, -1, 2, 1, 0, 2, 1])

TOKENS = ("dit", "uvit")
MAPS = sorted({n for n in msdk.encoders.names() if msdk.encoders.origin(n).owner == "msdk"} - set(TOKENS))
WHOLE = sorted({*MAPS} - {"subspace"})
"""Those whose maps are of the whole image, which any decoder of these takes."""

SMALL = {
    "channels": 8,
    "channel_mult": (1, 2),
    "blocks": 1,
    "attention": (4,),
    "dropout": 0.0,
    "groups": 4,
    "classes": 3,
    "augment": 2,
    "head_width": 4,
    "width": 16,
    "heads": 2,
    "depth": 2,
    "patch": 2,
}
"""Values of the fields that a spec has of these."""


def small(spec, **values):
    """A part with the small values of those fields that it has."""
    known = {field.name for field in attrs.fields(spec)}
    return spec(**{key: value for key, value in (SMALL | values).items() if key in known})


def encoder(name, **values):
    return small(msdk.encoders.get(name), **values)


def decoder(name, width, **values):
    """A decoder of one width; attention is the encoder's."""
    return small(msdk.decoders.get(name), channels=width, width=2 * width, attention=None, channel_mult=None, **values)


def joined(encoder, decoders, *, separate=False, **parts):
    """A denoiser in float64 whose weights all matter."""
    found = Parts(
        encoders=(encoder,) * (len(decoders) if separate else 1),
        decoders=tuple(decoders),
        schedule=SCHEDULE,
        parameterization=Eps(),
        shape=SHAPE,
        **parts,
    )
    denoiser = join(found, PARTITION).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return denoiser


def inputs():
    """Images, and the augmentation labels of each."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(TIMES), *SHAPE, generator=generator, dtype=torch.float64)
    return x, torch.randn(len(TIMES), 2, generator=generator, dtype=torch.float64)


def gradients(denoiser, estimate):
    denoiser.zero_grad(set_to_none=True)
    estimate.square().mean().backward()
    return {name: parameter.grad for name, parameter in denoiser.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
@pytest.mark.parametrize("name", [*MAPS, *TOKENS])
def test_a_mixed_batch_is_its_stages_one_by_one(name, separate):
    """Values and gradients of a batch of mixed stages and labels equal those of each image alone, to 1e-6."""
    denoiser = joined(encoder(name), [decoder(name, width) for width in (16, 12, 8)], separate=separate)
    x, augment = inputs()
    augment = None if name in TOKENS else augment
    mixed = denoiser(x, TIMES, LABELS, augment)
    single = torch.cat(
        [
            denoiser(x[i : i + 1], t, LABELS[i : i + 1], None if augment is None else augment[i : i + 1])
            for i, t in enumerate(TIMES.tolist())
        ]
    )
    torch.testing.assert_close(mixed, single, rtol=1e-6, atol=1e-9)
    found, wanted = gradients(denoiser, mixed), gradients(denoiser, single)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    assert all(gradient is not None and gradient.any() for gradient in found.values())


@pytest.mark.parametrize("name", [*MAPS, *TOKENS])
def test_the_shared_encoder_runs_once_per_batch(name):
    """However many stages a batch mixes, the encoder sees it once, whole; each decoder sees its own images, once."""
    denoiser = joined(encoder(name), [decoder(name, width) for width in (16, 12, 8)])
    seen = []
    denoiser.network.encoder(0).register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    for stage in denoiser.network.decoders:
        stage.register_forward_hook(lambda _, __, out: seen.append(len(out)))
    denoiser(inputs()[0], TIMES, LABELS)
    assert seen == [7, 3, 2, 2]


@pytest.mark.parametrize("name", [*MAPS, *TOKENS])
def test_labels_matter_and_none_is_no_class(name):
    """Classes change the estimate; -1, and no label at all, are the same estimate without a class."""
    denoiser, x = joined(encoder(name), [decoder(name, width) for width in (16, 12, 8)]), inputs()[0]
    first = denoiser(x, TIMES, torch.zeros(7, dtype=torch.int64))
    assert not torch.allclose(first, denoiser(x, TIMES, torch.ones(7, dtype=torch.int64)))
    nothing = denoiser(x, TIMES, torch.full((7,), -1))
    torch.testing.assert_close(nothing, denoiser(x, TIMES))
    assert not torch.allclose(first, nothing)


@pytest.mark.parametrize("lower", WHOLE)
@pytest.mark.parametrize("upper", WHOLE)
def test_any_maps_fit_any_decoder_of_maps(lower, upper):
    """Encoders and decoders of all U-Net families compose; the output is an image, and depends on every stage."""
    denoiser = joined(encoder(lower), [decoder(upper, width) for width in (16, 12, 8)])
    x, augment = inputs()
    found = denoiser(x, TIMES, LABELS, augment)
    assert found.shape == (7, *SHAPE)
    assert found.isfinite().all()
    assert all(gradient is not None for gradient in gradients(denoiser, found).values())


@pytest.mark.parametrize("name", WHOLE)
def test_only_their_own_kind_takes_maps_of_pooled_images(name):
    """What pooling lost is a skip that other decoders have no use for, and that other encoders do not give."""
    for lower, upper in ((name, "subspace"), ("subspace", name)):
        with pytest.raises(PartError):
            joined(encoder(lower), [decoder(upper, width) for width in (16, 12, 8)])


@pytest.mark.parametrize("name", WHOLE)
def test_an_adapter_is_a_part_of_its_own(name):
    """1x1 convolutions behind the encoder give decoders the widths they want; they train, and routing goes on."""
    adapter = Adapter(channels=(20, 40))
    denoiser = joined(encoder(name), [decoder(name, 8, middle=True)] * 3, adapter=adapter)
    x, augment = inputs()
    mixed = denoiser(x, TIMES, LABELS, augment)
    single = torch.cat(
        [denoiser(x[i : i + 1], t, LABELS[i : i + 1], augment[i : i + 1]) for i, t in enumerate(TIMES.tolist())]
    )
    torch.testing.assert_close(mixed, single, rtol=1e-6, atol=1e-9)
    found = gradients(denoiser, mixed)
    assert {key.split(".")[1] for key in found} == {"encoders", "decoders", "adapters"}
    assert all(gradient is not None for gradient in found.values())


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (
            encoder("ddpmpp"),
            decoder("ddpmpp", 10),
            r"level 0 .*encoder's 8\): 18 channels cannot be split",
        ),
        (encoder("dit"), decoder("ddpmpp", 8), "tokens"),
        (encoder("ldm"), decoder("uvit", 8), "maps"),
        (encoder("dit"), decoder("uvit", 8), "skip"),
        (encoder("adm", channel_mult=(2, 3)), decoder("adm", 9, groups=4), "level 1"),
        (encoder("song-ddpmpp"), decoder("ldm", 8, head_width=0, heads=3), "level 1: 16 channels .* 3 attention heads"),
    ],
)
def test_what_cannot_fit_says_why(lower, upper, words):
    """Parts that do not fit are refused before anything is built, with the level and the reason."""
    with pytest.raises(PartError, match=words):
        upper.check(lower.info(SHAPE))


def test_an_encoder_of_log_noise_refuses_negative_noise():
    """NCSN++ takes the logarithm of what it is fed, so EDM's log(ratio) / 4 below 0 is refused, not turned into nan."""
    parts = Parts(
        encoders=(encoder("ncsnpp"),),
        decoders=(decoder("ncsnpp", 8),),
        schedule=SCHEDULE,
        parameterization=EDM(),
        shape=SHAPE,
    )
    with pytest.raises(PartError, match=r"logarithm .* feeds it \S+ at the schedule's end"):
        join(parts, Partition())


@pytest.mark.slow
def test_every_stage_is_one_graph():
    """A compiler sees each family's stage whole, without a break, and computes the same."""
    # In a process of its own: shape checks, which tests switch on, are no graph.
    program = f"""
import sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_families import MAPS, TIMES, TOKENS, LABELS, decoder, encoder, inputs, joined
for name in [*MAPS, *TOKENS]:
    stage = joined(encoder(name), [decoder(name, width) for width in (16, 12, 8)]).stage(1)
    given = inputs()[0], 999 * TIMES, LABELS
    torch._dynamo.reset()
    compiled = torch.compile(stage, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*given), stage(*given))
    print(name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*MAPS, *TOKENS]
