"""Promises of the published autoencoders: every original parameter has its place, and the numbers are the same."""

import json
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from msdk.autoencoders.kl import KL
from msdk.autoencoders.vq import VQ
from msdk.errors import PartError
from msdk.pretrained.autoencoders import key_map, spec_of

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


def translated(net, names, original, dtype):
    """The original's tensors under our names."""
    return {
        ours: torch.cat([original[name].to(dtype) for name in names[ours].split(" + ")]) for ours in net.state_dict()
    }


@pytest.mark.golden
@pytest.mark.parametrize(("dtype", "kind"), [(torch.float32, "f32"), (torch.float64, "f64")])
def test_the_published_network(outside_data, dtype, kind):
    """Encoder, quantiser, loss and decoder give CompVis' numbers: float32 within its own rounding, float64 to 1e-9."""
    folder = outside_data / "golden" / "networks"
    (case,) = (one for one in json.loads((folder / "index.json").read_text())["cases"] if one["name"] == "ldm_vq_f4")
    original = {key: value.float() for key, value in load_file(folder / "ldm_vq_f4" / "state.safetensors").items()}
    io = load_file(folder / "ldm_vq_f4" / "io.safetensors")
    spec = spec_of({**case["constructor"], "num_groups": case["override_at_construction"]["num_groups"]})
    shape = tuple(io["x"].shape[1:])
    net = spec.build(shape).to(dtype).eval()
    net.load_state_dict(translated(net, key_map(spec, shape), original, dtype))
    with torch.no_grad():
        h = net.encode(io["x"].to(dtype))
        z_q, loss, indices = net.quantize(h)
        found = {"h": h, "z_q": z_q, "vq_loss": loss, "dec": net.decode(h), "dec_not_quantized": net.decode(h, False)}
    assert torch.equal(indices.flatten(), io["indices"].flatten().long())
    for name, value in found.items():
        expected = io[f"{name}_f64"].double()
        largest = expected.abs().max().item()
        tolerance = case["tol_f32"][name] if kind == "f32" else 1e-9 * largest
        assert (value.double() - expected).abs().max().item() <= tolerance, name


@pytest.mark.golden
def test_the_full_size_shapes(outside_data):
    """VQ-f4 of LDM's CelebA-HQ model: 55,322,782 parameters, each original key reached once and with its shape."""
    facts = json.loads((outside_data / "golden" / "shapes" / "ldm_vq_f4.json").read_text())
    spec = spec_of(facts["constructor"])
    assert spec == VQ()
    with torch.device("meta"):
        net = spec.build((3, 256, 256))
    assert sum(parameter.numel() for parameter in net.parameters()) == facts["n_params"] == 55_322_782
    names = key_map(spec, (3, 256, 256))
    reached = Counter(name for ours in names for name in names[ours].split(" + "))
    assert reached == Counter(facts["keys"].keys())
    for ours, value in net.state_dict().items():
        theirs = [facts["keys"][name][0] for name in names[ours].split(" + ")]
        assert list(value.shape) == [sum(shape[0] for shape in theirs), *theirs[0][1:]], ours
        assert all(shape[1:] == theirs[0][1:] for shape in theirs)


@pytest.mark.parametrize("config", [VQ_CONFIG, KL_CONFIG], ids=["vq", "kl"])
def test_every_parameter_has_a_name(config):
    """The map has exactly our parameters, and no original name twice; attention at inner levels included."""
    spec = spec_of(config)
    with torch.device("meta"):
        net = spec.build((3, 32, 32))
    names = key_map(spec, (3, 32, 32))
    assert set(names) == set(net.state_dict())
    originals = [name for joined in names.values() for name in joined.split(" + ")]
    assert len(set(originals)) == len(originals)
    assert {"encoder.down.1.attn.1.q.weight", "decoder.up.2.attn.2.proj_out.bias"} <= set(originals)


def test_the_kinds_are_told_apart():
    """Codes make a VQ, none a KL; attention is kept as a reduction, whatever the image's size."""
    vq, kl = spec_of(VQ_CONFIG), spec_of(KL_CONFIG)
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
