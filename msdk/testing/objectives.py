"""Laws of objectives. Option: `denoiser`, a function that makes one to minimise for, the same each time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

from msdk.batch import Batch
from msdk.denoiser import Denoiser
from msdk.denoiser.building import join
from msdk.objectives.base import Draw, Objective
from msdk.registry import registry_of
from msdk.schedules.vp_discrete import VPDiscrete
from msdk.testing import networks
from msdk.testing.laws import COMMON, LawError, require

if TYPE_CHECKING:
    from msdk.objectives.base import Loss

SHAPE = (3, 16, 16)
Make = Callable[[], Denoiser]


def _small(objective: Objective) -> Denoiser:
    """Three stages of the schedule whose noise the objective draws, of steps where it draws that of any.

    Decoders predict a variance where the objective learns one.
    """
    schedules = registry_of("schedule")
    known = (schedules.get(name) for name in schedules.names() if schedules.origin(name).owner == "msdk")
    own = next((each for each in known if each.objective and _is(objective, each.objective)), VPDiscrete)
    decoder = attrs.evolve(networks.small("decoders", "ddpmpp"), variance=objective.learns_variance)
    parts = networks.parts(networks.small("encoders", "ddpmpp"), decoder, SHAPE)
    parts = attrs.evolve(parts, schedule=own())
    built: Any = networks.built(lambda: join(parts, networks.PARTITION))
    return built


def _is(objective: Objective, name: str) -> bool:
    """Whether it is msdk's of that name."""
    return type(objective) is registry_of("objective").get(f"msdk:{name}")


def _inputs(denoiser: Denoiser, wanted: int, count: int = 5) -> tuple[Batch, Draw]:
    """Clean images on a grid of 256 values, at times of all stages."""
    images = (networks.images(denoiser.shape, count).clamp(-1, 1) * 127.5).round() / 127.5
    edges = denoiser.partition.times(denoiser.schedule)
    stages = torch.arange(count) % len(edges)
    times = torch.tensor([sum(edges[stage]) / 2 for stage in stages.tolist()], dtype=torch.float64)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    extra = torch.randn(
        (count, wanted, *images.shape[1:]), generator=torch.Generator().manual_seed(4), dtype=noise.dtype
    )
    return Batch(images), Draw(stages, times, 1 + times, noise, extra if wanted else None, iteration=3)


def _built(objective: Objective, denoiser: Denoiser) -> Any:
    loss: Any = objective.build(denoiser)
    require(isinstance(loss, nn.Module), f"build gives a {type(loss).__name__}, which is no nn.Module")
    return loss.double()


def _losses(objective: Objective, loss: "Loss", denoiser: Denoiser) -> Tensor:
    batch, draw = _inputs(denoiser, objective.extra)
    return loss.loss(batch, draw, denoiser)


def losses_are_per_image(objective: Objective, *, denoiser: Make | None = None) -> None:
    """One finite number for each image, with a gradient for the network."""
    network = denoiser() if denoiser else _small(objective)
    values = _losses(objective, _built(objective, network), network)
    require(values.shape == (5,), f"the losses of 5 images have the shape {tuple(values.shape)}, not (5,)")
    require(bool(values.isfinite().all()), f"the losses are {values.tolist()}, not finite")
    values.mean().backward()
    found = [each.grad for each in network.network.parameters() if each.grad is not None]
    require(any(bool(grad.any()) for grad in found), "no gradient reaches the network")
    require(all(bool(grad.isfinite().all()) for grad in found), "gradients of the network are not finite")


def images_do_not_affect_each_other(objective: Objective, *, denoiser: Make | None = None) -> None:
    """In micro-batches of any size, or on any process, an image has the same loss."""
    network = denoiser() if denoiser else _small(objective)
    loss = _built(objective, network)
    batch, draw = _inputs(network, objective.extra)
    whole = loss.loss(batch, draw, network)
    alone = [loss.loss(*part, network) for part in zip(batch.split(1), draw.split(1), strict=True)]
    require(
        torch.allclose(whole, torch.cat(alone), rtol=1e-6, atol=1e-9),
        f"in a batch the losses are {whole.tolist()}, and alone {torch.cat(alone).tolist()}",
    )


def a_draw_decides(objective: Objective, *, denoiser: Make | None = None) -> None:
    """The same batch and draw have the same loss, whatever was computed before: a run resumes."""
    network = denoiser() if denoiser else _small(objective)
    loss = _built(objective, network)
    first, second = (_losses(objective, loss, network) for _ in range(2))
    fresh = _losses(objective, _built(objective, network), network)
    require(torch.equal(first, second), "a second time the losses are others: is something drawn or counted inside?")
    require(torch.equal(first, fresh), "built again it starts elsewhere: what is random at the start needs a seed")


def calls_are_those_made(objective: Objective, *, denoiser: Make | None = None) -> None:
    """`calls` is what budgets multiply by: passes of an image through an encoder."""
    network = denoiser() if denoiser else _small(objective)
    seen: list[int] = []
    for encoder in network.network.encoders:
        encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    loss = _built(objective, network)
    _losses(objective, loss, network)
    require(sum(seen) == 5 * objective.calls, f"`calls` is {objective.calls}, but an image made {sum(seen) / 5:g}")


def named_experts_are_asked(objective: Objective, *, denoiser: Make | None = None) -> None:
    """What says that it asks the networks that a draw names (`asks`) does so, whatever the images' times."""
    if not objective.asks:
        return
    network = denoiser() if denoiser else _small(objective)
    seen = [0] * len(network.network.decoders)

    def count(stage: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, given: Any, found: Tensor) -> None:
            seen[stage] += len(found)

        return hook

    for stage, decoder in enumerate(network.network.decoders):
        decoder.register_forward_hook(count(stage))
    batch, draw = _inputs(network, objective.extra)
    last = len(seen) - 1
    draw = attrs.evolve(draw, stages=torch.full_like(draw.stages, last), named=True)
    _built(objective, network).loss(batch, draw, network)
    wanted = [0] * last + [5 * objective.calls]
    require(seen == wanted, f"of images that a draw gives to stage {last} the stages see {seen}, not {wanted}")


def what_it_owns_is_its_state(objective: Objective, *, denoiser: Make | None = None) -> None:
    """Its parameters get gradients, and all that training changed is put into a fresh one by its state dict."""
    network = denoiser() if denoiser else _small(objective)
    loss, fresh = _built(objective, network), _built(objective, network)
    shared = {id(each) for each in network.parameters()} & {id(each) for each in loss.parameters()}
    require(not shared, "it owns weights of the denoiser, which would be trained twice: keep no reference to it")
    own = list(loss.parameters())
    if own:
        rule = torch.optim.SGD(own, lr=0.1)
        for _ in range(2):
            rule.zero_grad(set_to_none=True)
            _losses(objective, loss, network).mean().backward()
            rule.step()
    idle = [name for name, each in loss.named_parameters() if each.requires_grad and each.grad is None]
    require(not idle, f"no gradient reaches its {', '.join(idle)}")
    fresh.load_state_dict(loss.state_dict())
    try:
        torch.testing.assert_close(_losses(objective, fresh, network), _losses(objective, loss, network))
    except AssertionError as error:
        raise LawError(f"with the state of a trained one, a fresh one has other losses: {error}") from error


LAWS = (
    *COMMON,
    losses_are_per_image,
    images_do_not_affect_each_other,
    a_draw_decides,
    calls_are_those_made,
    named_experts_are_asked,
    what_it_owns_is_its_state,
)
