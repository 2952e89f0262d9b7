"""Parameters and MACs of the published networks, configuration by configuration, from the vectors alone."""

import functools
import json
import os
from pathlib import Path

import attrs
import pytest

from msdk.budgeting.parts import count_parts
from msdk.decoders.dit import DiT as DiTDecoder
from msdk.decoders.uvit import UViT as UViTDecoder
from msdk.denoiser.building import Parts, join
from msdk.encoders.dit import DiT
from msdk.encoders.uvit import UViT
from msdk.errors import PartError
from msdk.parameterizations.eps import Eps
from msdk.partition import Partition
from msdk.pretrained import original_of
from msdk.schedules.vp import VPLinear

SCORE_SDE, LDM, EDM = ("score_sde", "multistage-score-sde"), ("ldm", "multistage-ldm"), ("edm", "multistage-edm")


def configurations():
    place = os.environ.get("MSDK_TEST_DATA")
    if not place:
        return {}
    return json.loads((Path(place) / "golden" / "flops.json").read_text())["configs"]


def ours(constructor):
    """Parts and stages that are what a published constructor makes.

    Raises:
        PartError: Nothing of msdk is.
    """
    if "wrapper" in constructor:
        settings = constructor["kwargs"]
        original = original_of(EDM[settings["model_type"] == "MultistageUNet"], settings)
    elif "yaml" in constructor:
        original = original_of(LDM["de_nfs" in constructor["params"]], constructor["params"])
        if "ds reset per stage" in constructor["target"]:  # all decoders attend where the encoder does
            decoders = tuple(attrs.evolve(decoder, attention=None) for decoder in original.parts.decoders)
            original = attrs.evolve(original, parts=attrs.evolve(original.parts, decoders=decoders))
    elif constructor["model"]["name"] == "DiT":
        return transformer(*dit(constructor["model"]), channels=constructor["model"]["in_channels"])
    elif constructor["model"]["name"].startswith("UViT"):
        return transformer(*uvit(constructor["model"]), channels=constructor["model"]["in_chans"])
    else:
        data = {key: constructor[key] for key in ("image_size", "num_channels", "centered")}
        settings = {"model": constructor["model"], "data": data, "training": {}}
        original = original_of(SCORE_SDE["multistage" in constructor["model"]["name"]], settings)
    return original.parts, original.partition


def dit(model):
    if model["treat_t_as_y"]:
        raise PartError("a DiT that is fed the time in the place of the class")
    same = {"width": model["hidden_size"], "heads": model["num_heads"]}
    encoder = DiT(
        **same, depth=model["depth"] // 2, patch=model["patch_size"], classes=model["num_classes"], null_class=True
    )
    return encoder, (DiTDecoder(**same, depth=model["depth"] - model["depth"] // 2, variance=model["learn_sigma"]),)


def uvit(model):
    if (
        not (model["skip"] and model["conv"])
        or model["mlp_time_embed"]
        or model["qkv_bias"]
        or model["num_classes"] > 0
    ):
        raise PartError("a U-ViT without skips or final convolution, or with a map of its time, biases or classes")
    encoder = UViT(width=model["embed_dim"], depth=model["depth"], heads=model["num_heads"], patch=model["patch_size"])
    widths = model.get("de_nfs", [model["embed_dim"]])
    return encoder, tuple(UViTDecoder(width=width, heads=model["num_heads"]) for width in widths)


def transformer(encoder, decoders, *, channels):
    edges = tuple(0.5 * 2**stage for stage in range(len(decoders) - 1))
    parts = Parts(
        encoders=(encoder,), decoders=decoders, schedule=VPLinear(), parameterization=Eps(), shape=(channels, 32, 32)
    )
    return parts, Partition(edges)


@functools.cache
def counted(name):
    """Our network of a configuration, on the meta device, and the costs of its parts."""
    parts, partition = ours(configurations()[name]["constructor"])
    denoiser = join(parts, partition, "meta")
    return denoiser, count_parts(denoiser, parts.shape)


def left_out(constructor):
    """Why a configuration is not compared; empty where it is."""
    try:
        ours(constructor)
    except PartError as error:
        return str(error)
    return ""


def compared():
    found = [name for name, entry in configurations().items() if not left_out(entry["constructor"])]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason="MSDK_TEST_DATA is not set"))]


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.golden
@pytest.mark.parametrize("name", compared())
def test_macs(name):
    """Exact MACs without resampling filters and the paper's convention, by stage; both counters agree, on all of it."""
    theirs = configurations()[name]
    _, parts = counted(name)
    for index, stage in enumerate(theirs["stages"]):
        pair = (parts["encoder.0"], parts[f"decoder.{index}"])
        filters = sum(part.by_operator["exact"].get("conv_fir", 0) for part in pair)
        assert sum(part.macs("exact") for part in pair) - filters == stage["exact_macs"] - stage[
            "exact_macs_by_op"
        ].get("conv_fir", 0)
        assert sum(part.macs("paper") for part in pair) == stage["torchstat"]["total"]
        for part in pair:
            assert part.macs("exact") == part.second
            assert not part.uncounted


@pytest.mark.golden
@pytest.mark.parametrize("name", compared())
def test_parameters(name):
    """Parameters of the encoder, of every decoder and in all.

    Two differences are on purpose, and exact: fixed positions (DiT) are no parameters here, and each multistage U-ViT
    decoder has a final convolution of its own, where the published network shares one.
    """
    theirs, (denoiser, _) = configurations()[name]["params"], counted(name)
    network = denoiser.network
    fixed = theirs["total"] - theirs["trainable"]
    assert fixed == (network.encoder(0).positions.numel() if isinstance(denoiser_spec(name), DiT) else 0)
    channels, stages = denoiser.shape[0], len(network.decoders)
    own = (stages - 1) * channels * (9 * channels + 1) if isinstance(denoiser_spec(name), UViT) else 0
    assert size(network.encoder(0)) == theirs["encoder"] - fixed
    assert [size(decoder) for decoder in network.decoders] == theirs["decoders"]
    assert size(network) == theirs["total"] - fixed + own


def denoiser_spec(name):
    return ours(configurations()[name]["constructor"])[0].encoders[0]


@pytest.mark.golden
def test_what_is_left_out_is_cross_attention(outside_data):
    """Only networks with cross-attention to a context, which no family of msdk has, are not compared."""
    for entry in configurations().values():
        constructor = entry["constructor"]
        reason = left_out(constructor)
        crosses = constructor.get("params", {}).get("use_spatial_transformer", False)
        time_as_class = constructor.get("model", {}).get("treat_t_as_y", False)
        assert bool(reason) == bool(crosses or time_as_class), (constructor, reason)
