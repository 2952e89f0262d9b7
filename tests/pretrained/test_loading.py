"""What load_pretrained and convert promise beside parity: errors that list everything, averages, files, run folders."""

import json
import math
import pickle

import attrs
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import msdk
from msdk.denoiser.building import build_autoencoder
from msdk.errors import PartError, RunError, UnknownNameError
from msdk.noise_levels.steps import Steps
from msdk.pretrained import FAMILIES
from msdk.pretrained.autoencoders import pieces_of, spec_of
from msdk.pretrained.checkpoints import has_averages
from msdk.pretrained.config import Config
from msdk.pretrained.converting import convert
from msdk.pretrained.files import read_checkpoint
from msdk.pretrained.published import PUBLISHED
from msdk.recipe import Init, Stages
from msdk.samplers.heun import Heun

SONG = {
    "model_type": "SongUNet",
    "img_channels": 3,
    "img_resolution": 8,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
}
SDE = {
    "model": {"name": "ncsnpp", "nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4]},
    "data": {"image_size": 8},
    "training": {"sde": "vpsde", "continuous": True},
}
LDM = {
    "image_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 8,
    "attention_resolutions": [2],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_heads": 2,
    "num_groups": 4,
}


def changed(config, **model):
    """A config of score_sde with other keys in its table `model`."""
    return {**config, "model": {**config["model"], **model}}


def original_state(family, config, seed=0):
    """A state dict under the original's names, with random weights."""
    denoiser = msdk.load_pretrained(family, None, config)
    pieces = FAMILIES[family](family, Config(config)).pieces(denoiser.network).found
    generator = torch.Generator().manual_seed(seed)
    return {
        piece.key: piece.value.clone()
        if piece.value is not None
        else torch.randn(piece.shape, generator=generator) * 0.1
        for piece in pieces
    }


def estimate(denoiser, t=0.5, label=None):
    x = torch.randn(2, *denoiser.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return denoiser(x, t, label)


def test_every_wrong_key_is_listed():
    """Missing, unknown and misshapen keys all stand in one error, with both shapes."""
    state = original_state("edm", SONG)
    del state["model.map_layer0.bias"]
    state["model.map_layer9.bias"] = torch.zeros(3)
    state["model.map_layer1.weight"] = torch.zeros(2, 3)
    with pytest.raises(PartError) as caught:
        msdk.load_pretrained("edm", state, SONG)
    assert "1 missing: model.map_layer0.bias" in str(caught.value)
    assert "1 unknown: model.map_layer9.bias" in str(caught.value)
    assert "1 misshapen: model.map_layer1.weight is 2x3 instead of 32x32" in str(caught.value)


def test_a_constant_that_contradicts_the_config_is_told():
    """A resampling filter of other taps means another network, although all shapes are right."""
    config = {**SONG, "resample_filter": [1, 3, 3, 1]}
    state = original_state("edm", config)
    with pytest.raises(PartError, match=r"constants that the config contradicts: model\.enc\.4x4_down"):
        msdk.load_pretrained("edm", state, {**SONG, "resample_filter": [1, 1, 1, 1]})


@pytest.mark.parametrize(
    ("family", "config", "words"),
    [
        ("edn", SONG, "no family of checkpoints named 'edn'. Did you mean 'edm'?"),
        ("edm", {**SONG, "chanel_mult": [1]}, r"unknown keys: 'chanel_mult' Did you mean 'channel_mult'\?"),
        ("edm", {**SONG, "encoder_type": "odd"}, "config.encoder_type = 'odd' is not supported; it must be 'standard'"),
        ("edm", {"model_type": "SongUNet"}, "config.img_resolution is missing"),
        ("score_sde", changed(SDE, progressive_combine="cat"), "progressive_combine = 'cat' is not supported"),
        ("score_sde", changed(SDE, resblock_type="ddpm"), "resblock_type = 'ddpm' runs in the original with fir"),
        ("score_sde", {**SDE, "model": 3}, "config.model is 3, but a table is wanted"),
        ("ldm", {**LDM, "num_heads": -1}, "num_heads or num_head_channels"),
        ("ldm", {**LDM, "use_spatial_transformer": True}, "use_spatial_transformer = True is not supported"),
    ],
)
def test_what_cannot_be_built_is_refused(family, config, words):
    """A setting that msdk does not know or have is an error that names it, never ignored."""
    with pytest.raises((PartError, UnknownNameError), match=words):
        msdk.load_pretrained(family, None, config)


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("score_sde", changed(SDE, resblock_type="ddpm", fir=True, resamp_with_conv=False)),
        ("score_sde", changed(SDE, skip_rescale=False, progressive_input="residual")),
        ("score_sde", changed(SDE, embedding_type="positional", nf=12, num_scales=100)),
        ("score_sde", {**changed(SDE, name="ddpm", group=8), "training": {"sde": "vpsde", "continuous": False}}),
        (
            "score_sde",
            {
                **changed(SDE, embedding_type="positional", scale_by_sigma=True, progressive="output_skip"),
                "training": {"sde": "vesde", "continuous": False},
            },
        ),
        ("ldm", {**LDM, "num_classes": 5, "conv_resample": False}),
        ("ldm", {**LDM, "use_new_attention_order": True, "resblock_updown": True}),
        ("ldm", {**LDM, "out_channels": 6, "num_heads_upsample": 4}),
        ("iddpm", {**SONG, "model_type": "DhariwalUNet", "channels_per_head": 8, "label_dim": 3}),
    ],
)
def test_variants_load_their_own_weights(family, config):
    """Every variant takes a full state dict; its outputs depend on it, and on the noise level."""
    label = torch.tensor([0, 2]) if config.get("num_classes") or config.get("label_dim") else None
    first = msdk.load_pretrained(family, original_state(family, config), config)
    again = msdk.load_pretrained(family, original_state(family, config), config)
    other = msdk.load_pretrained(family, original_state(family, config, seed=1), config)
    torch.testing.assert_close(estimate(first, label=label), estimate(again, label=label), rtol=0, atol=0)
    assert estimate(first, label=label).isfinite().all()
    assert not torch.allclose(estimate(first, label=label), estimate(other, label=label))
    assert not torch.allclose(estimate(first, 0.4, label), estimate(first, 0.9, label))


def test_new_and_old_attention_order_differ_only_in_the_order_of_rows():
    """[q|k|v][head] and [head][q|k|v] hold the same projections, so reordered weights give the same outputs."""
    old, new = {**LDM}, {**LDM, "use_new_attention_order": True}
    state = original_state("ldm", old)
    reordered = {
        key: value.view(2, 3, -1, *value.shape[1:]).transpose(0, 1).reshape(value.shape) if ".qkv." in key else value
        for key, value in state.items()
    }
    found = estimate(msdk.load_pretrained("ldm", reordered, new))
    torch.testing.assert_close(found, estimate(msdk.load_pretrained("ldm", state, old)))


def test_discrete_times_of_score_sde_hold_their_step():
    """A discrete VP model is fed t (N - 1), and its noise level is that of the step that t lies in."""
    config = {**changed(SDE, name="ddpm", nf=8, group=8), "training": {"sde": "vpsde", "continuous": False}}
    denoiser = msdk.load_pretrained("score_sde", None, config)
    betas = torch.linspace(0.1 / 1000, 20 / 1000, 1000, dtype=torch.float64)
    sigma = (1 - (1 - betas).cumprod(0)).sqrt()
    t = torch.tensor([0, 1 / 999, 0.4999, 500 / 999, 1], dtype=torch.float64)
    step = torch.tensor([0, 1, 499, 500, 999])
    torch.testing.assert_close(denoiser.schedule.sigma(t), sigma[step], rtol=1e-12, atol=0)
    c = denoiser.parameterization.coefficients(denoiser.schedule, t)
    torch.testing.assert_close(c.c_noise, 999 * t)


def test_averages_of_score_sde_are_a_list():
    """`ema.shadow_params` follows the order of trained parameters, without buffers and Fourier frequencies."""
    config = changed(SDE, embedding_type="fourier", progressive_input="residual", fir=True)
    raw, averaged = original_state("score_sde", config), original_state("score_sde", config, seed=1)
    trained = [key for key in raw if key not in ("sigmas", "all_modules.0.W")]
    saved = {
        "model": {f"module.{key}": value for key, value in raw.items()},
        "ema": {"shadow_params": [averaged[key] for key in trained], "decay": 0.999, "num_updates": 7},
        "optimizer": {},
        "step": 7,
    }
    expected = {**raw, **{key: averaged[key] for key in trained}}
    for weights, state in (("raw", raw), ("ema", expected)):
        found = estimate(msdk.load_pretrained("score_sde", saved, config, weights=weights))
        torch.testing.assert_close(found, estimate(msdk.load_pretrained("score_sde", state, config)), rtol=0, atol=0)
    assert has_averages(saved)
    assert not has_averages(saved["model"])
    saved["ema"]["shadow_params"].pop()
    with pytest.raises(PartError, match=rf"has {len(trained) - 1} tensors, but the network trains {len(trained)}"):
        msdk.load_pretrained("score_sde", saved, config, weights="ema")


def test_averages_of_ldm_have_names_without_dots():
    """A whole LDM checkpoint holds network, autoencoder and averages; each is found by its prefix."""
    raw, averaged = original_state("ldm", LDM), original_state("ldm", LDM, seed=1)
    state = {f"model.diffusion_model.{key}": value for key, value in raw.items()}
    state |= {"model_ema.diffusion_model" + key.replace(".", ""): value for key, value in averaged.items()}
    state |= {"first_stage_model.x": torch.zeros(1), "model_ema.decay": torch.zeros(())}
    for weights, alone in (("raw", raw), ("ema", averaged)):
        found = estimate(msdk.load_pretrained("ldm", {"state_dict": state}, LDM, weights=weights))
        torch.testing.assert_close(found, estimate(msdk.load_pretrained("ldm", alone, LDM)), rtol=0, atol=0)
    assert has_averages({"state_dict": state})
    assert not has_averages({"state_dict": {key: value for key, value in state.items() if "model_ema" not in key}})


@pytest.mark.parametrize(("rates", "second"), [([1, 2], (2,)), ([2], ())])
def test_later_decoders_of_multistage_ldm_attend_less(rates, second):
    """The original halves the rate on from one decoder to the next: at most the lowest level is left to the second."""
    config = {**LDM, "attention_resolutions": rates, "de_nfs": [8, 8, 8], "stage_interval": [400, 700, 1000]}
    original = FAMILIES["multistage-ldm"]("multistage-ldm", Config(config))
    assert [decoder.attention for decoder in original.parts.decoders] == [None, second, ()]


@pytest.mark.parametrize(("family", "config"), [("edm", SONG), ("score_sde", SDE), ("ldm", LDM)])
def test_averages_that_are_not_there_are_told(family, config):
    """Asking for averages of a plain state dict is an error that says so."""
    with pytest.raises(PartError, match="ask for 'raw'"):
        msdk.load_pretrained(family, original_state(family, config), config, weights="ema")


@pytest.mark.parametrize(("family", "ends"), [("edm", (0.002, 80)), ("ve", (0.02, 80)), ("vp", (0.002, 80))])
def test_edm_samples_within_the_range_of_the_network(family, ends):
    """0.002 to 80 is clamped to the noise levels that a preconditioned network knows: VE's begin at 0.02."""
    schedule = msdk.load_pretrained(family, None, SONG, device="meta").schedule
    assert (schedule.t_min, schedule.t_max) == ends
    assert Heun().times(schedule, 18)[0] == ends[1]
    assert Heun().times(schedule, 18)[-2:] == [ends[0], 0.0]
    narrow = msdk.load_pretrained("ve", None, {**SONG, "sigma_min": 0.5, "sigma_max": 5.0}, device="meta").schedule
    assert (narrow.t_min, narrow.t_max) == (0.5, 5.0)
    wide = {**SONG, "sigma_min": 0, "sigma_max": math.inf}  # as EDM's own preconditioner has them
    assert msdk.load_pretrained("edm", None, wide, device="meta").schedule.t_max == 80


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_converted_file_is_a_run(tmp_path, ending, monkeypatch):
    """A file without a config is recognised among the published ones; its run gives the same numbers, and samples."""
    monkeypatch.setitem(PUBLISHED, "edm", {"other": {**SONG, "num_blocks": 2}, "tiny": SONG})
    state, file = original_state("edm", SONG), tmp_path / f"weights.{ending}"
    if ending == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, file)
    else:
        torch.save(state, file)
    made = convert(file, "edm", tmp_path / "run")
    assert (made.config, made.stages) == ("tiny", 1)
    found = msdk.load_run(tmp_path / "run")
    torch.testing.assert_close(estimate(found), estimate(msdk.load_pretrained("edm", state, SONG)), rtol=0, atol=0)
    recipe = msdk.load_recipe(tmp_path / "run" / "recipe.toml")
    assert msdk.sample(found, recipe.sampler, 2, [0, 1]).shape == (2, 3, 8, 8)
    assert json.loads((tmp_path / "run" / "pretrained.json").read_text())["config"] == SONG
    with pytest.raises(RunError, match="--force"):
        convert(file, "edm", tmp_path / "run")
    with pytest.raises(PartError, match="no published configuration of score_sde"):
        convert(file, "score_sde", tmp_path / "other")


def test_a_converted_file_starts_a_run(tmp_path, monkeypatch):
    """Every stage of a recipe with its parts begins with the outputs of the published network."""
    monkeypatch.setitem(PUBLISHED, "edm", {"tiny": SONG})
    save_file(
        {key: value.contiguous() for key, value in original_state("edm", SONG).items()}, tmp_path / "w.safetensors"
    )
    convert(tmp_path / "w.safetensors", "edm", tmp_path / "published")
    recipe = msdk.load_recipe(tmp_path / "published" / "recipe.toml")
    pixels = torch.randint(0, 255, (4, 8, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    (tmp_path / "images").mkdir()
    for number, image in enumerate(pixels.numpy()):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    options = attrs.evolve(recipe.training, iterations=1, warmup=1, batch_size=2)
    staged = attrs.evolve(
        recipe,
        data=attrs.evolve(recipe.data, path=tmp_path / "images"),
        stages=Stages(edges_ratio=(0.5, 3.0)),
        decoders=recipe.decoders * 3,
        sharing="shared",
        training=options,
        init=Init(run=tmp_path / "published"),
    )
    msdk.train(staged, tmp_path / "run")
    one, other = msdk.load_run(tmp_path / "published"), msdk.load_run(tmp_path / "run")
    for t in (0.01, 1.0, 50.0):
        torch.testing.assert_close(estimate(other, t), estimate(one, t), rtol=0, atol=1e-6)


def test_a_safetensors_file_may_carry_its_config(tmp_path):
    """Metadata `config` of the file is used where no other is given."""
    file = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in original_state("ldm", LDM).items()}, file, {"config": json.dumps(LDM)})
    assert convert(file, "ldm", tmp_path / "run").params > 0


def test_a_multistage_run_keeps_its_stages(tmp_path):
    """Edges, widths and quirks of a multistage checkpoint survive recipe.toml."""
    config = {**LDM, "de_nfs": [16, 8], "stage_interval": [40, 100], "timesteps": 100}
    state, file = original_state("multistage-ldm", config), tmp_path / "weights.pt"
    torch.save(state, file)
    convert(file, "multistage-ldm", tmp_path / "run", config=config)
    direct, found = msdk.load_pretrained("multistage-ldm", state, config), msdk.load_run(tmp_path / "run")
    assert found.partition == direct.partition
    for step in (10, 39, 40, 99):  # a step equal to the bound belongs to the upper stage
        t = (step + 1) / 100
        assert found.partition.at(t, found.schedule) == (step >= 40)
        torch.testing.assert_close(estimate(found, t), estimate(direct, t), rtol=0, atol=0)


VQ = {
    "embed_dim": 3,
    "n_embed": 16,
    "num_groups": 4,
    "ddconfig": {
        "z_channels": 3,
        "resolution": 16,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 8,
        "ch_mult": [1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [8],
        "double_z": False,
    },
}


def vq_state(seed=0):
    """A state dict of the autoencoder under the original's names, with random weights."""
    spec, shape = spec_of(VQ)
    generator = torch.Generator().manual_seed(seed)
    return {
        piece.key: 0.1 * torch.randn(piece.shape, generator=generator) for piece in pieces_of(spec, spec.build(shape))
    }


def test_an_autoencoder_is_loaded_from_any_of_its_files():
    """Alone (with what its loss trained), or inside a whole LDM checkpoint, its weights are the same."""
    state, x = vq_state(), torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    alone = msdk.load_pretrained("vq", state, VQ)
    others = [
        {"state_dict": {**state, "loss.discriminator.x": torch.zeros(1)}},
        {f"first_stage_model.{key}": value for key, value in state.items()}
        | {"model.diffusion_model.x": torch.zeros(1)},
    ]
    for saved in others:
        found = msdk.load_pretrained("vq", saved, VQ)
        torch.testing.assert_close(found.decode(found.encode(x)), alone.decode(alone.encode(x)), rtol=0, atol=0)
    del state["quant_conv.bias"]
    with pytest.raises(PartError, match=r"1 missing: quant_conv\.bias"):
        msdk.load_pretrained("vq", state, VQ)


def test_an_autoencoder_becomes_a_folder_that_recipes_name(tmp_path, monkeypatch):
    """`autoencoder.weights` takes what `convert` made; a folder that exists is not replaced unasked."""
    monkeypatch.setitem(PUBLISHED, "vq", {"tiny-vq": VQ})
    torch.save(vq_state(), tmp_path / "vq.pt")
    made = convert(tmp_path / "vq.pt", "vq", tmp_path / "vq")
    assert (made.config, made.stages, made.autoencoder["name"]) == ("tiny-vq", 0, "vq-f4")
    spec, shape = spec_of(VQ)
    found = build_autoencoder(attrs.evolve(spec, weights=tmp_path / "vq"), shape)
    wanted = msdk.load_pretrained("vq", vq_state(), VQ)
    torch.testing.assert_close(found.state_dict(), wanted.state_dict(), rtol=0, atol=0)
    with pytest.raises(RunError, match="--force"):
        convert(tmp_path / "vq.pt", "vq", tmp_path / "vq")
    convert(tmp_path / "vq.pt", "vq", tmp_path / "vq", force=True)


def test_a_whole_ldm_checkpoint_brings_its_autoencoder(tmp_path, monkeypatch):
    """Network and autoencoder of one file make one run, whose samples are images, not latents."""
    monkeypatch.setitem(PUBLISHED, "vq", {"tiny-vq": VQ})
    monkeypatch.setitem(PUBLISHED, "ldm", {"tiny-ldm": LDM})
    network = original_state("ldm", LDM)
    saved = {f"model.diffusion_model.{key}": value for key, value in network.items()}
    saved |= {f"first_stage_model.{key}": value for key, value in vq_state().items()} | {
        "scale_factor": torch.tensor(0.5)
    }
    torch.save({"state_dict": saved, "epoch": 3}, tmp_path / "ldm.ckpt")
    made = convert(tmp_path / "ldm.ckpt", "ldm", tmp_path / "run")
    assert (made.config, made.autoencoder["name"]) == ("tiny-ldm", "vq-f4")
    found, recipe = msdk.load_run(tmp_path / "run"), msdk.load_recipe(tmp_path / "run" / "recipe.toml")
    assert recipe.data.shape == (3, 16, 16)
    torch.testing.assert_close(estimate(found), estimate(msdk.load_pretrained("ldm", network, LDM)), rtol=0, atol=0)
    latents = msdk.sample(found, recipe.sampler, 2, [0], decode=False)
    images = msdk.sample(found, recipe.sampler, 2, [0])
    assert (latents.shape, images.shape) == ((1, 3, 8, 8), (1, 3, 16, 16))
    torch.testing.assert_close(msdk.load_pretrained("vq", vq_state(), VQ).decode(latents / 0.5), images)


def test_a_checkpoint_of_another_diffusion_is_told():
    """A whole LDM checkpoint carries its betas: where the config means others, its numbers would be wrong."""
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    saved = {f"model.diffusion_model.{key}": value for key, value in original_state("ldm", LDM).items()}
    msdk.load_pretrained("ldm", {**saved, "betas": betas.float()}, LDM)
    other = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    with pytest.raises(PartError, match=r"betas from 0\.00085 to 0\.012.*linear_start"):
        msdk.load_pretrained("ldm", {**saved, "betas": other}, LDM)
    settings = {**LDM, "linear_start": 0.00085, "linear_end": 0.012}
    msdk.load_pretrained("ldm", {**saved, "betas": other}, settings)


def test_names_that_several_published_networks_have_are_not_guessed(tmp_path, monkeypatch):
    """Weights do not tell a continuous model from a discrete one, so the user does; the run then samples."""
    small = changed(SDE, name="ddpm", group=8)
    discrete = {**small, "training": {"sde": "vpsde", "continuous": False}}
    monkeypatch.setitem(PUBLISHED, "score_sde", {"tiny-continuous": small, "tiny-discrete": discrete})
    torch.save(original_state("score_sde", small), tmp_path / "w.pth")
    with pytest.raises(PartError, match="tiny-continuous and tiny-discrete, which differ in their diffusion"):
        convert(tmp_path / "w.pth", "score_sde", tmp_path / "run")
    made = convert(tmp_path / "w.pth", "score_sde", tmp_path / "run", config="tiny-discrete")
    assert made.process == "vp-discrete, eps"
    found, recipe = msdk.load_run(tmp_path / "run"), msdk.load_recipe(tmp_path / "run" / "recipe.toml")
    assert recipe.training.noise == Steps()  # what it learnt, whole steps alone
    assert msdk.sample(found, recipe.sampler, 50, [0]).isfinite().all()
    direct = msdk.load_pretrained("score_sde", original_state("score_sde", small), discrete)
    step = 300  # at (step + 1) / 1000 in msdk's time, at step / 999 in score_sde's
    torch.testing.assert_close(estimate(found, (step + 1) / 1000), estimate(direct, step / 999), rtol=1e-5, atol=1e-5)


def test_force_never_removes_what_is_converted(tmp_path):
    """A file inside the folder that --force would replace is refused and still there; so is another kind of run."""
    state = original_state("edm", SONG)
    torch.save(state, tmp_path / "w.pt")
    convert(tmp_path / "w.pt", "edm", tmp_path / "run", config=SONG)
    inside = tmp_path / "run" / "w.pt"
    torch.save(state, inside)
    with pytest.raises(RunError, match="would be replaced"):
        convert(inside, "edm", tmp_path / "run", config=SONG, force=True)
    assert inside.is_file()
    torch.save(vq_state(), tmp_path / "vq.pt")
    with pytest.raises(RunError, match="run folder of a diffusion model"):
        convert(tmp_path / "vq.pt", "vq", tmp_path / "run", config=VQ, force=True)


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("edm", {**SONG, "img_channels": "three"}),
        ("edm", {**SONG, "channel_mult": 2}),
        ("score_sde", changed(SDE, ch_mult=None)),
        ("vq", {**VQ, "ddconfig": 3}),
        ("multistage-edm", {**SONG, "model_type": "MultistageUNet", "stage_interval": [[0, 1]]}),
    ],
)
def test_values_of_a_wrong_kind_are_told(family, config):
    """A text for a number, or a number for a list, is an error of the config, not a traceback."""
    with pytest.raises(PartError, match="config"):
        msdk.load_pretrained(family, None, config)


def test_families_of_autoencoders_are_not_mixed_up():
    """A config with codes is no KL autoencoder."""
    with pytest.raises(PartError, match="is of the family 'vq', not 'kl'"):
        msdk.load_pretrained("kl", None, VQ)


@pytest.mark.parametrize("kind", ["ddpm", "ncsnpp"])
def test_networks_of_numbered_noise_divide_by_the_level(kind):
    """Scale by sigma, fed positions: the output is that of the network without it, over the level of that number."""
    plain = changed(SDE, name=kind, embedding_type="positional", group=8, num_scales=10, sigma_max=5.0)
    plain = {**plain, "training": {"sde": "vesde", "continuous": False}}
    scaled, state = changed(plain, scale_by_sigma=True), original_state("score_sde", plain)
    first, second = (msdk.load_pretrained("score_sde", state, config) for config in (plain, scaled))
    x, number = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 7.0])
    levels = torch.logspace(math.log10(5.0), -2, 10)  # largest first
    with torch.no_grad():
        found, wanted = second.network(x, number, 0), first.network(x, number, 0)
    torch.testing.assert_close(found, wanted / levels[number.long()].view(-1, 1, 1, 1))


class Stranger:
    """What an unpickler would run."""

    def __reduce__(self):
        return (open, ("stranger-was-here", "w"))


@pytest.mark.parametrize("whole", [True, False], ids=["torch.save", "pickle"])
def test_a_pickle_that_needs_code_is_refused(tmp_path, whole, monkeypatch):
    """Nothing of it runs, and the message explains how its tensors can be had."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "network.pkl"
    if whole:
        torch.save({"ema": Stranger()}, file)
    else:
        file.write_bytes(pickle.dumps({"ema": Stranger()}))
    with pytest.raises(RunError, match=r"(?s)cannot be read as data.*never runs the code.*torch\.save\(network"):
        read_checkpoint(file)
    assert not (tmp_path / "stranger-was-here").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.pt", None, "No such file"),
        ("text.pt", b"hello", "cannot be read as data"),
        ("text.safetensors", b"hello there", "no safetensors file"),
    ],
)
def test_files_that_are_none_are_told(tmp_path, name, content, words):
    """A missing or foreign file is an error that names it."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=words):
        read_checkpoint(tmp_path / name)


@pytest.mark.golden
def test_published_configurations_are_the_published_ones(outside_data):
    """Each named configuration has the names and shapes of the full-size vectors that it stands for."""
    files = {
        "edm-cifar10-uncond-vp": "edm_cifar10_uncond_vp_ddpmpp",
        "edm-cifar10-cond-vp": "edm_cifar10_cond_vp_ddpmpp",
        "edm-cifar10-uncond-ve": "edm_cifar10_uncond_ve_ncsnpp",
        "edm-cifar10-cond-ve": "edm_cifar10_cond_ve_ncsnpp",
        "edm-ffhq64-uncond-vp": "edm_ffhq64_uncond_vp_ddpmpp",
        "edm-imagenet64-cond-adm": "edm_imagenet64_cond_adm",
        "sde-cifar10-ddpm-continuous-vp": "sde_cifar10_ddpm_vp",
        "sde-cifar10-ddpmpp-continuous-vp": "sde_cifar10_ddpmpp_vp",
        "sde-cifar10-ddpmpp-deep-continuous-vp": "sde_cifar10_ddpmpp_deep_vp",
        "sde-cifar10-ncsnpp-continuous-ve": "sde_cifar10_ncsnpp_ve",
        "sde-cifar10-ncsnpp-deep-continuous-ve": "sde_cifar10_ncsnpp_deep_ve",
        "ldm-celebahq256": "ldm_celebahq_unet",
        "ldm-vq-f4": "ldm_vq_f4",
        "multistage-edm": "ms_edm_cifar10",
        "multistage-dpm-cifar10": "ms_sde_cifar10_v2",
        "multistage-ldm-celebahq256": "ms_ldm_celebahq_unet",
    }
    for family, configs in PUBLISHED.items():
        for name, config in configs.items():
            if name in ("edm-ffhq64-uncond-ve", "sde-cifar10-ddpm-discrete-vp"):
                continue  # no vectors of the first; the other has those of a neighbour
            wanted = json.loads((outside_data / "golden" / "shapes" / f"{files.pop(name)}.json").read_text())["keys"]
            network = msdk.load_pretrained(family, None, config, device="meta")
            if family == "vq":
                pieces = pieces_of(spec_of(config)[0], network)
            else:
                pieces = FAMILIES[family](family, Config(config)).pieces(network.network).found
            assert {piece.key: list(piece.shape) for piece in pieces} == {
                key: value[0] for key, value in wanted.items()
            }
    assert not files
