"""Promises of msdk.sample: an image depends on its seed alone, and files are written whole."""

import pytest
import torch

import msdk
from msdk.errors import PartError
from msdk.samplers.guidance import Guidance
from msdk.samplers.tracing import explain
from recipes import tiny


@pytest.fixture(scope="module")
def denoiser():
    built = msdk.build(tiny()).eval()
    for parameter in built.parameters():  # last layers start at zero, which would hide a wrong route
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    return built


@pytest.mark.parametrize("sampler", [msdk.samplers.get("dpmpp-2m")(), msdk.samplers.get("ddim")(eta=1.0)])
def test_an_image_depends_on_its_seed_alone(denoiser, sampler):
    """The same seed gives the same image in any batch, order and company; another seed another image."""
    together = msdk.sample(denoiser, sampler, 4, [5, 6, 7, 8])
    torch.testing.assert_close(
        msdk.sample(denoiser, sampler, 4, [8, 6], batch_size=1), together[[3, 1]], rtol=0, atol=1e-4
    )
    assert (together[0] - together[1]).abs().max() > 0.1


def test_calls_go_to_their_stages(denoiser):
    """Each call of the sampler runs the decoder of its noise level, as `explain` says beforehand."""
    sampler, seen = msdk.samplers.get("heun")(), []
    hooks = [d.register_forward_hook(lambda *_, k=k: seen.append(k)) for k, d in enumerate(denoiser.network.decoders)]
    msdk.sample(denoiser, sampler, 6, [0])
    for hook in hooks:
        hook.remove()
    calls = explain(denoiser.partition, denoiser.schedule, sampler, 6)
    assert seen == [call.stage for call in calls]
    assert len(calls) == 11
    assert set(seen) == {0, 1, 2}


def test_progress_reaches_the_end(denoiser):
    """Progress counts intervals over all batches, up to the total."""
    told = []
    msdk.sample(
        denoiser, msdk.samplers.get("ddim")(), 3, range(5), batch_size=2, progress=lambda *now: told.append(now)
    )
    assert told == [(done, 9) for done in range(1, 10)]


@pytest.fixture(scope="module")
def conditional():
    built = msdk.build(tiny("encoder.classes=10")).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return built


DDIM = msdk.samplers.get("ddim")()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_guided_image_depends_on_seed_and_class_alone(conditional, guidance):
    """Batches do not matter; without a label the class is the seed's rest, as if it had been given."""
    seeds = [3, 14, 25, 7]
    together = msdk.sample(conditional, DDIM, 3, seeds, guidance=guidance)
    given = msdk.sample(conditional, DDIM, 3, seeds, guidance=guidance, label=[3, 4, 5, 7], batch_size=3)
    torch.testing.assert_close(given, together, rtol=0, atol=1e-4)
    one = msdk.sample(conditional, DDIM, 3, [14], guidance=guidance, label=4)
    torch.testing.assert_close(one, together[1:2], rtol=0, atol=1e-4)
    other = msdk.sample(conditional, DDIM, 3, [14], guidance=guidance, label=torch.tensor([5]))
    assert (other - one).abs().max() > 1e-3


def test_guidance_extrapolates_from_no_class(conditional):
    """One step of weight w lands w times as far from the unguided image without a class as the plain class does."""
    step = msdk.samplers.get("heun")()  # its only step lands on the estimate itself
    none, plain, guided, no_weight = (
        msdk.sample(conditional, step, 1, [0, 1], label=label, guidance=weight)
        for label, weight in ((-1, 1.0), (2, 1.0), (2, 4.0), (2, 0.0))
    )
    torch.testing.assert_close(guided, none + 4 * (plain - none), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(no_weight, none, rtol=0, atol=1e-4)
    assert (plain - none).abs().max() > 1e-3


def test_evaluations_are_those_explained(conditional):
    """`explain` says beforehand which calls run twice the batch, and in which stage; the networks do just that."""
    sampler, interval, seen = msdk.samplers.get("heun")(), (0.1, 5.0), []
    hooks = [
        module.register_forward_hook(lambda _, __, out, k=k: seen.append((k, len(out))))
        for k, module in enumerate(conditional.network.decoders)
    ]
    msdk.sample(conditional, sampler, 6, [0, 1], guidance=2.0, guidance_interval=interval)
    for hook in hooks:
        hook.remove()
    guidance = Guidance(weight=2.0, interval=interval)
    calls = explain(conditional.partition, conditional.schedule, sampler, 6, guidance)
    assert seen == [(call.stage, 2 * call.evaluations) for call in calls]
    assert {call.evaluations for call in calls} == {1, 2}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (10, r"no class 10: use 0 \.\. 9, or -1"),
        (-2, "no class -2"),
        ([1, 2, 3], r"one for each of 2 images, got \(3,\)"),
        (torch.tensor([0.0, 1.0]), "whole numbers, got torch.float32"),
    ],
)
def test_labels_that_do_not_fit_are_told(conditional, label, words):
    """Classes that there are not, and another number of them than images."""
    with pytest.raises(PartError, match=words):
        msdk.sample(conditional, DDIM, 1, [0, 1], label=label)


def test_labels_need_a_conditional_denoiser(denoiser):
    """A denoiser without classes refuses labels and guidance alike."""
    with pytest.raises(PartError, match="takes no class labels"):
        msdk.sample(denoiser, DDIM, 1, [0], label=1)
    with pytest.raises(PartError, match="guidance needs a class-conditional denoiser"):
        msdk.sample(denoiser, DDIM, 1, [0], guidance=2.0)
