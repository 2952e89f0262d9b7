"""Latent diffusion's U-Net, and the multistage one that the paper's authors made of it."""

import itertools
from typing import Any

from torch import nn

from msdk.decoders import ldm as ldm_decoders
from msdk.decoders.base import Decoder
from msdk.decoders.unet_net import DecoderLevel, UNetDecoderNet
from msdk.denoiser import StagedNetwork
from msdk.denoiser.building import Parts
from msdk.encoders import ldm as ldm_encoders
from msdk.encoders.unet_net import EncoderLevel, UNetEncoder
from msdk.errors import PartError
from msdk.layers.attention import Attention2d
from msdk.layers.residual import ResidualBlock
from msdk.parameterizations.eps import Eps
from msdk.partition import Partition
from msdk.pretrained.config import Config, ints
from msdk.pretrained.pieces import Original, Pieces, each
from msdk.schedules.vp_discrete import VPScaledLinear

STAGES = [442, 631, 1000]
"""The stages of the published multistage network: first steps of the next one."""


def original(family: str, config: Config) -> Original:
    """What the original's constructor builds, in our parts.

    Args:
        family: "ldm" or "multistage-ldm".
        config: Settings of the U-Net; `num_groups` is the number of groups of the norms (32), and `linear_start`,
            `linear_end`, `timesteps` those of the diffusion (0.0015, 0.0195, 1000: its CelebA model's).

    Raises:
        PartError: A setting is unknown or not supported, or the parts do not fit.
    """
    multistage = family == "multistage-ldm"
    config.ignore("use_checkpoint", "use_fp16", "stage_num", "transformer_depth", "why")
    for key, only in (("dims", 2), ("use_spatial_transformer", False), ("context_dim", None), ("n_embed", None)):
        config.only(key, [only], only)
    side, channels = int(config.take("image_size")), int(config.take("in_channels"))
    variance = config.only("out_channels", [channels, 2 * channels], channels) != channels
    rates = ints(config.take("attention_resolutions"))
    blocks_up = bool(config.take("resblock_updown", False))
    conv = bool(config.take("conv_resample", True))
    width = int(config.take("model_channels"))
    multiples = ints(config.take("channel_mult", [1, 2, 4, 8]))
    if multiples[0] != 1:
        raise PartError(f"config.channel_mult must start with 1, as the original's last layer needs, got {multiples}")
    heads, head_width = int(config.take("num_heads", -1)), int(config.take("num_head_channels", -1))
    heads_up = int(config.take("num_heads_upsample", -1))
    if not config.take("legacy", True):
        heads_up = -1  # the original then derives a head's width from num_heads, for all levels
    if heads < 1 and head_width < 1:
        raise PartError("config must have num_heads or num_head_channels")
    order = "(n heads c)" if config.take("use_new_attention_order", False) else "(heads n c)"
    shared: dict[str, Any] = {
        "dropout": float(config.take("dropout", 0.0)),
        "groups": int(config.take("num_groups", 32)),
        "head_width": max(head_width, 0),
        "heads": max(heads, 1),
        "scale_shift": bool(config.take("use_scale_shift_norm", False)),
        "resampling": "block" if blocks_up else "conv" if conv else "plain",
    }
    schedule = VPScaledLinear(
        steps=int(config.take("timesteps", 1000)),
        beta_min=float(config.take("linear_start", 0.0015)),
        beta_max=float(config.take("linear_end", 0.0195)),
    )
    encoder = ldm_encoders.LDM(
        channels=width,
        channel_mult=multiples,
        blocks=int(config.take("num_res_blocks")),
        attention=tuple(side >> level for level in range(len(multiples)) if 2**level in rates),
        classes=int(config.take("num_classes", None) or 0),
        **shared,
    )
    widths = ints(config.take("de_nfs")) if multistage else (width,)
    upwards: dict[str, Any] = {**shared, "heads": heads_up} if heads_up > 0 else shared
    decoders: list[Decoder] = [
        ldm_decoders.LDM(
            **upwards,
            channels=own,
            variance=variance,
            attention=_attention(stage, rates, len(multiples)),
        )
        for stage, own in enumerate(widths)
    ]
    partition = _stages(ints(config.take("stage_interval", STAGES)), schedule) if multistage else Partition()
    config.done()
    parts = Parts(
        encoders=(encoder,),
        decoders=tuple(decoders),
        schedule=schedule,
        parameterization=Eps(time_scale=float(schedule.steps), time_offset=-1.0),
        shape=(channels, side, side),
    )
    return Original(parts, partition, lambda network: _pieces(network, order, multistage=multistage))


def _attention(stage: int, rates: tuple[int, ...], levels: int) -> tuple[int, ...] | None:
    """Reductions at which a decoder of the original attends; None for where the encoder does.

    Its constructor counts the down-sampling rate on from one decoder to the next, halving it past 1, so the second one
    attends at most at its lowest level, and the later ones nowhere.
    """
    if stage == 0:
        return None
    return (2 ** (levels - 1),) if stage == 1 and 1 in rates else ()


def _stages(bounds: tuple[int, ...], schedule: VPScaledLinear) -> Partition:
    """A step equal to a bound belongs to the upper stage there, so the edge is a hair below it."""
    edges = [schedule.ratio((bound + 1) / schedule.steps) * (1 - 1e-9) for bound in bounds[:-1]]
    return Partition(tuple(edges))


# --- names ------------------------------------------------------------------------------------------------------------


def _pieces(network: StagedNetwork, order: str, *, multistage: bool) -> Pieces:
    """The original's tensors, in its order; `order` is that of attention's channels."""
    walk = Walk(network, order)
    encoder = network.encoder(0)
    assert isinstance(encoder, UNetEncoder)
    walk.encoder(encoder)
    for stage, decoder in enumerate(each(network.decoders, UNetDecoderNet)):
        blocks, out = (f"de_modules.{stage}", f"outs.{stage}") if multistage else ("output_blocks", "out")
        walk.decoder(decoder, blocks, out)
    return walk.pieces


class Walk:
    """Walks through a network in the original's order.

    Args:
        network: Ours.
        order: The original's order of attention's channels.
    """

    def __init__(self, network: StagedNetwork, order: str) -> None:
        self.pieces, self.order = Pieces(network), order

    def encoder(self, encoder: UNetEncoder) -> None:
        pieces, maps = self.pieces, encoder.embedding
        pieces.same("time_embed.0", maps.hidden)
        pieces.same("time_embed.2", maps.out)
        if maps.label is not None:  # a table of rows there
            shape = (maps.label.in_features, maps.label.out_features)
            pieces.add("label_emb.weight", shape, maps.label, "weight", lambda rows: rows.T)
        keys = (f"input_blocks.{number}" for number in itertools.count())
        pieces.same(f"{next(keys)}.0", encoder.stem)
        for level in each(encoder.levels, EncoderLevel):
            for block, attend in level.pairs():
                key = next(keys)
                self.block(f"{key}.0", block)
                self.attention(f"{key}.1", attend)
            if level.down is not None:
                key = next(keys)
                if isinstance(level.down, ResidualBlock):
                    self.block(f"{key}.0", level.down)
                else:
                    pieces.same(f"{key}.0.op", getattr(level.down, "conv", None))
        middle = encoder.middle
        assert middle is not None
        self.block("middle_block.0", middle.block0)
        self.attention("middle_block.1", middle.attention)
        self.block("middle_block.2", middle.block1)

    def decoder(self, decoder: UNetDecoderNet, blocks: str, out: str) -> None:
        keys = (f"{blocks}.{number}" for number in itertools.count())
        for level in each(decoder.levels, DecoderLevel):
            for number, (block, attend) in enumerate(level.pairs()):
                key = next(keys)
                self.block(f"{key}.0", block)
                self.attention(f"{key}.1", attend)
                if number == len(level.blocks) - 1 and level.up is not None:
                    place = f"{key}.{2 if isinstance(attend, Attention2d) else 1}"
                    if isinstance(level.up, ResidualBlock):
                        self.block(place, level.up)
                    else:
                        self.pieces.same(f"{place}.conv", getattr(level.up, "conv", None))
            if level.head is not None:
                self.pieces.same(f"{out}.0", level.head.norm)
                self.pieces.same(f"{out}.2", level.head.conv)

    def block(self, key: str, block: ResidualBlock) -> None:
        pieces = self.pieces
        pieces.same(f"{key}.in_layers.0", block.norm0)
        pieces.same(f"{key}.in_layers.2", block.conv0)
        pieces.same(f"{key}.emb_layers.1", block.dense)
        pieces.same(f"{key}.out_layers.0", block.norm1)
        pieces.same(f"{key}.out_layers.3", block.conv1)
        pieces.same(f"{key}.skip_connection", block.shortcut)

    def attention(self, key: str, attention: nn.Module) -> None:
        if isinstance(attention, Attention2d):
            self.pieces.same(f"{key}.norm", attention.norm)
            self.pieces.qkv(f"{key}.qkv", attention, self.order, flat=True)
            self.pieces.flat_conv(f"{key}.proj_out", attention.proj)
