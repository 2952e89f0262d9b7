"""The neighbours of multi-stage models keep msdk's laws, and runs grow into runs that go on."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

import msdk
from msdk import testing
from msdk.decoders.score_sde import DDPMpp
from msdk.errors import PartError, RunError
from msdk.recipe import structure
from msdk.recipe.structuring import to_data
from msdk.runs import latest, load_checkpoint, write_recipe
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


def change(one, other, prefix):
    """Root mean square change of the weights with a prefix between two checkpoints."""
    changes = [(other.model[name] - one.model[name]).flatten() for name in one.model if name.startswith(prefix)]
    return torch.cat(changes).square().mean().sqrt()


@pytest.mark.parametrize("opt", ["adamw", "nadamw", "radam", "adan", "lamb", "adopt", "adafactor"])
def test_the_first_update_after_a_split_is_as_large_as_without_it(tmp_path, opt):
    """What the optimiser counts goes along, in tensors, in numbers and in groups, so no correction starts anew."""
    pytest.importorskip("msdk_timm")
    decoders = 'decoders=[{name="ddpmpp", channels=8}]'
    recipe = small(decoders, f'training.optimizer={{name="timm", opt="{opt}"}}', 'sharing="unified"')
    whole = train(recipe, tmp_path / "whole").run_dir
    split = split_stage(whole, 0, 1.0, tmp_path / "split")
    before = load_checkpoint(latest(whole))
    begun = load_checkpoint(latest(split))
    assert begun.optimizer_numbers["groups"] == before.optimizer_numbers["groups"]
    assert len(begun.optimizer_numbers["state"]) >= len(before.optimizer_numbers["state"])
    for run in (whole, split):
        train(msdk.load_recipe(run / "recipe.toml", ["training.iterations=5"]), run, resume=True)
    after, split_after = load_checkpoint(latest(whole)), load_checkpoint(latest(split))
    # Images and noise are the same; noise levels are drawn by stage, so gradients and updates differ a little.
    ratio = change(before, split_after, "encoders.0.") / change(before, after, "encoders.0.")
    assert 0.7 < ratio < 1.4


def test_a_split_loses_nothing(staged, tmp_path):
    """Each tensor of the parent stands in the child, those of the split stage twice, and nothing else does."""
    old, new = load_checkpoint(latest(staged)), load_checkpoint(latest(split_stage(staged, 0, 0.3, tmp_path / "split")))
    assert (new.iteration, new.seconds) == (old.iteration, old.seconds)
    for name in ("model", "ema", "optimizer"):
        before, after = getattr(old, name), getattr(new, name)
        assert len(after) == len(before) + sum("decoders.0." in key for key in before)
        for key, value in before.items():
            behind = key.replace("decoders.1.", "decoders.2.")
            children = {behind, behind.replace("decoders.0.", "decoders.1.")}
            assert all(torch.equal(after[child], value) for child in children)
    parent = json.loads((staged / "lock.json").read_text())
    child = json.loads((tmp_path / "split" / "lock.json").read_text())
    assert child["data"] == parent["data"]
    assert (child["forked_from"][0]["run"], child["forked_from"][0]["checkpoint"]) == (str(staged), "00000004")


def test_averages_go_on_after_a_split(staged, tmp_path):
    """The next update of the averages is the fifth one's, not a first one's, which would forget them."""
    out = split_stage(staged, 0, 0.3, tmp_path / "split")
    begun = load_checkpoint(latest(out)).ema
    train(msdk.load_recipe(out / "recipe.toml", ["training.iterations=5"]), out, resume=True)
    after, decay = load_checkpoint(latest(out)), (1 + 5) / (10 + 5)
    for name in (each for each in begun if each.startswith("encoders.")):
        torch.testing.assert_close(after.ema[name], decay * begun[name] + (1 - decay) * after.model[name])


def test_a_split_stage_deals_its_steps_to_its_halves(staged, tmp_path):
    """Steps and samplers of each stage stay one for each, so the new recipe is good; their number stays."""
    run = shutil.copytree(staged, tmp_path / "run")
    recipe = msdk.load_recipe(run / "recipe.toml")
    plain = {**to_data(recipe), "sampling": {"steps_per_stage": [5, 3], "images": 2}}
    recipe = structure({**plain, "samplers": [{"name": "ddim"}, {"name": "dpmpp-2m"}]}, "here")
    write_recipe(run, recipe)
    new = msdk.load_recipe(split_stage(run, 0, 0.3, tmp_path / "split") / "recipe.toml")
    assert new.sampling.steps_per_stage == (3, 2, 3)
    assert new.samplers == (recipe.samplers[0], *recipe.samplers)


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


def test_experts_go_on_with_what_the_encoder_has_learnt(unified, tmp_path):
    """The optimiser's state of the encoder and its counts stay; of a decoder that is frozen now nothing is kept."""
    old, new = load_checkpoint(latest(unified)), load_checkpoint(latest(grow(unified, (0.5, 3.0), 2, tmp_path / "out")))
    kept = {name: value for name, value in old.optimizer.items() if "/encoders." in name}
    assert kept
    assert new.optimizer.keys() == kept.keys()
    assert all(torch.equal(new.optimizer[name], value) for name, value in kept.items())
    assert new.optimizer_numbers == old.optimizer_numbers
    assert sum(name.endswith(".original") for name in new.ema) == sum(name.endswith(".up") for name in new.ema) > 0
    for name in (each for each in old.ema if each.startswith("decoders.0.") and each.endswith(".bias")):
        places = [name.replace("decoders.0.", f"decoders.{stage}.") for stage in range(3)]
        assert all(torch.equal(new.ema[place], old.ema[name]) for place in places)


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
