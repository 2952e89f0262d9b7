"""DDPM++ encoders and decoders: the published networks, to the last parameter and digit."""

from pathlib import Path

import attrs
import pytest
import torch

from msdk.decoders.score_sde import DDPMpp as DecoderSpec
from msdk.denoiser.building import build
from msdk.encoders.base import FeatureInfo, Level
from msdk.encoders.score_sde import DDPM
from msdk.encoders.score_sde import DDPMpp as EncoderSpec
from msdk.errors import PartError
from msdk.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "cifar10"
SMALL = EncoderSpec(channels=8, channel_mult=(1, 2), blocks=1, attention=(4,), groups=4)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("recipe", "total", "encoder", "stages"),
    [
        ("dpm-unified", 106_632_579, None, [106_632_579]),
        ("dpm-multistage", 237_169_337, 43_482_624, [169_478_467, 107_521_411, 47_134_707]),
    ],
)
def test_full_size_parameter_counts(recipe, total, encoder, stages):
    """The paper's CIFAR-10 networks have the parameters of the reference code, in all and per stage."""
    denoiser = build(load_recipe(RECIPES / f"{recipe}.toml"), "meta")
    assert parameters(denoiser) == total
    assert [parameters(denoiser.stage(k)) for k in range(len(stages))] == stages
    if encoder is not None:
        assert parameters(denoiser.network.encoder(0)) == encoder


@pytest.mark.parametrize("pyramid", ["none", "residual"])
@pytest.mark.parametrize("fir", [False, True])
def test_features_are_what_info_promises(fir, pyramid):
    """Channels, sides and order of all features are known before the encoder is built."""
    spec, shape = attrs.evolve(SMALL, channel_mult=(1, 2, 3), blocks=2, fir=fir, pyramid=pyramid), (3, 8, 16)
    info = spec.info(shape)
    features = spec.build(shape)(torch.zeros(2, *shape), torch.ones(2))
    expected = [(channels, level.reduction) for level in info.levels for channels in level.skips]
    assert [(skip.shape[1], 8 // skip.shape[2]) for skip in features.skips] == [
        (channels, reduction) for channels, reduction in expected
    ]
    assert features.bottom.shape == (2, info.bottom, 2, 4)
    assert features.embedding.shape == (2, info.embedding)
    out = DecoderSpec(channels=12, groups=4, fir=fir).build(info, shape)(features)
    assert out.shape == (2, *shape)


@pytest.mark.parametrize(("spec", "scale"), [(DDPM, 0.1), (EncoderSpec, 1.0)])
def test_shortcuts_start_as_in_score_sde(spec, scale):
    """U(-a, a), a^2 = 3 scale / mean fan: DDPM's shortcuts are NINs, which score_sde starts at a scale of 0.1."""
    torch.manual_seed(0)
    encoder = spec(channels=32, channel_mult=(1, 2), blocks=1, attention=(), groups=32).build((3, 8, 8))
    weights = {name: weight for name, weight in encoder.named_parameters() if name.endswith("shortcut.weight")}
    assert weights
    for name, weight in weights.items():
        bound = (3 * scale / ((weight.shape[0] + weight.shape[1]) / 2)) ** 0.5
        assert 0.95 * bound < float(weight.detach().abs().max()) <= bound, name


def test_an_encoder_that_takes_no_labels_says_so():
    """Labels are an error here, not silently dropped."""
    with pytest.raises(PartError, match="takes no class labels: set its `classes`"):
        SMALL.build((3, 8, 8))(torch.zeros(1, 3, 8, 8), torch.ones(1), torch.zeros(1))


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        (EncoderSpec(), (3, 12, 12), r"12x12 cannot be halved 3 times for level 3 of 4: use at most 3 entries"),
        (EncoderSpec(), (3, 32, 20), r"32x20 cannot be halved 3 times for level 3 of 4"),
        (EncoderSpec(channels=130), (3, 32, 32), "level 0: 130 channels cannot be split into 32 groups; set another"),
        (EncoderSpec(channels=24, channel_mult=(1, 3), groups=16), (3, 8, 8), "level 1: 72 channels cannot be split"),
    ],
)
def test_an_image_that_does_not_suit_names_level_and_reason(spec, shape, words):
    """`info` refuses what `build` could not run."""
    with pytest.raises(PartError, match=words):
        spec.info(shape)


@pytest.mark.parametrize(
    ("spec", "levels", "words"),
    [
        (DecoderSpec(channel_mult=(1, 2, 2)), (Level(1, (32, 32)),), "channel_mult has 3 entries for 1 levels"),
        (
            DecoderSpec(),
            (Level(1, (32,)), Level(2, (48,))),
            "level 1 of the encoder has 48 channels, which is no whole",
        ),
        (DecoderSpec(), (Level(1, (32,)), Level(4, (32,))), "level 1 of the encoder has 1/4 of the image's side"),
        (
            DecoderSpec(channels=16),
            (Level(1, (128, 128)),),
            r"level 0 .*encoder's 128\): 144 channels .* 32 groups; set another `groups`",
        ),
    ],
)
def test_features_that_do_not_fit_name_level_and_reason(spec, levels, words):
    """`check` refuses features that the decoder could not take, before anything is built."""
    with pytest.raises(PartError, match=words):
        spec.check(FeatureInfo(levels, bottom=levels[-1].skips[-1], embedding=128))
