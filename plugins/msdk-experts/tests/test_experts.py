"""The neighbours of multi-stage models keep msdk's laws, and runs grow into runs that go on."""

import json
import subprocess
import sys

import pytest
import torch

import msdk
from msdk import testing
from msdk.decoders.score_sde import DDPMpp
from msdk.errors import PartError, RunError
from msdk.runs import latest, load_checkpoint
from msdk.schedules.vp import VPLinear
from msdk.training import train
from msdk_experts.intervals import Intervals, uncertainty
from msdk_experts.low_rank import LowRank
from msdk_experts.p2 import P2
from msdk_experts.runs import grow, split_stage
from msdk_experts.two_stage import TwoStage

SMALL = DDPMpp(channels=8, groups=4, dropout=0.0)


@pytest.mark.parametrize("law", testing.laws("weighting"))
def test_p2_keeps_the_laws(law):
    """Eq. 8, on the error of the image: snr / (k + snr)^gamma."""
    law(P2(k=1.0, gamma=0.5), closed_form=lambda ratio: ratio**-2 / (1 + ratio**-2) ** 0.5)


@pytest.mark.parametrize("law", testing.laws("weighting"))
def test_intervals_keep_the_laws(law):
    """The simple loss, times the factor of the interval; an edge belongs to the lower one, as with stages."""
    spec = Intervals(edges_ratio=(0.5, 3.0), factors=(2.0, 1.0, 0.25))
    law(spec, closed_form=lambda ratio: (2.0 if ratio <= 0.5 else 1.0 if ratio <= 3 else 0.25) / ratio**2)


def test_without_gamma_p2_is_the_simple_loss():
    """The limit that the paper names."""
    uniform = msdk.weightings.get("uniform")()
    for t in (0.1, 0.5, 0.9):
        assert P2(gamma=0.0).weight(VPLinear(), t) == pytest.approx(uniform.weight(VPLinear(), t))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"edges_ratio": (1.0, 2.0), "factors": (1.0, 2.0)}, "2 edges make 3 intervals, but there are 2 factors"),
        ({"edges_ratio": (2.0, 1.0), "factors": (1.0, 1.0, 1.0)}, "have to ascend"),
    ],
)
def test_intervals_that_do_not_fit_are_refused(settings, words):
    """Edges and factors belong together."""
    with pytest.raises(ValueError, match=words):
        Intervals(**settings)


@pytest.mark.parametrize("law", testing.laws("clustering"))
def test_two_stage_keeps_the_laws(law):
    """Two stages, at a tenth of the time."""
    law(TwoStage())
    assert TwoStage().find(testing.clusterings.some()).edges_t == (0.1,)


@pytest.mark.parametrize("law", testing.laws("decoder"))
def test_low_rank_keeps_the_laws(law):
    """A frozen decoder with changes is a decoder like any other."""
    law(LowRank(base=SMALL, rank=2), shape=(3, 16, 16))


def test_low_rank_begins_as_its_base_and_trains_little():
    """At first the prediction is the base's; only the changes have gradients, a few per cent of the weights."""
    encoder = testing.networks.encoder_for(SMALL, (3, 16, 16))
    info = encoder.info((3, 16, 16))
    torch.manual_seed(0)
    plain = SMALL.build(info, (3, 16, 16)).eval()
    torch.manual_seed(0)
    expert = LowRank(base=SMALL, rank=2).build(info, (3, 16, 16)).eval()
    names = {name.replace(".parametrizations.weight.original", ".weight") for name in expert.state_dict()}
    assert set(plain.state_dict()) <= names
    state = {
        name: plain.state_dict().get(name.replace(".parametrizations.weight.original", ".weight"), value)
        for name, value in expert.state_dict().items()
    }
    expert.load_state_dict(state)
    features = encoder.build((3, 16, 16)).eval()(torch.randn(2, 3, 16, 16), torch.tensor([1.0, 500.0]))
    torch.testing.assert_close(expert(features), plain(features))
    trained = sum(each.numel() for each in expert.parameters() if each.requires_grad)
    assert 0 < trained < 0.4 * sum(each.numel() for each in plain.parameters())


def small(*overrides):
    return msdk.load_recipe(
        "recipes/digits/base.toml",
        [
            "encoder.channels=8",
            "encoder.blocks=1",
            "training.batch_size=8",
            "training.iterations=4",
            "training.checkpoint_every=100",
            "training.log_every=1",
            "sampling.steps=3",
            "sampling.images=2",
            *overrides,
        ],
    )


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged") / "run"
    decoders = 'decoders=[{name="ddpmpp", channels=12}, {name="ddpmpp", channels=8}]'
    train(small(decoders, "stages.edges_ratio=[1.0]"), folder)
    return folder


@pytest.fixture(scope="module")
def unified(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unified") / "run"
    train(small('decoders=[{name="ddpmpp", channels=8}]', 'sharing="unified"'), folder)
    return folder


def estimates(run):
    denoiser = msdk.load_run(run, weights="raw")
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.05, 0.15, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    with torch.no_grad():
        return denoiser(x, times)


@pytest.mark.parametrize(("stage", "edge", "widths"), [(0, 0.3, (12, 12, 8)), (1, 4.0, (12, 8, 8))])
def test_a_split_run_estimates_the_same_and_goes_on(staged, tmp_path, stage, edge, widths):
    """Children begin as their parent: the same estimates at every noise level; then they train apart."""
    out = split_stage(staged, stage, edge, tmp_path / "split")
    torch.testing.assert_close(estimates(out), estimates(staged))
    recipe = msdk.load_recipe(out / "recipe.toml", ["training.iterations=6"])
    assert tuple(decoder.channels for decoder in recipe.decoders) == widths
    assert sum(load_checkpoint(latest(out)).images_by_stage) == 4 * 8
    result = train(recipe, out, resume=True)
    assert result.last.iteration == 6
    after = load_checkpoint(latest(out)).model
    one, other = (after[f"decoders.{stage + k}.{_last(after, stage)}"] for k in (0, 1))
    assert not torch.equal(one, other)


def _last(tensors, stage):
    return next(name.partition(f"decoders.{stage}.")[2] for name in tensors if name.startswith(f"decoders.{stage}."))


def test_a_unified_run_can_be_split(unified, tmp_path):
    """The root of the tree: one network becomes two stages behind a shared encoder."""
    out = split_stage(unified, 0, 1.5, tmp_path / "split")
    torch.testing.assert_close(estimates(out), estimates(unified))
    assert msdk.load_recipe(out / "recipe.toml").sharing == "shared"


def test_experts_begin_as_the_network_they_grow_on(unified, tmp_path):
    """The same estimates at every noise level; training then leaves the decoder's own weights as they were."""
    out = grow(unified, (0.5, 3.0), 2, tmp_path / "grown")
    torch.testing.assert_close(estimates(out), estimates(unified))
    before = load_checkpoint(latest(out)).model
    train(msdk.load_recipe(out / "recipe.toml", ["training.iterations=8"]), out, resume=True)
    after = load_checkpoint(latest(out)).model
    frozen = [name for name in after if name.startswith("decoders.") and name.endswith(".original")]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    changed = [name for name in after if name.endswith(".up") and not torch.equal(before[name], after[name])]
    assert changed


@pytest.mark.parametrize(
    ("stage", "edge", "words"),
    [(2, 0.3, "there is no stage 2: the run has 2"), (0, 1.5, "lies outside of stage 0, which has ratios from 0 to 1")],
)
def test_splits_that_cannot_be_are_told(staged, tmp_path, stage, edge, words):
    """Before anything is written."""
    with pytest.raises(PartError, match=words):
        split_stage(staged, stage, edge, tmp_path / "split")
    assert not (tmp_path / "split").exists()


def test_nothing_is_overwritten(staged, unified, tmp_path):
    """A run that exists stays; one with stages grows no experts."""
    with pytest.raises(RunError, match="exists"):
        split_stage(staged, 0, 0.3, unified)
    with pytest.raises(RunError, match="has 2 stages: experts grow on a run with one decoder"):
        grow(staged, (1.0,), 2, tmp_path / "grown")


def test_uncertainty_weights_are_inverse_losses(staged, tmp_path):
    """1 / loss by stage, with a mean of 1, over the last lines of the metrics."""
    lines = [json.loads(line) for line in (staged / "metrics.jsonl").read_text().splitlines()]
    losses = [
        [line["loss_by_stage"][stage] for line in lines if line["loss_by_stage"][stage] is not None] for stage in (0, 1)
    ]
    inverse = [len(each) / sum(each) for each in losses]
    assert uncertainty(staged) == pytest.approx([each / (sum(inverse) / 2) for each in inverse])
    with pytest.raises(RunError, match="cannot be read"):
        uncertainty(tmp_path)


def test_the_command_line(staged, tmp_path):
    """Split, then what comes next; a mistake is exit code 2 without a traceback."""
    command = [sys.executable, "-c", "from msdk_experts.command import main; main()"]
    arguments = ["split", staged, "--stage", "0", "--edge-ratio", "0.3", "--out", tmp_path / "out"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "go on with: msdk train" in done.stdout
    again = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert again.returncode == 2
    assert "exists" in again.stderr
    assert "Traceback" not in again.stderr
    told = subprocess.run([*command, "uncertainty", str(staged)], capture_output=True, text=True)
    assert told.stdout.startswith("factors = [")
