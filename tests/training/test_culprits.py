"""What is not finite is told with the part of a plugin that made it so, in training and in sampling."""

import attrs
import pytest
import torch

import msdk
from msdk.errors import PluginFaultError, RecipeError, RunError
from msdk.lr_schedules.base import LRSchedule
from msdk.optimizers.adamw import AdamW
from msdk.recipe import checked
from msdk.samplers.ddim import DDIM
from msdk.sampling.diagnosis import culprit
from msdk.sampling.drawing import write_samples
from msdk.sampling.settings import settings_of
from msdk.weightings.base import Weighting
from msdk.wrappers.base import Wrapper
from recipes import tiny


@attrs.frozen
class SickWeighting(Weighting):
    def weight(self, schedule, t):
        return t * float("nan") if isinstance(t, torch.Tensor) else t  # single numbers are judged before training


@attrs.frozen
class SickRate(LRSchedule):
    def factor(self, iteration, iterations):
        return float("nan") if iteration == 3 else 1.0  # others are judged before training; its loss is still finite


@attrs.frozen
class SickOptimizer(AdamW):
    def build(self, parameters, lr):
        made = super().build(parameters, lr)
        made.register_step_post_hook(lambda *_: [each.data.fill_(torch.nan) for each in parameters] and None)
        return made


@attrs.frozen(kw_only=True)
class SickSampler(DDIM):
    def step(self, denoise, schedule, x_t, t, s, memory, noise):
        x, memory = super().step(denoise, schedule, x_t, t, s, memory, noise)
        return x / 0, memory


@attrs.frozen
class SickWrapper(Wrapper):
    def around(self, denoise, schedule):
        return lambda x, t: denoise(x, t) * float("inf")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for kind, part in (
        (msdk.weightings, SickWeighting),
        (msdk.lr_schedules, SickRate),
        (msdk.optimizers, SickOptimizer),
        (msdk.samplers, SickSampler),
        (msdk.wrappers, SickWrapper),
    ):
        monkeypatch.setattr(kind.registry, "_added", {})
        kind.add("sick")(part)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ('weighting.name="sick"', "2: the weighting 'sick' of the module"),
        ('training.lr_schedule={name="sick"}', "6: the lr schedule 'sick' of the module"),
    ],
)
def test_training_names_the_part(tmp_path, override, told):
    """Loss and weights are not finite, and why is known."""
    with pytest.raises(RunError, match=rf"not finite at iteration {told}|is nan at iteration {told}") as caught:
        msdk.train(tiny(override, "training.iterations=8", "training.log_every=2"), tmp_path / "run")
    assert isinstance(caught.value, PluginFaultError)


def test_a_recipe_that_cannot_be_trained_names_whom_to_suspect(monkeypatch):
    """Before training, single times and the first steps show it; settings may be to blame, or the part."""
    monkeypatch.setattr(SickWeighting, "weight", lambda self, schedule, t: t * float("nan"))
    told = (
        r"leads to nan at .*: use less extreme settings\. If that is not it, look at the weighting 'sick' of the module"
    )
    with pytest.raises(RecipeError, match=told):
        tiny('weighting.name="sick"')


def test_training_names_whom_to_suspect(tmp_path):
    """What an optimiser of a plugin made of gradients cannot be told from a rate that is too high."""
    recipe = tiny('training.optimizer={name="sick"}', "training.iterations=2")
    told = r"lower training\.lr .*\. If that is not it, look at the optimizer 'sick' of the module"
    with pytest.raises(RunError, match=told):
        msdk.train(recipe, tmp_path / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("culprits") / "run"
    msdk.train(tiny("training.iterations=1"), place)
    return place


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sampler": SickSampler()}, "the sampler 'sick' of the module"),
        ({"wrap": (SickWrapper(),)}, "the wrapper 'sick' of the module"),
    ],
    ids=["sampler", "wrapper"],
)
def test_sampling_names_the_part(tmp_path, run, change, told):
    """Nothing is drawn; a network, a sampler and a wrapper are told apart."""
    recipe = msdk.runs.run_recipe(run)
    wrap = change.get("wrap", ())
    recipe = attrs.evolve(
        recipe,
        sampler=change.get("sampler", recipe.sampler),
        sampling=attrs.evolve(recipe.sampling, wrap=wrap),
    )
    with pytest.raises(RunError, match=rf"the image of seed 0 is not finite: {told}"):
        write_samples(run, checked(recipe, "x"), seeds=[0], out=tmp_path / "out")


def test_a_sick_network_is_not_its_samplers_fault(run):
    """The decoder of the stage is named."""
    denoiser = msdk.load_run(run)
    settings = settings_of(denoiser.recipe, seeds=[0])
    handle = denoiser.network.decoders[1].register_forward_hook(lambda _, given, made: made / 0 * 0)
    assert culprit(denoiser, settings, 0) is denoiser.recipe.decoders[1]
    handle.remove()
    assert torch.isfinite(msdk.sample(denoiser, seeds=[0])).all()
