"""score_sde's networks in PyTorch, and the multistage one that the paper's authors made of them."""

import itertools
from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor, nn

from msdk.decoders import score_sde as sde_decoders
from msdk.decoders.base import Decoder
from msdk.decoders.unet_net import DecoderLevel, UNetDecoderNet
from msdk.denoiser import StagedNetwork
from msdk.denoiser.building import Parts
from msdk.encoders import score_sde as sde_encoders
from msdk.encoders.base import Encoder
from msdk.encoders.unet_net import EncoderLevel, ResidualPyramid, SkipPyramid, UNetEncoder, noise_levels
from msdk.errors import PartError
from msdk.layers.attention import Attention2d
from msdk.layers.residual import OutputHead, ResidualBlock
from msdk.parameterizations.base import Parameterization
from msdk.parameterizations.eps import Eps
from msdk.parameterizations.score import Score
from msdk.partition import Partition
from msdk.pretrained.config import Config, ints
from msdk.pretrained.pieces import Original, Pieces, each
from msdk.schedules.base import Schedule
from msdk.schedules.ve import VE
from msdk.schedules.vp import VPLinear
from msdk.schedules.vp_discrete import VPDiscrete

STAGES = [[[0, 0.442]], [[0.442, 0.6308]], [[0.6308, 1]]]
"""The stages of the published multistage network, in time."""


def original(family: str, config: Config) -> Original:
    """What the original's config builds, in our parts.

    Args:
        family: "score_sde" or "multistage-score-sde".
        config: The tables `model`, `data` and `training`. `model.group` is the cap on the groups of the norms. Of
            the other two, which describe the training program, only what the network depends on is read.

    Raises:
        PartError: A setting is unknown or not supported, or the parts do not fit.
    """
    multistage = family == "multistage-score-sde"
    model, data, training = config.table("model"), config.table("data"), config.table("training")
    config.done()
    ddpm = model.only("name", ["ncsnpp_multistage"] if multistage else ["ncsnpp", "ddpm"], None) == "ddpm"
    for key, only in (("normalization", "GroupNorm"), ("nonlinearity", "swish"), ("conditional", True)):
        model.only(key, [only], only)
    model.ignore("ema_rate", "init_scale", "fourier_scale", "conv_size", "num_classes", "stage_num")
    side, channels = int(data.take("image_size")), int(data.take("num_channels", 3))
    centered = bool(data.take("centered", True))
    schedule, parameterization = _process(model, training)
    encoder, decoders = (_ddpm if ddpm else _ncsnpp)(model, schedule, unit_range=not centered, multistage=multistage)
    partition = _stages(model, schedule) if multistage else Partition()
    if not multistage:
        model.ignore("stage_interval")
    sigmas = (model.take("sigma_max", 50.0), model.take("sigma_min", 0.01), model.take("num_scales", 1000))
    model.done()
    parts = Parts(
        encoders=(encoder,),
        decoders=tuple(decoders),
        schedule=schedule,
        parameterization=parameterization,
        shape=(channels, side, side),
    )
    levels = noise_levels(float(sigmas[0]), float(sigmas[1]), int(sigmas[2]))
    return Original(parts, partition, lambda network: _pieces(network, parts, levels, multistage=multistage))


def _process(model: Config, training: Config) -> tuple[Schedule, Parameterization]:
    """The diffusion; where the config has no `training.sde`, networks with Fourier features and scaling are VE's."""
    scaled = bool(model.take("scale_by_sigma", False))
    process = training.only("sde", ["vpsde", "vesde"], "vesde" if scaled else "vpsde")
    positional = model.take("embedding_type", "fourier") == "positional"
    continuous = bool(training.take("continuous", not (process == "vesde" and positional)))
    steps = int(model.take("num_scales", 1000))
    low, high = float(model.take("sigma_min", 0.01)), float(model.take("sigma_max", 50.0))
    beta_low, beta_high = float(model.take("beta_min", 0.1)), float(model.take("beta_max", 20.0))
    if process == "vesde":
        feed: Literal["sigma", "index"] = "sigma" if continuous else "index"
        return VE(sigma_min=low, sigma_max=high), Score(feed=feed, steps=steps)
    if continuous:
        return VPLinear(beta_min=beta_low, beta_max=beta_high), Eps(time_scale=999.0)
    schedule = VPDiscrete(steps=steps, beta_min=beta_low / steps, beta_max=beta_high / steps, clock="held")
    return schedule, Eps(time_scale=float(steps - 1))


def _stages(model: Config, schedule: Schedule) -> Partition:
    """The edges at which the published code changes decoders.

    It compares 999 t, which the network is fed, with 1000 times the bound, so the real edge is 1000/999 of it.
    """
    intervals = [[(float(low), float(high)) for low, high in stage] for stage in model.take("stage_interval", STAGES)]
    bounds = [stage[0] for stage in intervals if len(stage) == 1]
    if len(bounds) != len(intervals) or any(a[1] != b[0] for a, b in itertools.pairwise(bounds)):
        raise PartError(f"config.model.stage_interval must be adjoining stages, least noise first, got {intervals}")
    return Partition.of_times([low * 1000 / 999 for low, _ in bounds[1:]], schedule)


def _common(model: Config, channels: int, default_groups: int) -> dict[str, Any]:
    return {
        "channels": channels,
        "channel_mult": ints(model.take("ch_mult")),
        "blocks": int(model.take("num_res_blocks")),
        "attention": ints(model.take("attn_resolutions")),
        "dropout": float(model.take("dropout", 0.1)),
        "groups": int(model.take("group", default_groups)),
    }


def _ddpm(model: Config, schedule: Schedule, *, unit_range: bool, multistage: bool) -> tuple[Encoder, list[Decoder]]:
    # What the NCSN++ code alone reads, configs of DDPM may set too: there it has no effect.
    model.ignore("embedding_type", "fourier_scale", "fir", "fir_kernel", "skip_rescale", "resblock_type")
    model.ignore("progressive", "progressive_input", "progressive_combine", "attention_type")
    common = _common(model, int(model.take("nf")), 32)
    conv = bool(model.take("resamp_with_conv", True))
    scaled = bool(model.take("scale_by_sigma", False))
    if scaled and not isinstance(schedule, VE):
        raise PartError("config.model.scale_by_sigma needs training.sde = 'vesde'")
    ends = (schedule.sigma_max, schedule.sigma_min) if isinstance(schedule, VE) else (1.0, 1.0)
    encoder = sde_encoders.DDPM(
        **common,
        conv_resample=conv,
        unit_range=unit_range,
        noise_levels=(*ends, int(model.take("num_scales", 1000))) if scaled else None,
    )
    kept = {key: common[key] for key in ("channels", "dropout", "groups")}
    return encoder, [sde_decoders.DDPM(**kept, conv_resample=conv)]


def _ncsnpp(model: Config, schedule: Schedule, *, unit_range: bool, multistage: bool) -> tuple[Encoder, list[Decoder]]:
    channels = int(model.take("en_nf" if multistage else "nf"))
    widths = ints(model.take("de_nfs")) if multistage else (channels,)
    common = _common(model, channels, 16 if multistage else 32)
    model.only("attention_type", ["ddpm"], "ddpm")
    model.only("progressive_combine", ["sum"], "sum")
    fir, rescale = bool(model.take("fir", False)), bool(model.take("skip_rescale", True))
    kind = model.only("resblock_type", ["biggan", "ddpm"], "biggan")
    conv = bool(model.take("resamp_with_conv", True))
    if kind == "ddpm" and (conv or not fir):
        raise PartError(
            "config.model: resblock_type = 'ddpm' runs in the original with fir and without resamp_with_conv"
        )
    if fir:
        model.only("fir_kernel", [[1, 3, 3, 1]], [1, 3, 3, 1])
    model.ignore("fir_kernel")
    pyramid = model.only("progressive_input", ["none", "residual", "input_skip"], "none")
    summed = model.only("progressive", ["none", "output_skip"], "none") == "output_skip"
    embedding = model.only("embedding_type", ["positional", "fourier"], "fourier")
    scaled = bool(model.take("scale_by_sigma", False))
    table = scaled and embedding == "positional"
    if table and not isinstance(schedule, VE):
        raise PartError("config.model.scale_by_sigma needs training.sde = 'vesde'")
    ends = (schedule.sigma_max, schedule.sigma_min) if isinstance(schedule, VE) else (1.0, 1.0)
    encoder = sde_encoders.DDPMpp(
        **common,
        fir=fir,
        resampling="plain" if kind == "ddpm" else "block",
        rescale=rescale,
        pyramid="skip" if pyramid == "input_skip" else pyramid,
        embedding=embedding,
        unit_range=unit_range,
        divide=scaled,
        noise_levels=(*ends, int(model.take("num_scales", 1000))) if table else None,
    )
    kept = {key: common[key] for key in ("dropout", "groups")}
    return encoder, [
        sde_decoders.DDPMpp(
            **kept,
            channels=width,
            fir=fir,
            resampling=encoder.resampling,
            rescale=rescale,
            sum_outputs=summed,
        )
        for width in widths
    ]


# --- names ------------------------------------------------------------------------------------------------------------


def _pieces(network: StagedNetwork, parts: Parts, sigmas: Tensor, *, multistage: bool) -> Pieces:
    """The original's tensors, in its order: modules are numbered in the order of their calls.

    `sigmas` is the buffer of noise levels that every network of the original carries, used or not.
    """
    walk = Walk(network, parts)
    walk.pieces.constant("sigmas", sigmas)
    encoder = network.encoder(0)
    assert isinstance(encoder, UNetEncoder)
    walk.keys = walk.numbered("en_modules" if multistage else "all_modules")
    walk.encoder(encoder)
    for stage, decoder in enumerate(each(network.decoders, UNetDecoderNet)):
        if multistage:
            walk.keys = walk.numbered(f"de_modules.{stage}")
        walk.decoder(decoder)
    return walk.pieces


class Walk:
    """Walks through a network in the original's order.

    Args:
        network: Ours.
        parts: What it was built of.
    """

    def __init__(self, network: StagedNetwork, parts: Parts) -> None:
        self.pieces = Pieces(network)
        self.shortcut_is_nin = isinstance(parts.encoders[0], sde_encoders.DDPM) or (
            isinstance(parts.encoders[0], sde_encoders.DDPMpp) and parts.encoders[0].resampling == "plain"
        )
        self.keys: Iterator[str] = iter(())

    @staticmethod
    def numbered(prefix: str) -> Iterator[str]:
        return (f"{prefix}.{number}" for number in itertools.count())

    def encoder(self, encoder: UNetEncoder) -> None:
        pieces, maps = self.pieces, encoder.embedding
        if maps.fourier is not None:
            shape = tuple(maps.fourier.frequencies.shape)
            pieces.add(f"{next(self.keys)}.W", shape, maps.fourier, "frequencies", trained=False)
        pieces.same(next(self.keys), maps.hidden)
        pieces.same(next(self.keys), maps.out)
        pieces.same(next(self.keys), encoder.stem)
        for level in each(encoder.levels, EncoderLevel):
            for block, attend in level.pairs():
                self.block(block)
                self.attention(attend)
            if level.down is None:
                continue
            if isinstance(level.down, ResidualBlock):
                self.block(level.down)
            else:  # without weights it has a number all the same
                pieces.same(f"{next(self.keys)}.Conv_0", getattr(level.down, "conv", None))
            if isinstance(level.pyramid, SkipPyramid):
                pieces.same(f"{next(self.keys)}.Conv_0", level.pyramid.conv)
            elif isinstance(level.pyramid, ResidualPyramid):
                name = "Conv_0" if encoder.plan.pyramid_taps is None else "Conv2d_0"
                pieces.same(f"{next(self.keys)}.{name}", level.pyramid.down.conv)
        middle = encoder.middle
        assert middle is not None
        self.block(middle.block0)
        self.attention(middle.attention)
        self.block(middle.block1)

    def decoder(self, decoder: UNetDecoderNet) -> None:
        levels = list(each(decoder.levels, DecoderLevel))
        for level in levels:
            for block in each(level.blocks, ResidualBlock):
                self.block(block)
            self.attention(level.attentions[-1])
            if level.head is not None:
                self.head(level.head)
            if isinstance(level.up, ResidualBlock):
                self.block(level.up)
            elif level.up is not None:
                self.pieces.same(f"{next(self.keys)}.Conv_0", getattr(level.up, "conv", None))

    def head(self, head: OutputHead) -> None:
        self.pieces.same(next(self.keys), head.norm)
        self.pieces.same(next(self.keys), head.conv)

    def block(self, block: ResidualBlock) -> None:
        key, pieces = next(self.keys), self.pieces
        pieces.same(f"{key}.GroupNorm_0", block.norm0)
        pieces.same(f"{key}.Conv_0", block.conv0)
        pieces.same(f"{key}.Dense_0", block.dense)
        pieces.same(f"{key}.GroupNorm_1", block.norm1)
        pieces.same(f"{key}.Conv_1", block.conv1)
        if self.shortcut_is_nin:
            pieces.nin(f"{key}.NIN_0", block.shortcut)
        else:
            pieces.same(f"{key}.Conv_2", block.shortcut)

    def attention(self, attention: nn.Module) -> None:
        if not isinstance(attention, Attention2d):
            return
        key, pieces = next(self.keys), self.pieces
        pieces.same(f"{key}.GroupNorm_0", attention.norm)
        for number in range(3):
            pieces.nin(f"{key}.NIN_{number}", attention.qkv, rows=attention.proj.in_channels)
        pieces.nin(f"{key}.NIN_3", attention.proj)
