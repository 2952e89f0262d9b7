"""Promises of the published autoencoders: every original parameter has its place (for numbers: test_golden)."""

import pytest
import torch

from msdk.autoencoders.kl import KL
from msdk.autoencoders.vq import VQ
from msdk.errors import PartError
from msdk.pretrained.autoencoders import pieces_of, spec_of

NETWORK = {
    "double_z": False,
    "z_channels": 3,
    "resolution": 32,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 8,
    "ch_mult": [1, 2, 2],
    "num_res_blocks": 2,
    "attn_resolutions": [8, 16],
    "dropout": 0.0,
}
VQ_CONFIG = {"embed_dim": 2, "n_embed": 16, "ddconfig": NETWORK, "num_groups": 4}
KL_CONFIG = {"embed_dim": 2, "ddconfig": {**NETWORK, "double_z": True}, "num_groups": 4}


@pytest.mark.parametrize("config", [VQ_CONFIG, KL_CONFIG], ids=["vq", "kl"])
def test_every_parameter_has_a_name(config):
    """The map has exactly our parameters, and no original name twice; attention at inner levels included."""
    spec, shape = spec_of(config)
    assert shape == (3, 32, 32)
    with torch.device("meta"):
        net = spec.build(shape)
    pieces = pieces_of(spec, net)
    assert {piece.ours for piece in pieces} == set(net.state_dict())
    originals = [piece.key for piece in pieces]
    assert len(set(originals)) == len(originals)
    assert {"encoder.down.1.attn.1.q.weight", "decoder.up.2.attn.2.proj_out.bias"} <= set(originals)


def test_the_kinds_are_told_apart():
    """Codes make a VQ, none a KL; attention is kept as a reduction, whatever the image's size."""
    (vq, _), (kl, _) = spec_of(VQ_CONFIG), spec_of(KL_CONFIG)
    assert (type(vq), vq.codes, vq.latent_channels, vq.attention, vq.groups) == (VQ, 16, 2, (2, 4), 4)
    assert (type(kl), kl.channel_mult, kl.blocks, kl.z_channels) == (KL, (1, 2, 2), 2, 3)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"embed_dim": 3}, "lack 'ddconfig'"),
        ({**VQ_CONFIG, "ddconfig": {**NETWORK, "tanh_out": True}}, "tanh_out = True are not supported, only False"),
        ({**VQ_CONFIG, "ddconfig": {**NETWORK, "out_ch": 1}}, "in_channels is 3 and out_ch 1"),
        ({**VQ_CONFIG, "ddconfig": {**NETWORK, "double_z": True}}, "double_z is for Gaussian latents"),
    ],
)
def test_what_is_not_supported_is_told(config, words):
    """An original that we could not reproduce is refused, not half loaded."""
    with pytest.raises(PartError, match=words):
        spec_of(config)
