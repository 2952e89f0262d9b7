"""Promises of averages by stage: what is idle does not move them, and what moves them is counted for each stage."""

import pytest
import torch
from parity import STILL
from processes import processes

import msdk
from msdk.averages.half_life import HalfLife
from msdk.averages.power import Power
from msdk.averages.ramped import Ramped
from msdk.errors import RunError
from msdk.runs import checkpoints, load_checkpoint
from msdk.surgery import average
from recipes import tiny

AVERAGES = (HalfLife(images=12, ramp=0.0), HalfLife(images=40, ramp=0.5), Power(length=0.2), Ramped(value=0.8))
NAMED = (
    '[{name="half-life", images=12, ramp=0.0}, {name="half-life", images=40, ramp=0.5}, {name="power", length=0.2}, '
    '{name="ramped", value=0.8}]'
)


def recipe(*more):
    """Two groups of four images, so that stages have none, four or eight of a step."""
    return tiny(
        *("training.iterations=5", "training.lr=0.02", "training.warmup=0", "training.stage_groups=2"),
        *("training.checkpoint_every=1", "training.keep=9", "training.log_every=1", f"training.averages={NAMED}"),
        *("training.average_by=stage", STILL, *more),
    )


@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_each_stage_is_averaged_over_its_own_steps(tmp_path, sharing):
    """In closed form, of the weights after each step: a decoder by its steps and images, what all use by all steps."""
    made = recipe(f"sharing={sharing}")
    msdk.train(made, tmp_path / "run")
    saved = [load_checkpoint(path) for path in checkpoints(tmp_path / "run")]
    initial = msdk.build(made).network.state_dict()
    seen = [(0, 0, 0), *(each.images_by_stage for each in saved)]
    idle = 0
    for name, value in initial.items():
        kind, number, _ = name.split(".", 2)
        stage = int(number) if kind == "decoders" or sharing == "separate" else None
        for place, law in enumerate(AVERAGES):
            wanted, steps = value.clone(), 0
            for before, after, each in zip(seen, seen[1:], saved, strict=False):
                images = 8 if stage is None else after[stage] - before[stage]
                idle += not images
                if images:
                    steps += 1
                    wanted = torch.lerp(each.model[name], wanted, law.decay(steps, images))
            found = saved[-1].averages[f"{place}/{name}"] if place else saved[-1].ema[name]
            torch.testing.assert_close(found, wanted)
    assert idle
    assert sum(saved[-1].turns) < 3 * 5


def test_a_half_life_is_of_the_images_of_a_stage(tmp_path):
    """After as many of them a weight counts half, however long the stage was idle meanwhile."""
    law, kept = AVERAGES[0], 1.0
    for images in (4, 8):
        kept *= law.decay(1, images)
    assert kept == pytest.approx(0.5)


def test_they_resume_and_are_shared_out(tmp_path):
    """Training on is training at once, to the last bit; on two processes it is the same but for the order of sums."""
    msdk.train(recipe(), tmp_path / "whole")
    msdk.train(recipe("training.iterations=3"), tmp_path / "halves")
    msdk.train(recipe(), tmp_path / "halves", resume=True)
    processes(2, lambda: msdk.train(recipe(), tmp_path / "two", device="cpu").last.iteration, tmp_path)  # no dropout
    whole, halves, two = (load_checkpoint(checkpoints(tmp_path / name)[-1]) for name in ("whole", "halves", "two"))
    assert whole.turns == halves.turns == two.turns
    for name, value in whole.ema.items():
        assert torch.equal(value, halves.ema[name])
        torch.testing.assert_close(value, two.ema[name], rtol=1e-3, atol=1e-4)


def test_other_lengths_are_not_made_of_them(tmp_path):
    """Their profiles are of other times, so it is refused."""
    msdk.train(recipe("training.snapshot_every=1", "training.iterations=2"), tmp_path / "run")
    with pytest.raises(RunError, match="averages by the steps of each stage"):
        average(tmp_path / "run", 0.1, tmp_path / "out")
