"""Promises of steps per stage: nodes at the edges, declared calls, memory across hand-offs, samplers of their own."""

import pytest
import torch

import msdk
from msdk.errors import PartError, RecipeError
from msdk.partition import Partition
from msdk.samplers.base import call_times, run
from msdk.samplers.ddim import DDIM
from msdk.samplers.dpm_multistep import DPMpp2M
from msdk.samplers.heun import Heun
from msdk.samplers.staged import Staged
from msdk.schedules.vp import VPLinear
from msdk.testing.problems import mixture_mean
from recipes import tiny

SCHEDULE = VPLinear()
PARTITION = Partition.of_times((0.442, 0.6308), SCHEDULE)


def staged(*samplers, steps=(9, 3, 8)):
    return Staged(samplers=samplers, steps=steps, partition=PARTITION, schedule=SCHEDULE)


@pytest.mark.parametrize("name", msdk.samplers.names())
def test_each_stage_gets_its_intervals(name):
    """The grid has a node at every edge, and as many intervals in each stage as were asked for."""
    sampler = msdk.samplers.get(name)()
    solver = staged(sampler)
    try:
        solver.check(SCHEDULE, 20)
        times = solver.times(SCHEDULE, 20)
    except PartError as error:
        words = str(error)
    else:
        words = ""
    if words:
        reasons = ("cannot be cut at the edges of stages", "use the schedule", "steps", "it is ddim")
        assert any(reason in words for reason in reasons)
        assert solver.adaptive or "cannot be cut" not in words  # steps found on the way have no node at an edge
        return
    nodes = [t for t in times if t > 0]
    assert all(any(abs(t - edge) < 1e-12 for t in nodes) for edge in (0.442, 0.6308))
    assert times == sorted(set(times), reverse=True)
    assert sum(t > 0.6308 + 1e-9 for t in times) == 8
    assert sum(0.442 + 1e-9 < t <= 0.6308 + 1e-9 for t in times) == 3
    if not solver.adaptive:
        assert [len(interval) for interval in call_times(solver, SCHEDULE, 20)] == solver.calls(20)


def test_memory_goes_across_an_edge():
    """One multistep sampler on a staged grid is that sampler on those times; it does not begin anew."""
    sampler = DPMpp2M(grid="uniform-t")
    solver = staged(sampler)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = solver.times(SCHEDULE, 20)

    def mean(x, t):
        return mixture_mean(x / SCHEDULE.alpha(t), SCHEDULE.ratio(t))

    ours = run(solver, mean, SCHEDULE, times, x, lambda *_: pytest.fail("no noise"))
    assert torch.equal(ours, run(sampler, mean, SCHEDULE, times, x, lambda *_: pytest.fail("no noise")))


def test_every_stage_may_have_a_sampler():
    """Calls per interval are those of each stage's own sampler."""
    solver = staged(Heun(), DDIM(), DPMpp2M())
    assert solver.calls(20) == [1] * 8 + [1] * 3 + [2] * 8 + [1]
    assert [len(interval) for interval in call_times(solver, SCHEDULE, 20)] == solver.calls(20)


def test_recipes_deal_out_steps():
    """`steps_per_stage` and `samplers` reach the budget, the trace and the images; numbers that do not fit are told."""
    recipe = tiny("sampling.steps_per_stage=[2, 1, 3]")
    assert recipe.steps == 6
    assert [stage.calls for stage in msdk.budget(recipe).stages] == [2 + 1, 1, 3]  # one more lands on the clean image
    recipe = tiny("sampling.steps_per_stage=[2, 1, 3]", 'samplers=[{name="heun"}, {name="ddim"}, {name="ddim"}]')
    # A Heun step into the data is Euler's; the second call of a Heun step may lie in the next stage.
    assert msdk.budget(recipe).nfe == 3 + 1 + 3
    images = msdk.sample(msdk.build(recipe).eval(), recipe.solver, recipe.steps, [0, 1])
    assert images.isfinite().all()
    with pytest.raises(RecipeError, match="has 2 entries for 3 stages"):
        tiny("sampling.steps_per_stage=[2, 1]")
    with pytest.raises(RecipeError, match="has 1 entries for 3 stages"):
        tiny("sampling.steps_per_stage=[2, 1, 3]", 'samplers=[{name="heun"}]')
    with pytest.raises(RecipeError, match=r"needs sampling\.steps_per_stage"):
        tiny('samplers=[{name="heun"}, {name="heun"}, {name="heun"}]')
