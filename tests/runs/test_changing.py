"""Promises of a run that goes on with another batch or other edges: no image is skipped, and all accounts add up."""

import json
import shutil

import attrs
import pytest
import torch

import msdk
from msdk.budgeting import with_ledger
from msdk.errors import RunError
from msdk.partition import Partition
from msdk.recipe.structuring import to_data
from msdk.runs import latest, load_checkpoint, run_recipe
from msdk.training import drawing
from recipes import tiny

SHORT = ("training.iterations=3", "training.warmup=0", "training.log_every=1", "training.ema_decay=0.5")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Three steps of eight images."""
    run = tmp_path_factory.mktemp("runs") / "begun"
    msdk.train(tiny(*SHORT), run)
    return run


def changed(run, edges=None, **options):
    """The recipe of a run with other settings of training, and perhaps other edges."""
    recipe = run_recipe(run)
    recipe = attrs.evolve(recipe, training=attrs.evolve(recipe.training, **options))
    return recipe if edges is None else recipe.with_partition(Partition(edges))


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_another_batch_goes_on_in_the_data(tmp_path, begun, monkeypatch):
    """The next image is the one behind the last; steps that were done are not counted anew."""
    run = shutil.copytree(begun, tmp_path / "run")
    read = []

    def noted(first, batch, images, seed, found=drawing.batch_indices):
        read.append((first, batch))
        return found(first, batch, images, seed)

    monkeypatch.setattr(drawing, "batch_indices", noted)
    msdk.train(changed(run, iterations=5, batch_size=4), run, resume=True)
    msdk.train(changed(run, iterations=7, batch_size=12, stage_groups=3, log_every=2), run, resume=True)
    assert read == [(24, 4), (28, 4), (32, 12), (44, 12)]
    assert sum(load_checkpoint(latest(run)).images_by_stage) == 56
    entries = json.loads((run / "lock.json").read_text())["resumed"]
    assert [entry["iteration"] for entry in entries] == [3, 5]
    assert entries[0]["recipe"] == {"training.iterations": [3, 5], "training.batch_size": [8, 4]}
    assert entries[1]["recipe"]["training.batch_size"] == [4, 12]
    for line in lines(run):
        assert sum(line["expected_images_by_stage"]) == pytest.approx(line["images"])


def test_other_edges_draw_other_stages(tmp_path, begun):
    """From there on; what was expected until then stays, and the ledger predicts both together."""
    run = shutil.copytree(begun, tmp_path / "run")
    before = lines(run)[-1]["expected_images_by_stage"]
    recipe = changed(run, (0.01, 0.02), iterations=43)
    msdk.train(recipe, run, resume=True)
    shares = recipe.training_shares()
    assert shares[2] > 0.98
    after = lines(run)[-1]
    wanted = [old + 320 * share for old, share in zip(before, shares, strict=True)]
    assert after["expected_images_by_stage"] == pytest.approx(wanted)
    assert sum(after["images_by_stage"][:2]) < 45
    saved = json.loads((run / "ledger.json").read_text())
    assert saved["predicted"]["images"] == saved["images"] == 344
    assert saved["predicted"]["images_by_stage"] == pytest.approx(wanted)
    again = with_ledger(msdk.budget(recipe), run_recipe(run), run).ledger
    assert again.as_json() == saved
    assert json.loads((run / "lock.json").read_text())["resumed"][0]["recipe"] == {
        "stages.edges_ratio.0": [0.3, 0.01],
        "stages.edges_ratio.1": [2.5, 0.02],
        "training.iterations": [3, 43],
    }
    assert to_data(run_recipe(run).stages)["edges_ratio"] == [0.01, 0.02]


@pytest.mark.parametrize("dies", [False, True])
def test_a_changed_run_resumes_as_others_do(tmp_path, begun, monkeypatch, dies):
    """Stopped behind the change, or killed in the middle of noting it: the same weights to the last bit."""
    one, other = (shutil.copytree(begun, tmp_path / name) for name in ("one", "other"))
    whole = changed(one, (0.5, 2.0), iterations=7, batch_size=4)
    msdk.train(whole, one, resume=True)
    if dies:

        def killed(trainer):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("msdk.training.loop.Trainer.advance", killed)
            with pytest.raises(KeyboardInterrupt):
                msdk.train(whole, other, resume=True)
    else:
        halves = changed(other, (0.5, 2.0), iterations=5, batch_size=4)
        msdk.train(halves, other, resume=True)
    msdk.train(whole, other, resume=True)
    a, b = (load_checkpoint(latest(run)) for run in (one, other))
    assert all(torch.equal(value, b.model[name]) for name, value in a.model.items())
    assert (a.before, a.images_by_stage) == (b.before, b.images_by_stage)
    assert a.before[0] == 3
    for first, second in zip(lines(one), lines(other), strict=True):
        assert first["expected_images_by_stage"] == second["expected_images_by_stage"]


def test_what_cannot_change_is_told(tmp_path, begun):
    """Another number of stages, with what to do instead; and what trains something else, by name."""
    recipe = changed(begun)
    two = attrs.evolve(recipe, decoders=recipe.decoders[:2]).with_partition(Partition((0.3,)))
    with pytest.raises(RunError, match=r"another number of stages \(3 stages there, 2 here\): .* init = "):
        msdk.train(two, begun, resume=True)
    with pytest.raises(RunError, match=r"with other training\.seed \(0? ?.*there"):
        msdk.train(changed(begun, seed=9, batch_size=4), begun, resume=True)


def test_checkpoints_of_unchanged_runs_are_as_before(begun):
    """Nothing is written that is not needed."""
    assert "changed_at" not in (latest(begun) / "state.json").read_text()
