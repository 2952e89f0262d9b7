"""Runs become diffusers pipelines that compute the same, and DDPM pipelines become runs."""

import subprocess
import sys
import warnings

import pytest
import torch

import msdk
from msdk.errors import PartError, RunError
from msdk.training import train
from msdk_hf.card import model_card
from msdk_hf.pipeline import MARK, MsdkPipeline, export, import_unet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import diffusers

pytestmark = pytest.mark.filterwarnings("ignore")

DDPM = 'encoder={name="ddpm", channels=32, channel_mult=[1, 2], blocks=2, attention=[4], dropout=0.0, groups=8}'
SHORT = ("training.iterations=2", "training.batch_size=4", "sampling.steps=3", "sampling.images=2", "sampling.nfe=3")


def settings(*more):
    return [*(each for each in SHORT if "nfe" not in each), *more]


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    """A run of a DDPM network."""
    folder = tmp_path_factory.mktemp("ddpm") / "run"
    recipe = msdk.load_recipe(
        "recipes/digits/unified.toml",
        settings(
            DDPM,
            'decoders=[{name="ddpm", channels=32, dropout=0.0, groups=8}]',
            'parameterization={name="eps"}',
            'weighting={name="uniform"}',
            'sharing="unified"',
        ),
    )
    train(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """A run with stages, which no UNet2DModel is."""
    folder = tmp_path_factory.mktemp("staged") / "run"
    decoders = 'decoders=[{name="ddpmpp", channels=12}, {name="ddpmpp", channels=8}]'
    train(msdk.load_recipe("recipes/digits/base.toml", settings(decoders, "stages.edges_ratio=[1.0]")), folder)
    return folder


def predictions(run, unet):
    """What both networks say of the noise, at times of the training."""
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([10.0, 500.0, 999.0])
    network = msdk.load_run(run).network
    with torch.no_grad():
        return network(x, steps, 0), unet(x, steps).sample


def test_a_ddpm_becomes_a_unet_that_computes_the_same(ddpm, tmp_path):
    """Loaded by diffusers from disk, the network answers alike, and the pipeline draws images."""
    assert export(ddpm, tmp_path / "pipeline") == "DDPMPipeline"
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "pipeline")
    ours, theirs = predictions(ddpm, pipeline.unet.eval())
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    betas = pipeline.scheduler.betas
    assert (float(betas[0]), float(betas[-1])) == pytest.approx((1e-4, 0.02))
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(batch_size=2, num_inference_steps=2).images[0].size == (8, 8)
    assert "DDPMPipeline.from_pretrained" in (tmp_path / "pipeline" / "README.md").read_text()


def test_a_ddpm_pipeline_becomes_a_run(ddpm, tmp_path):
    """There and back the weights are the same, and the run draws images and can be trained on."""
    export(ddpm, tmp_path / "pipeline")
    run = import_unet(tmp_path / "pipeline", tmp_path / "run", {"name": "digits"})
    there, back = (msdk.load_run(place).network.state_dict() for place in (ddpm, run))
    assert there.keys() == back.keys()
    assert all(torch.equal(there[name], back[name]) for name in there)
    recipe = msdk.load_recipe(run / "recipe.toml", ["training.iterations=1", "training.batch_size=4"])
    assert msdk.sample(msdk.load_run(run), recipe.sampler, 2, [0]).shape == (1, 1, 8, 8)


def test_diffusers_own_ddpm_is_imported(tmp_path):
    """A UNet2DModel that diffusers made, without attention on the way up, computes the same as the run."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        freq_shift=1,
        flip_sin_to_cos=False,
        downsample_padding=0,
        attention_head_dim=None,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        norm_eps=1e-6,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()
    unet.save_pretrained(tmp_path / "unet")
    run = import_unet(tmp_path / "unet", tmp_path / "run", {"name": "digits"})
    ours, theirs = predictions(run, unet)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"freq_shift": 0}, "freq_shift = 1"), ({"downsample_padding": 1}, "downsample_padding = 0")],
)
def test_other_architectures_are_refused(tmp_path, change, words):
    """What computes something else is not taken for a DDPM."""
    config = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "downsample_padding": 0,
        "attention_head_dim": None,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
    }
    diffusers.UNet2DModel(**(config | change)).save_pretrained(tmp_path / "unet")
    with pytest.raises(PartError, match=words):
        import_unet(tmp_path / "unet", tmp_path / "run", {"name": "digits"})
    assert not (tmp_path / "run").exists()


def test_a_staged_run_becomes_a_pipeline_of_its_own(staged, tmp_path):
    """The folder is complete, draws what the run draws, and says why it is no UNet2DModel."""
    assert export(staged, tmp_path / "pipeline") == "MsdkPipeline: a DDPM predicts eps under a linear VP schedule"
    assert (tmp_path / "pipeline" / MARK).is_file()
    pipeline = MsdkPipeline(tmp_path / "pipeline")
    found = pipeline(seeds=[3, 4], output_type="np").images
    recipe = msdk.load_recipe(staged / "recipe.toml")
    expected = msdk.sample(msdk.load_run(staged), recipe.solver, recipe.steps, [3, 4])
    torch.testing.assert_close(
        torch.from_numpy(found), ((expected.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1), rtol=0, atol=1e-5
    )
    assert [image.size for image in pipeline(2).images] == [(8, 8)] * 2


def test_a_pipeline_samples_as_the_recipe_says(tmp_path):
    """Label, guidance, interval and first seed of the recipe reach the images; what is said takes their place."""
    conditional = settings(
        'decoders=[{name="ddpmpp", channels=12}, {name="ddpmpp", channels=8}]',
        "stages.edges_ratio=[1.0]",
        "encoder.classes=10",
        "training.label_dropout=0.1",
        "training.lr=0.01",
        "sampling.label=3",
        "sampling.guidance=3.0",
        "sampling.guidance_interval=[0.1, 50.0]",
        "sampling.seed=5",
    )
    train(msdk.load_recipe("recipes/digits/base.toml", conditional), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "pipeline")
    pipeline, denoiser = MsdkPipeline(tmp_path / "pipeline"), msdk.load_run(tmp_path / "run")

    def expected(**said):
        images = msdk.sample(denoiser, **said)
        return ((images.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1)

    def found(*arguments, **said):
        return torch.from_numpy(pipeline(*arguments, output_type="np", **said).images)

    own = found(2)
    assert torch.equal(own, expected())
    solver = pipeline.recipe.solver
    explicit = {"label": 3, "guidance": 3.0, "guidance_interval": (0.1, 50.0)}
    assert torch.equal(own, expected(sampler=solver, steps=3, seeds=[5, 6], **explicit))
    other = found(seeds=[5, 6], class_labels=[1, -1], guidance_scale=1.5, num_inference_steps=2)
    assert torch.equal(other, expected(steps=2, seeds=[5, 6], label=[1, -1], guidance=1.5))
    for lost in ({"label": 4}, {"guidance": 1.0}):
        assert not torch.equal(own, expected(**lost))


def test_nothing_is_overwritten(ddpm, tmp_path):
    """Folders that exist stay as they are."""
    (tmp_path / "out").mkdir()
    with pytest.raises(RunError, match="exists"):
        export(ddpm, tmp_path / "out")
    with pytest.raises(RunError, match=r"has no config\.json"):
        import_unet(tmp_path / "out", tmp_path / "run", {"name": "digits"})


def test_the_card_has_the_budget(staged):
    """Metadata, code, facts and both tables of the budget."""
    card = model_card(staged, name="my-model", licence="mit")
    assert card.startswith("---\nlicense: mit\nlibrary_name: diffusers\n")
    budget = msdk.budget(msdk.load_recipe(staged / "recipe.toml")).as_json()
    for words in ("# my-model", "MsdkPipeline", "**iterations**: 2", "## Budget", "edges in ratio [1.0]"):
        assert words in card
    assert f"{budget['params']['total'] / 1e6:.3g}"[:3] in card


def test_the_command_line(staged, tmp_path):
    """Export, card, and a mistake without a traceback."""
    program = [sys.executable, "-W", "ignore", "-c", "from msdk_hf.command import main; main()"]

    def run(*words):
        return subprocess.run([*program, *map(str, words)], capture_output=True, text=True)

    done = run("export", staged, "--out", tmp_path / "pipeline")
    assert done.returncode == 0, done.stderr
    assert "MsdkPipeline" in done.stdout
    assert run("card", staged, "--out", tmp_path / "card.md").returncode == 0
    again = run("card", staged, "--out", tmp_path / "card.md")
    assert (again.returncode, "exists" in again.stderr, "Traceback" in again.stderr) == (2, True, False)
