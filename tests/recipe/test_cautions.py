"""What a recipe may do but hardly means is said, by every command that it concerns; what cannot be meant is refused."""

import json

import pytest
from commands import quick

import msdk
from msdk.errors import PartError, RecipeError
from msdk.recipe import cautions, load_recipe, to_toml
from recipes import tiny

NARROW = 'training.noise={name="edm", mean=-6.0, std=0.1}'
"""A law that draws next to nothing outside of the stage with least noise."""


def told(*overrides):
    return " | ".join(cautions(tiny(*overrides)))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.label_dropout=0.1"], "training.label_dropout = 0.1 withholds classes, but the model takes none"),
        (["training.warmup=4"], "training.warmup of 4 steps is not over when the 4 iterations end"),
        (["encoder.attention=[16]"], "encoder.attention asks for 16, but the levels have sides of 8, 4"),
        (["encoder.augment=9"], "encoder.augment takes 9 labels of augmentation, but training.augment is 0"),
        (
            ["encoder.classes=10", "sampling.guidance=2.0"],
            "sampling.guidance = 2 needs a model that was trained without",
        ),
        (["encoder.classes=10", "sampling.guidance_interval=[0.1, 1]"], "does nothing where sampling.guidance is 1"),
        (
            ['training.noise={name="edm", mean=9.0}'],
            "draws 99.8 % of its times outside of the schedule, above its t_max = 1",
        ),
        (
            ["encoder.classes=10", "sampling.guidance=2.0", "sampling.guidance_interval=[1e3, 1e4]"],
            "sampling.guidance_interval = [1000.0, 10000.0] guides nothing: the schedule's ratios run from 0 to 152.2",
        ),
        ([NARROW], "stage 1 (ratios from 0.3 to 2.5) gets none of the training images"),
        (
            ["stages.edges_ratio=[0.01, 0.02]"],
            "sampling never calls stage 0 (ratios from 0 to 0.01): none of its 5 network",
        ),
        (
            ['schedule={name="cld"}', 'sampler="gddim"'],
            'training refuses it: the schedule cld has noise of its own: set training.objective to "cld"',
        ),
        (
            ['schedule={name="pfgm"}', 'sampler={name="pfgm"}'],
            'the schedule pfgm has noise of its own: set training.objective to "pfgm"',
        ),
        (
            ['schedule={name="shifted", schedule={name="pfgm"}}', 'sampler={name="heun"}'],
            "the schedule shifted is for sampling only",
        ),
        (["decoders.0.variance=true"], "training refuses it: decoders 0 predict a variance"),
        (
            ['schedule="rectified-flow"', 'parameterization="eps"', 'weighting="uniform"'],
            'which is not flow matching: that is parameterization = "velocity" and weighting = "velocity"',
        ),
        (
            ['schedule={name="vp-discrete", zero_terminal_snr=true}', 'parameterization="eps"'],
            'no image left, and a network that predicts its noise says nothing of one: use parameterization = "v"',
        ),
    ],
)
def test_what_is_hardly_meant_is_said(overrides, words):
    """A sentence names the key, what it does and what to do instead."""
    assert words in told(*overrides)


def test_nothing_is_said_of_what_is_meant():
    """Of the tiny recipe, of a schedule of noise levels with what suits it, and of a recipe whose edges are unknown."""
    assert told() == ""
    flow = (
        'schedule="rectified-flow"',
        'parameterization="velocity"',
        'weighting="velocity"',
        'training.noise="logit-normal"',
    )
    assert told(*flow, 'sampler="flow-euler"', "sampling.steps=20") == ""
    assert (
        told(
            'schedule={name="vp-discrete", zero_terminal_snr=true}',
            'parameterization="v"',
            'weighting={name="snr", offset=1.0}',
            'training.noise="steps"',
        )
        == ""
    )
    edm = 'schedule={name="edm"}', 'sampler={name="ddim"}', 'training.noise={name="edm"}', "sampling.steps=18"
    assert told(*edm) == ""
    assert cautions(load_recipe("recipes/digits/multistage.toml")) == []


@pytest.mark.parametrize(
    ("overrides", "path", "words"),
    [
        (["schedule={name='vp-linear', beta_min=20.0, beta_max=0.1}"], "schedule", "must not be above beta_max = 0.1"),
        (["schedule={name='vp-discrete', beta_min=0.1}"], "schedule", "beta_min = 0.1 must not be above"),
        (["sampler={name='heun', churn_low=2.0, churn_high=1.0}"], "sampler", "churn_low = 2.0 must not be above"),
        (["sampler={name='time-heun', churn_low=2.0, churn_high=1.0}"], "sampler", "churn_low = 2.0 must not be above"),
        (["training.noise={name='uniform', t_first=1.0}"], "training.noise", "cannot be computed"),
        (["training.noise={name='uniform', t_first=2.0}"], "training.noise", "draws no time between the schedule's"),
        (["parameterization.sigma_data=1e300"], "parameterization", "leads to numbers that cannot be computed"),
        (["parameterization={name='iddpm', c_1=1e30}"], "parameterization", "cannot be computed"),
        (["encoder.blocks=2147483648"], "encoder.blocks", "must be at most 1,000"),
        (["encoder.classes=1099511627776"], "encoder.classes", "must be at most 16,777,216"),
        (["decoders.1.groups=0"], "decoders.1.groups", "must be >= 1"),
        (["sampler={name='dpm-adaptive', atol=1e300}"], "sampler.atol", "must be between -1e+30 and 1e+30"),
        (["stages.clustering={name='snr', points=1000000}"], "stages.clustering.points", "must be <= 10000"),
    ],
)
def test_what_cannot_be_meant_is_refused(overrides, path, words):
    """With its key, when the recipe is checked."""
    if path.startswith("stages"):
        overrides = ["stages={}", *overrides]
    with pytest.raises(RecipeError) as caught:
        tiny(*overrides)
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert words in found[path]


def test_mistakes_of_several_kinds_come_at_once():
    """Those of numbers, of sizes that fit, and of steps stand side by side."""
    with pytest.raises(RecipeError) as caught:
        tiny("parameterization={name='iddpm', c_1=1e30}", "training.accumulation=3", "decoders.0.channels=6")
    assert {problem.path for problem in caught.value.problems} >= {"parameterization", "training.accumulation"}


def test_schedules_for_sampling_only_are_not_trained(tmp_path):
    """Training refuses them before there is a run folder."""
    shifted = tiny('schedule={name="shifted", schedule={name="pfgm"}}', 'sampler={name="heun"}')
    with pytest.raises(PartError, match="the schedule shifted is for sampling only"):
        msdk.train(shifted, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_every_command_says_it(tmp_path, capsys, monkeypatch):
    """Stages that training or sampling leaves out are told by check, budget, cluster, train and sample, on stderr."""
    file, run = tmp_path / "narrow.toml", tmp_path / "run"
    file.write_text(to_toml(tiny(NARROW, "training.iterations=1", "training.warmup=0", "sampling.images=1")))
    share = "stage 1 (ratios from 0.3 to 2.5) gets none of the training images"

    def said(*arguments, code=0):
        found, out, err = quick(capsys, monkeypatch, *arguments)
        assert found == code, err
        return " ".join(out.split()), " ".join(err.split())

    assert share in said("recipe", "check", file)[1]
    out, err = said("budget", file, "--json")
    assert share in err
    assert any(share in note for note in json.loads(out)[0]["notes"])
    assert share in said("budget", file)[0]
    found = said("cluster", file, "--strategy", "snr", "--out", tmp_path / "c.json", "--device", "cpu")[1]
    assert "snr: stage 2" in found
    assert "of the training images" in found
    err = said("train", file, "--out", run, "--device", "cpu")[1]
    assert share in err
    assert "stage 2 (ratios above 2.5) saw no image in training, so its decoder is as it began" in err
    assert share in said("sample", run, "--device", "cpu", "--out", tmp_path / "images")[1]
    few = said("sample", run, "--device", "cpu", "--sampler", "ddim", "--steps", "1", "--out", tmp_path / "few")[1]
    assert "sampling never calls stage" in few
