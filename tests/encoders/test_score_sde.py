"""DDPM++ encoders and decoders: the published networks, to the last parameter and digit."""

import json
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import load_file

from msdk.building import build
from msdk.decoders.score_sde import DDPMpp as DecoderSpec
from msdk.encoders.base import FeatureInfo, Level
from msdk.encoders.score_sde import DDPMpp as EncoderSpec
from msdk.errors import PartError
from msdk.layers.attention import Attention2d
from msdk.layers.resample import PyramidDownsample
from msdk.layers.residual import ResidualBlock
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


def test_an_encoder_that_takes_no_labels_says_so():
    """Labels are an error here, not silently dropped."""
    with pytest.raises(PartError, match="takes no class or augmentation labels"):
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
            r"level 0: 144 channels .* 32 groups; set `groups`, say to 16",
        ),
    ],
)
def test_features_that_do_not_fit_name_level_and_reason(spec, levels, words):
    """`check` refuses features that the decoder could not take, before anything is built."""
    with pytest.raises(PartError, match=words):
        spec.check(FeatureInfo(levels, bottom=levels[-1].skips[-1], embedding=128))


OURS = {
    ResidualBlock: {
        "norm0": "GroupNorm_0",
        "conv0": "Conv_0",
        "dense": "Dense_0",
        "norm1": "GroupNorm_1",
        "conv1": "Conv_1",
        "shortcut": "Conv_2",
    },
    Attention2d: {"norm": "GroupNorm_0", "query": "NIN_0", "key": "NIN_1", "value": "NIN_2", "proj": "NIN_3"},
    PyramidDownsample: {"conv": "Conv2d_0"},
}
"""Our child modules and score_sde's names of them; other modules have no children with weights."""


def encoder_modules(encoder):
    """Modules of an encoder in the order in which score_sde calls and numbers them."""
    modules = [encoder.embedding.hidden, encoder.embedding.out, encoder.stem]
    for level in encoder.levels:
        for block, attention in zip(level.blocks, level.attentions, strict=True):
            modules += [block, attention]
        modules += [level.down, level.pyramid]
    return present([*modules, encoder.middle_in, encoder.middle_attention, encoder.middle_out])


def decoder_modules(decoder):
    """Modules of a decoder in the order in which score_sde calls and numbers them."""
    modules = [module for level in decoder.levels for module in (*level.blocks, level.attention, level.up)]
    return present([*modules, decoder.norm, decoder.out])


def present(modules):
    return [module for module in modules if module is not None and parameters(module)]


def load_original(modules, state, prefix):
    """Fills modules from `{prefix}.{number}.*`, strictly: nothing missing, nothing left over."""
    used = set()
    for number, module in enumerate(modules):
        names = OURS.get(type(module), {})
        values = {}
        for name in module.state_dict():
            child, _, leaf = name.rpartition(".")
            key = ".".join(filter(None, (prefix, str(number), names.get(child, child), leaf)))
            if ".NIN_" in key:  # W is [in, out]: the transpose of a 1x1 convolution
                key = key.replace(".weight", ".W").replace(".bias", ".b")
                values[name] = state[key].T[:, :, None, None] if key.endswith("W") else state[key]
            else:
                values[name] = state[key]
            used.add(key)
        module.load_state_dict(values)
    assert used == {key for key in state if key.startswith(f"{prefix}.")}


@pytest.mark.golden
@pytest.mark.parametrize("name", ["sde_ddpmpp_deep_vp", "ms_sde"])
def test_published_networks(outside_data, name):
    """With the original weights, outputs are the original's: 1e-9 relative in float64, tol_f32 in float32."""
    folder = outside_data / "golden" / "networks"
    case = next(case for case in json.loads((folder / "index.json").read_text())["cases"] if case["name"] == name)
    state = {key: value.float() for key, value in load_file(folder / name / "state.safetensors").items()}
    vectors = load_file(folder / name / "io.safetensors")
    model, data = case["constructor"]["model"], case["constructor"]["data"]
    shape = (data["num_channels"], data["image_size"], data["image_size"])
    shared = {"fir": model["fir"], "groups": model.get("group", 32)}
    spec = EncoderSpec(
        channels=model.get("en_nf", model.get("nf")),
        channel_mult=tuple(model["ch_mult"]),
        blocks=model["num_res_blocks"],
        attention=tuple(model["attn_resolutions"]),
        pyramid=model["progressive_input"],
        **shared,
    )
    widths = model.get("de_nfs", [spec.channels])
    encoder = spec.build(shape).eval()
    decoders = [DecoderSpec(channels=width, **shared).build(spec.info(shape), shape).eval() for width in widths]
    if name == "ms_sde":
        load_original(encoder_modules(encoder), state, "en_modules")
        for stage, decoder in enumerate(decoders):
            load_original(decoder_modules(decoder), state, f"de_modules.{stage}")
    else:
        load_original(encoder_modules(encoder) + decoder_modules(decoders[0]), state, "all_modules")

    for dtype in (torch.float32, torch.float64):
        for call in case["calls"]:
            x, t, expected = (vectors[f"{call['id']}.{part}"] for part in ("x", "t", "net_out_f64"))
            decoder = decoders[call.get("stage", 0)].to(dtype)
            with torch.no_grad():
                found = decoder(encoder.to(dtype)(x.to(dtype), 999 * t.to(dtype))).double()
            exact = 1e-9 * float(expected.abs().max())
            tolerance = case["tol_f32"][f"{call['id']}.net_out"] if dtype == torch.float32 else exact
            torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
