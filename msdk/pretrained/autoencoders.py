"""The first stages of latent diffusion: CompVis' constructor arguments and parameter names, and ours."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from msdk.autoencoders.conv import ConvAutoencoder
from msdk.autoencoders.kl import KL
from msdk.autoencoders.vq import VQ
from msdk.encoders.base import Shape
from msdk.errors import PartError
from msdk.pretrained.pieces import Piece

FIXED: Mapping[str, object] = {
    "resamp_with_conv": True,
    "attn_type": "vanilla",
    "use_linear_attn": False,
    "give_pre_end": False,
    "tanh_out": False,
}
"""Options of the original networks that the published autoencoders leave alone, and so do we."""


def spec_of(config: Mapping[str, Any], family: str = "") -> tuple[VQ | KL, Shape]:
    """The spec of an original autoencoder, and the shape of its images.

    Args:
        config: The constructor's arguments: `embed_dim`, `ddconfig`, for VQ `n_embed`, and `num_groups` (or
            `groups`) where it is not 32. Others, which say how it was trained, are passed over.
        family: "vq" or "kl", where that is known.

    Raises:
        PartError: An argument is missing, or has a value that no published autoencoder has.
    """
    try:
        network = config["ddconfig"]
        resolution, sides = network["resolution"], network["attn_resolutions"]
        common: dict[str, Any] = {
            "channels": network["ch"],
            "channel_mult": tuple(network["ch_mult"]),
            "blocks": network["num_res_blocks"],
            "attention": tuple(2**level for level in range(len(network["ch_mult"])) if resolution >> level in sides),
            "z_channels": network["z_channels"],
            "latent_channels": config["embed_dim"],
            "groups": config.get("num_groups", config.get("groups", 32)),
        }
        inputs, outputs = network["in_channels"], network["out_ch"]
    except KeyError as error:
        raise PartError(f"the autoencoder's constructor arguments lack {error}") from error
    for key, value in FIXED.items():
        if network.get(key, value) != value:
            raise PartError(f"autoencoders with {key} = {network[key]!r} are not supported, only {value!r}")
    if inputs != outputs:
        raise PartError(f"an autoencoder gives back what it takes, but in_channels is {inputs} and out_ch {outputs}")
    quantised = "n_embed" in config
    kind = "vq" if quantised else "kl"
    if family not in ("", kind):
        having = "with" if quantised else "without"
        raise PartError(f"a config {having} n_embed is of the family '{kind}', not '{family}'")
    if network.get("double_z", not quantised) == quantised:
        raise PartError("double_z is for Gaussian latents, which have no n_embed: give one of the two")
    spec = VQ(codes=config["n_embed"], **common) if quantised else KL(**common)
    return spec, (inputs, resolution, resolution)


def pieces_of(spec: VQ | KL, network: nn.Module) -> list[Piece]:
    """The original's tensors; its queries, keys and values are three convolutions, and one of ours.

    Args:
        spec: What the network was built of.
        network: Ours.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found: list[Piece] = []
    for ours, theirs in _modules(spec):
        for kind in ("weight", "bias"):
            name = f"{ours}.{kind}"
            place, _, last = theirs.rpartition(".")
            if last == "qkv":
                third = (shapes[name][0] // 3, *shapes[name][1:])
                found += [Piece(f"{place}.{part}.{kind}", third, name) for part in "qkv"]
            else:
                found.append(Piece(f"{theirs}.{kind}", shapes[name], name))
    if isinstance(spec, VQ):
        found.append(Piece("quantize.embedding.weight", shapes["quantizer.codes"], "quantizer.codes"))
    return found


def _modules(spec: ConvAutoencoder) -> Iterator[tuple[str, str]]:
    """Our name and the original's of every module with weight and bias."""
    yield "to_latent", "quant_conv"
    yield "from_latent", "post_quant_conv"
    last = len(spec.channel_mult) - 1
    for side in ("encoder", "decoder"):
        yield f"{side}.stem", f"{side}.conv_in"
        yield from _block(f"{side}.middle.block0", f"{side}.mid.block_1", shortcut=False)
        yield from _attention(f"{side}.middle.attention", f"{side}.mid.attn_1")
        yield from _block(f"{side}.middle.block1", f"{side}.mid.block_2", shortcut=False)
        yield f"{side}.head.norm", f"{side}.norm_out"
        yield f"{side}.head.conv", f"{side}.conv_out"
    before, widths, attends = spec.channels, spec.widths(), spec.attends()
    for index, width in enumerate(widths):
        theirs = f"encoder.down.{index}"
        yield from _level(f"encoder.levels.{index}", theirs, spec.blocks, attends[index], changes=before != width)
        if index < last:
            yield f"encoder.levels.{index}.resample.conv", f"{theirs}.downsample.conv"
        before = width
    for index in reversed(range(len(widths))):  # the original numbers from the finest level, ours from the coarsest
        ours, theirs = f"decoder.levels.{last - index}", f"decoder.up.{index}"
        yield from _level(ours, theirs, spec.blocks + 1, attends[index], changes=before != widths[index])
        if index:
            yield f"{ours}.resample.conv", f"{theirs}.upsample.conv"
        before = widths[index]


def _level(ours: str, theirs: str, blocks: int, attends: bool, *, changes: bool) -> Iterator[tuple[str, str]]:
    for index in range(blocks):
        yield from _block(f"{ours}.blocks.{index}", f"{theirs}.block.{index}", shortcut=changes and index == 0)
        if attends:
            yield from _attention(f"{ours}.attentions.{index}", f"{theirs}.attn.{index}")


def _block(ours: str, theirs: str, *, shortcut: bool) -> Iterator[tuple[str, str]]:
    for mine, name in (("norm0", "norm1"), ("conv0", "conv1"), ("norm1", "norm2"), ("conv1", "conv2")):
        yield f"{ours}.{mine}", f"{theirs}.{name}"
    if shortcut:
        yield f"{ours}.shortcut", f"{theirs}.nin_shortcut"


def _attention(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for mine, name in (("norm", "norm"), ("qkv", "qkv"), ("proj", "proj_out")):
        yield f"{ours}.{mine}", f"{theirs}.{name}"
