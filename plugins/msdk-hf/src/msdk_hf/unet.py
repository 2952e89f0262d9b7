"""msdk's `ddpm` network with one decoder, and diffusers' `UNet2DModel`: one architecture under two sets of names.

diffusers attends after every block of an upward level, DDPM after the last one alone; the others get an output of
zero, with which they change nothing.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from msdk.encoders.base import Shape
from msdk.errors import PartError
from msdk.recipe import Recipe, to_data

Tensors = Mapping[str, Tensor]

BLOCK = {"norm0": "norm1", "conv0": "conv1", "dense": "time_emb_proj", "norm1": "norm2", "conv1": "conv2"}
BLOCK["shortcut"] = "conv_shortcut"
FIXED = {
    "encoders.0.embedding.hidden": "time_embedding.linear_1",
    "encoders.0.embedding.out": "time_embedding.linear_2",
    "encoders.0.stem": "conv_in",
}
RULES: tuple[tuple[str, str], ...] = (
    (r"encoders\.0\.levels\.(\d+)\.down\.conv", r"down_blocks.\1.downsamplers.0.conv"),
    (r"encoders\.0\.levels\.(\d+)\.blocks\.(\d+)", r"down_blocks.\1.resnets.\2"),
    (r"encoders\.0\.levels\.(\d+)\.attentions\.(\d+)", r"down_blocks.\1.attentions.\2"),
    (r"(?:encoders|decoders)\.0\.middle\.block(\d)", r"mid_block.resnets.\1"),
    (r"(?:encoders|decoders)\.0\.middle\.attention", r"mid_block.attentions.0"),
    (r"decoders\.0\.levels\.(\d+)\.up\.conv", r"up_blocks.\1.upsamplers.0.conv"),
    (r"decoders\.0\.levels\.(\d+)\.blocks\.(\d+)", r"up_blocks.\1.resnets.\2"),
    (r"decoders\.0\.levels\.(\d+)\.attentions\.(\d+)", r"up_blocks.\1.attentions.\2"),
    (r"decoders\.0\.levels\.\d+\.head\.norm", "conv_norm_out"),
    (r"decoders\.0\.levels\.\d+\.head\.conv", "conv_out"),
)


def config_of(recipe: Recipe) -> dict[str, Any]:
    """The arguments of the `UNet2DModel` that a recipe's network is.

    Raises:
        PartError: It is none; the message has the reason.
    """
    # As a recipe file has them: a key that is not set is not there.
    encoder, decoder = to_data(recipe.encoder_of(0)), to_data(recipe.decoders[0])
    if len(recipe.decoders) > 1:
        raise PartError(f"a UNet2DModel has one decoder, and the recipe {len(recipe.decoders)}")
    if (name_of(encoder), name_of(decoder)) != ("ddpm", "ddpm"):
        raise PartError("a UNet2DModel is the encoder 'ddpm' with the decoder 'ddpm'")
    more = encoder["classes"], encoder["augment"], encoder["unit_range"], decoder["variance"]
    if recipe.adapter is not None or any(more):
        raise PartError("a UNet2DModel of ours has no adapter, classes, augmentation labels, variance or unit_range")
    info, shape = recipe.encoder_of(0).info(recipe.shape), recipe.shape
    widths = [encoder["channels"] * factor for factor in encoder["channel_mult"]]
    if decoder["channels"] != encoder["channels"] or decoder.get("channel_mult") not in (None, encoder["channel_mult"]):
        raise PartError("in a UNet2DModel encoder and decoder have the same widths")
    if not encoder["conv_resample"] or encoder["groups"] != decoder["groups"] or "noise_levels" in encoder:
        raise PartError("a UNet2DModel resamples by convolutions, with the same groups in both halves")
    attends = [level.attention for level in info.levels]
    return {
        "sample_size": shape[1],
        "in_channels": shape[0],
        "out_channels": shape[0],
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "down_block_types": tuple("AttnDownBlock2D" if each else "DownBlock2D" for each in attends),
        "up_block_types": tuple("AttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)),
        "block_out_channels": tuple(widths),
        "layers_per_block": encoder["blocks"],
        "downsample_padding": 0,
        "act_fn": "silu",
        "attention_head_dim": None,
        "norm_num_groups": encoder["groups"],
        "norm_eps": 1e-6,
        "dropout": encoder["dropout"],
    }


def name_of(part: Mapping[str, Any]) -> str:
    """The name of a part of msdk from a recipe's data, which names the owner too where two packages share a name."""
    return str(part["name"]).removeprefix("msdk:")


def to_unet(weights: Tensors, like: Tensors) -> dict[str, Tensor]:
    """Weights of a `UNet2DModel` from those of msdk's network.

    Args:
        weights: The network's state dict.
        like: That of the `UNet2DModel`, for names and shapes.

    Raises:
        PartError: Names or shapes do not fit.
    """
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        found |= _renamed(name, value)
    for name, value in like.items():
        if name not in found and re.match(r"up_blocks\.\d+\.attentions\.\d+\.", name):
            # An attention that DDPM has not: with an output of zero it leaves its input as it is.
            found[name] = torch.ones_like(value) if name.endswith("group_norm.weight") else torch.zeros_like(value)
    _check(found, like)
    return found


def from_unet(weights: Tensors, like: Tensors) -> dict[str, Tensor]:
    """Weights of msdk's network from those of a `UNet2DModel`: the inverse of `to_unet`.

    Raises:
        PartError: Names or shapes do not fit, or an attention that DDPM has not does something.
    """
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, value in like.items():
        places = list(_renamed(name, value))
        missing = [place for place in places if place not in weights]
        if missing:
            raise PartError(f"the UNet2DModel has no weight {missing[0]}")
        used |= set(places)
        found[name] = torch.cat([weights[place] for place in places]).view_as(value)
    for name in set(weights) - used:
        if not re.match(r"up_blocks\.\d+\.attentions\.\d+\.", name):
            raise PartError(f"msdk's network has no place for the UNet2DModel's {name}")
        if ".to_out.0." in name and bool(weights[name].any()):
            raise PartError(
                f"the UNet2DModel attends in {name.rpartition('.to_out')[0]}, where msdk's ddpm does not: it has one "
                "attention in each level on the way up"
            )
    _check(found, like)
    return found


def _renamed(name: str, value: Tensor) -> dict[str, Tensor]:
    """The names in a `UNet2DModel` of a tensor of ours; q, k and v are one tensor here and three there."""
    owner, _, kind = name.rpartition(".")
    if owner in FIXED:
        return {f"{FIXED[owner]}.{kind}": value}
    for pattern, place in RULES:
        match = re.match(pattern, owner)
        if not match:
            continue
        start, rest = match.expand(place), owner[match.end() :].removeprefix(".")
        if ".attentions." in start:
            if rest == "norm":
                return {f"{start}.group_norm.{kind}": value}
            flat = value.flatten(1) if kind == "weight" else value
            if rest == "proj":
                return {f"{start}.to_out.0.{kind}": flat}
            return {f"{start}.to_{letter}.{kind}": part for letter, part in zip("qkv", flat.chunk(3), strict=True)}
        return {f"{start}.{BLOCK[rest]}.{kind}" if rest else f"{start}.{kind}": value}
    raise PartError(f"a UNet2DModel has no place for {name}")


def _check(found: Tensors, like: Tensors) -> None:
    wrong = sorted({*found} ^ {*like}) or sorted(name for name in like if found[name].shape != like[name].shape)
    if wrong:
        raise PartError(f"the weights do not fit a UNet2DModel: {', '.join(wrong[:3])}")


def recipe_parts(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Shape]:
    """What a recipe says of encoder and decoder for a `UNet2DModel`'s config, and the shape of its images.

    Raises:
        PartError: It is no DDPM.
    """
    wanted = {
        "time_embedding_type": "positional",
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "downsample_padding": 0,
        "act_fn": "silu",
        "attention_head_dim": None,
        "class_embed_type": None,
        "num_class_embeds": None,
    }
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise PartError(f"msdk's ddpm has {key} = {value!r}, and this UNet2DModel {config[key]!r}")
    widths: list[int] = list(config["block_out_channels"])
    size = int(config["sample_size"])
    if any(width % widths[0] for width in widths):
        raise PartError(f"widths {widths} are no multiples of the first")
    attention = [size // 2**k for k, kind in enumerate(config["down_block_types"]) if kind.startswith("Attn")]
    common = {"name": "ddpm", "channels": widths[0], "groups": int(config.get("norm_num_groups", 32))}
    encoder = {
        **common,
        "channel_mult": [width // widths[0] for width in widths],
        "attention": attention,
        "blocks": int(config["layers_per_block"]),
        "dropout": float(config.get("dropout", 0.0)),
    }
    return encoder, {**common, "dropout": encoder["dropout"]}, (int(config["in_channels"]), size, size)
