"""NVlabs' EDM, and the multistage network that the paper's authors made of it."""

import itertools

import torch

from msdk.decoders import adm as adm_decoders
from msdk.decoders import song as song_decoders
from msdk.decoders.base import Decoder
from msdk.decoders.unet_net import DecoderLevel, UNetDecoderNet
from msdk.denoiser import StagedNetwork
from msdk.denoiser.building import Parts
from msdk.encoders import adm as adm_encoders
from msdk.encoders import song as song_encoders
from msdk.encoders.base import Encoder
from msdk.encoders.unet_net import EncoderLevel, ResidualPyramid, SkipPyramid, UNetEncoder
from msdk.errors import PartError
from msdk.layers.attention import Attention2d
from msdk.layers.residual import ResidualBlock
from msdk.parameterizations import edm as edm_parameterizations
from msdk.parameterizations.base import Parameterization
from msdk.parameterizations.iddpm import IDDPM, noise_levels
from msdk.parameterizations.ve import VE
from msdk.parameterizations.vp import VP
from msdk.partition import Partition
from msdk.pretrained.config import Config, ints, number
from msdk.pretrained.pieces import Original, Pieces, each, filter_kernel
from msdk.schedules import edm as edm_schedules
from msdk.schedules.vp import VPLinear

STAGES = [[[0, 2.5103]], [[2.5103, 7.6577]], [[7.6577, "inf"]]]
"""The stages of the published multistage network, in sigma."""


def original(family: str, config: Config) -> Original:
    """What the original's constructor builds, in our parts.

    Args:
        family: "edm", "vp", "ve", "iddpm" (the preconditioner), or "multistage-edm".
        config: Constructor settings; `groups` caps the groups of the norms (32; 16 in the multistage code, for its
            unified network too), `channels_per_head` is ADM's 64.

    Raises:
        PartError: A setting is unknown or not supported, or the parts do not fit.
    """
    multistage = family == "multistage-edm"
    kinds = ["MultistageUNet"] if multistage else ["SongUNet", "DhariwalUNet"]
    adm = config.only("model_type", kinds, kinds[0] if multistage else "DhariwalUNet") == "DhariwalUNet"
    partition = _stages(config) if multistage else Partition()
    config.ignore("use_fp16", "label_dropout", "stage_num")
    side, channels = int(config.take("img_resolution")), int(config.take("img_channels"))
    schedule, parameterization = _process(family, config)
    encoder, decoders = (_adm if adm else _song)(config, multistage=multistage, variance=family == "iddpm")
    config.done()
    parts = Parts(
        encoders=(encoder,),
        decoders=tuple(decoders),
        schedule=schedule,
        parameterization=parameterization,
        shape=(channels, side, side),
    )
    return Original(parts, partition, lambda network: Walk(network, parts).run(multistage=multistage))


def _process(family: str, config: Config) -> tuple[edm_schedules.EDM, Parameterization]:
    """The preconditioner, and the noise levels between which EDM samples its model."""
    if family == "vp":
        low, slope = float(config.take("beta_min", 0.1)), float(config.take("beta_d", 19.9))
        steps = int(config.take("M", 1000))
        clock = VPLinear(beta_min=low, beta_max=low + slope)
        first = float(config.take("epsilon_t", 1e-5))
        schedule = _sampled(clock.ratio(first), clock.ratio(1.0))
        return schedule, VP(beta_min=low, beta_max=low + slope, steps=steps)
    if family == "ve":
        low, high = float(config.take("sigma_min", 0.02)), float(config.take("sigma_max", 100.0))
        return _sampled(low, high), VE()
    if family == "iddpm":
        known = IDDPM(
            steps=int(config.take("M", 1000)),
            c_1=float(config.take("C_1", 0.001)),
            c_2=float(config.take("C_2", 0.008)),
        )
        levels = noise_levels(known.steps, known.c_1, known.c_2)
        return _sampled(levels[-2], levels[0]), known
    config.ignore("sigma_min", "sigma_max")  # 0 and infinity there: bounds of what sampling may ask for
    return edm_schedules.EDM(), edm_parameterizations.EDM(sigma_data=float(config.take("sigma_data", 0.5)))


def _sampled(lowest: float, highest: float) -> edm_schedules.EDM:
    """EDM's own range of noise levels, as far as a model that knows those between two others can follow."""
    usual = edm_schedules.EDM()
    return edm_schedules.EDM(sigma_min=max(usual.sigma_min, lowest), sigma_max=min(usual.sigma_max, highest))


def _stages(config: Config) -> Partition:
    intervals = [
        [(number(low), number(high)) for low, high in stage] for stage in config.take("stage_interval", STAGES)
    ]
    if any(len(stage) != 1 for stage in intervals):
        raise PartError("config.stage_interval has a stage of several intervals, which no published model has")
    bounds = [stage[0] for stage in intervals]
    if any(below[1] != above[0] for below, above in itertools.pairwise(bounds)):
        raise PartError(f"config.stage_interval must be adjoining stages, least noise first, got {bounds}")
    return Partition(tuple(low for low, _ in bounds[1:]))


def _song(config: Config, *, multistage: bool, variance: bool) -> tuple[Encoder, list[Decoder]]:
    channels = int(config.take("en_model_channels" if multistage else "model_channels", 128))
    widths = ints(config.take("de_model_channels")) if multistage else (channels,)
    groups = int(config.take("groups", 16 if multistage else 32))
    dropout = float(config.take("dropout", 0.10))
    taps = tuple(float(tap) for tap in config.take("resample_filter", [1, 1]))
    pyramid = config.only("encoder_type", ["standard", "skip", "residual"], "standard")
    encoder = song_encoders.SongDDPMpp(
        channels=channels,
        channel_mult=ints(config.take("channel_mult", [1, 2, 2, 2])),
        blocks=int(config.take("num_blocks", 4)),
        attention=ints(config.take("attn_resolutions", [16])),
        dropout=dropout,
        groups=groups,
        classes=int(config.take("label_dim", 0)),
        augment=int(config.take("augment_dim", 0)),
        taps=taps,
        pyramid="none" if pyramid == "standard" else pyramid,
        embedding=config.only("embedding_type", ["positional", "fourier"], "positional"),
        embedding_mult=int(config.take("channel_mult_emb", 4)),
        noise_mult=int(config.take("channel_mult_noise", 1)),
    )
    summed = config.only("decoder_type", ["standard", "skip"], "standard") == "skip"
    return encoder, [
        song_decoders.SongDDPMpp(
            channels=width, dropout=dropout, groups=groups, taps=taps, sum_outputs=summed, variance=variance
        )
        for width in widths
    ]


def _adm(config: Config, *, multistage: bool, variance: bool) -> tuple[Encoder, list[Decoder]]:
    channels = int(config.take("model_channels", 192))
    groups, dropout = int(config.take("groups", 32)), float(config.take("dropout", 0.10))
    head = int(config.take("channels_per_head", 64))
    encoder = adm_encoders.ADM(
        channels=channels,
        channel_mult=ints(config.take("channel_mult", [1, 2, 3, 4])),
        blocks=int(config.take("num_blocks", 3)),
        attention=ints(config.take("attn_resolutions", [32, 16, 8])),
        dropout=dropout,
        groups=groups,
        classes=int(config.take("label_dim", 0)),
        augment=int(config.take("augment_dim", 0)),
        head_width=head,
        embedding_mult=int(config.take("channel_mult_emb", 4)),
    )
    return encoder, [
        adm_decoders.ADM(channels=channels, dropout=dropout, groups=groups, head_width=head, variance=variance)
    ]


# --- names ------------------------------------------------------------------------------------------------------------


class Walk:
    """Walks through a network in the original's order.

    Args:
        network: Ours.
        parts: What it was built of.
    """

    def __init__(self, network: StagedNetwork, parts: Parts) -> None:
        self.network, self.parts = network, parts
        self.pieces = Pieces(network)
        taps = parts.encoders[0].taps if isinstance(parts.encoders[0], song_encoders.SongDDPMpp) else (1.0, 1.0)
        self.kernel = filter_kernel(taps)
        self.adm = isinstance(parts.encoders[0], adm_encoders.ADM)

    def run(self, *, multistage: bool) -> Pieces:
        if isinstance(self.parts.parameterization, IDDPM):
            known = self.parts.parameterization
            levels = noise_levels(known.steps, known.c_1, known.c_2)
            self.pieces.constant("u", torch.tensor(levels, dtype=torch.float64))
        encoder = self.network.encoder(0)
        assert isinstance(encoder, UNetEncoder)
        self.embedding(encoder)
        self.encoder(encoder)
        for stage, decoder in enumerate(each(self.network.decoders, UNetDecoderNet)):
            self.decoder(decoder, f"model.decs.{stage}" if multistage else "model.dec")
        return self.pieces

    def side(self, level: int) -> str:
        side = self.parts.shape[1] >> level
        return f"{side}x{side}"

    def embedding(self, encoder: UNetEncoder) -> None:
        maps = encoder.embedding
        if maps.fourier is not None:
            shape = tuple(maps.fourier.frequencies.shape)
            self.pieces.add("model.map_noise.freqs", shape, maps.fourier, "frequencies", trained=False)
        self.pieces.same("model.map_label", maps.label)
        self.pieces.same("model.map_augment", maps.augment)
        self.pieces.same("model.map_layer0", maps.hidden)
        self.pieces.same("model.map_layer1", maps.out)

    def encoder(self, encoder: UNetEncoder) -> None:
        self.pieces.same(f"model.enc.{self.side(0)}_conv", encoder.stem)
        for index, level in enumerate(each(encoder.levels, EncoderLevel)):
            for order, (block, attend) in enumerate(level.pairs()):
                self.block(f"model.enc.{self.side(index)}_block{order}", block, attend)
            below = f"model.enc.{self.side(index + 1)}"
            if isinstance(level.down, ResidualBlock):
                self.block(f"{below}_down", level.down)
            if isinstance(level.pyramid, SkipPyramid):
                self.pieces.constant(f"{below}_aux_down.resample_filter", self.kernel)
                self.pieces.same(f"{below}_aux_skip", level.pyramid.conv)
            elif isinstance(level.pyramid, ResidualPyramid):
                self.pieces.same(f"{below}_aux_residual", level.pyramid.down.conv)
                self.pieces.constant(f"{below}_aux_residual.resample_filter", self.kernel)

    def decoder(self, decoder: UNetDecoderNet, prefix: str) -> None:
        bottom = f"{prefix}.{self.side(len(decoder.levels) - 1)}"
        middle = decoder.middle
        assert middle is not None
        self.block(f"{bottom}_in0", middle.block0, middle.attention)
        self.block(f"{bottom}_in1", middle.block1)
        levels = list(each(decoder.levels, DecoderLevel))
        for index, level in zip(reversed(range(len(levels))), levels, strict=True):
            here = f"{prefix}.{self.side(index)}"
            for order, (block, attend) in enumerate(level.pairs()):
                self.block(f"{here}_block{order}", block, attend)
            if level.head is not None and self.adm:
                self.pieces.same("model.out_norm", level.head.norm)
                self.pieces.same("model.out_conv", level.head.conv)
            elif level.head is not None:
                self.pieces.same(f"{here}_aux_norm", level.head.norm)
                self.pieces.same(f"{here}_aux_conv", level.head.conv)
            if isinstance(level.up, ResidualBlock):
                above = f"{prefix}.{self.side(index - 1)}"
                if decoder.up_output is not None:
                    self.pieces.constant(f"{above}_aux_up.resample_filter", self.kernel)
                self.block(f"{above}_up", level.up)

    def block(self, key: str, block: ResidualBlock, attention: torch.nn.Module | None = None) -> None:
        """A residual block, and the attention that the original keeps inside it."""
        pieces = self.pieces
        pieces.same(f"{key}.norm0", block.norm0)
        pieces.same(f"{key}.conv0", block.conv0)
        if block.resample is not None:
            pieces.constant(f"{key}.conv0.resample_filter", self.kernel)
            pieces.constant(f"{key}.skip.resample_filter", self.kernel)
        pieces.same(f"{key}.affine", block.dense)
        pieces.same(f"{key}.norm1", block.norm1)
        pieces.same(f"{key}.conv1", block.conv1)
        pieces.same(f"{key}.skip", block.shortcut)
        if isinstance(attention, Attention2d):
            pieces.same(f"{key}.norm2", attention.norm)
            pieces.qkv(f"{key}.qkv", attention, "(heads c n)")
            pieces.same(f"{key}.proj", attention.proj)
