"""Laws of anything that builds a network: encoders, decoders and autoencoders call these with their own inputs."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from msdk.batch import Batch
from msdk.budgeting import budget
from msdk.budgeting.declared import declared, of_the_second_counter
from msdk.datasets.base import Dataset, Source
from msdk.decoders.base import Decoder
from msdk.denoiser.building import Parts, build, join
from msdk.denoiser.weights import fill
from msdk.encoders.base import Encoder, FeatureInfo, Features, Shape
from msdk.errors import DataError, MsdkError, PartError
from msdk.objectives.base import Draw
from msdk.parameterizations.eps import Eps
from msdk.partition import Partition
from msdk.recipe import Recipe, Stages, Training
from msdk.registry import registries
from msdk.runs import load_checkpoint, save_checkpoint
from msdk.schedules.vp import VPLinear
from msdk.testing.laws import LawError, require
from msdk.training.state import check, checkpoint_of, refuse_unsavable, restore
from msdk.training.step import TrainingStep, in_training

SHAPE: Shape = (3, 32, 32)
"""Of images, where a law is not told another."""

SCHEDULE = VPLinear()
PARTITION = Partition.of_times((0.4, 0.6), SCHEDULE)
TIMES = torch.tensor([0.9, 0.1, 0.5, 0.4, 0.2], dtype=torch.float64)

SMALL: dict[str, Any] = {
    "channels": 16,
    "channel_mult": (1, 2),
    "blocks": 1,
    "attention": (2,),
    "groups": 4,
    "width": 32,
    "heads": 2,
    "depth": 2,
    "patch": 4,
    "subsets": 5,
    "subset_size": 20,
}
"""Settings of msdk's own parts that stand beside the one under test."""


def images(shape: Shape, count: int = 2) -> Tensor:
    """Noise, float64 [count, *shape]; the same each time."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sizes(fits: Callable[[Shape], object], shape: Shape) -> list[Shape]:
    """The shape, and a larger and a wider one where the part takes them."""
    channels, height, width = shape
    found: list[Shape] = [shape]
    for other in ((channels, 2 * height, 2 * width), (channels, height, 2 * width)):
        try:
            fits(other)
        except PartError:
            continue  # it said so in words, which it may
        found.append(other)
    return found


def built(build: Callable[[], nn.Module]) -> nn.Module:
    """A network in float64 and in eval mode whose weights all matter: what starts at zero does not stay there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build().double().eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def check_meta(build: Callable[[], nn.Module]) -> None:
    """On the meta device the network has the same weights, by name and shape, and makes no real tensor."""
    real = build().state_dict()
    with torch.device("meta"):
        meta = build().state_dict()
    require(
        {name: value.shape for name, value in real.items()} == {name: value.shape for name, value in meta.items()},
        lambda: f"built on the meta device it has other weights: {_differing(real, meta)}",
    )
    elsewhere = [name for name, value in meta.items() if value.device.type != "meta"]
    require(not elsewhere, f"built on the meta device, {', '.join(elsewhere)} lie elsewhere: leave out `device=`")


def _differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> str:
    names = {name for name in {**one, **other} if name not in one or name not in other}
    names |= {name for name in set(one) & set(other) if one[name].shape != other[name].shape}
    return ", ".join(sorted(names)[:5])


def check_round_trip(build: Callable[[], nn.Module], run: Callable[[nn.Module], Sequence[Tensor]]) -> None:
    """Weights of one network put into a fresh one make it the same network."""
    first, second = built(build), build().double().eval()
    second.load_state_dict(first.state_dict(), strict=True)
    for one, other in zip(run(first), run(second), strict=True):
        require(
            torch.allclose(one, other, rtol=1e-9, atol=1e-11),
            "with the weights of another network it computes something else: something that matters is no parameter "
            "and no buffer, or a buffer is not persistent",
        )


def check_deterministic(build: Callable[[], nn.Module], run: Callable[[nn.Module], Sequence[Tensor]]) -> None:
    """In eval mode the same input gives the same output."""
    network = built(build)
    for one, other in zip(run(network), run(network), strict=True):
        require(torch.equal(one, other), "in eval mode two runs on one input differ: is there dropout or fresh noise?")


def check_gradients(network: nn.Module, outputs: Sequence[Tensor]) -> None:
    """Every parameter has a gradient that is not zero."""
    generator = torch.Generator().manual_seed(2)
    total = torch.stack(
        [(each * torch.randn(each.shape, generator=generator).to(each)).sum() for each in outputs]
    ).sum()
    parameters = {name: each for name, each in network.named_parameters() if each.requires_grad}
    require(parameters, "the network has no parameters that train")
    require(total.requires_grad, "the output does not depend on any parameter")
    found: Any = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    gradients: dict[str, Tensor | None] = dict(zip(parameters, found, strict=True))
    idle = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    require(not idle, f"no gradient reaches {', '.join(idle[:5])}{' and others' if len(idle) > 5 else ''}")
    wrong = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    require(not wrong, f"gradients of {', '.join(wrong[:5])} are not finite")


def tensors(features: Features) -> list[Tensor]:
    """All that an encoder hands on."""
    scale = () if features.output_scale is None else (features.output_scale,)
    return [*features.skips, features.bottom, features.embedding, *scale]


# --- the other half of a denoiser -------------------------------------------------------------------------------------


def small(kind: str, name: str) -> Any:
    """A registered part in a small size; what a decoder can take over from the encoder is not its own."""
    spec: Any = registries()[kind].get(name)
    known = {field.name for field in attrs.fields(spec)}
    values = {key: value for key, value in SMALL.items() if key in known}
    inherited = ("attention", "channel_mult") if kind == "decoders" else ()
    return spec(**(values | {key: None for key in inherited if key in known}))


def partners(kind: str) -> list[Any]:
    """Msdk's own parts of a kind, in small sizes."""
    return [small(kind, name) for name in registries()[kind].own_names()]


def decoder_for(info: FeatureInfo) -> Decoder:
    """One of msdk's decoders that takes these features.

    Raises:
        LawError: None does.
    """
    reasons: list[str] = []
    for decoder in partners("decoders"):
        try:
            decoder.check(info)
        except PartError as error:
            reasons.append(f"{type(decoder).__name__}: {error}")
        else:
            return decoder
    raise LawError("no decoder of msdk takes these features, so pass decoder=: " + "; ".join(reasons))


def encoder_for(decoder: Decoder, shape: Shape) -> Encoder:
    """One of msdk's encoders whose features a decoder takes.

    Raises:
        LawError: None is.
    """
    reasons: list[str] = []
    for encoder in partners("encoders"):
        try:
            decoder.check(encoder.info(shape))
        except PartError as error:
            reasons.append(f"{type(encoder).__name__}: {error}")
        else:
            return encoder
    raise LawError("no encoder of msdk suits this decoder, so pass encoder=: " + "; ".join(reasons))


def check_training(encoder: Encoder, decoder: Decoder, shape: Shape) -> None:
    """Really trained, saved, loaded and trained on, it is what it would have been in one go; so are its averages."""
    recipe = _trained(encoder, decoder, shape)
    try:
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
            _train_twice(recipe, Path(folder))
    except MsdkError as error:
        raise LawError(f"it cannot be trained, saved and loaded: {error}") from error


def _train_twice(recipe: Recipe, folder: Path) -> None:
    first = TrainingStep(recipe, in_training(build(recipe)))
    refuse_unsavable(first)
    averages = {name: value.detach().clone() for name, value in _weights(first)}
    for iteration in range(2):
        _advance(first, iteration)
        for name, value in _weights(first):  # the average by its definition, e <- d e + (1 - d) w
            decay = (2 + iteration) / (11 + iteration)
            averages[name] = decay * averages[name] + (1 - decay) * value.detach()
    kept = checkpoint_of(first, iteration=2, images_by_stage=(2, 2), seconds=1.0)
    wrong = [name for name, value in averages.items() if not torch.allclose(kept.ema[name], value, atol=1e-5)]
    require(not wrong, f"the average of {', '.join(wrong[:5])} is not that of its weights")
    source = save_checkpoint(folder, kept, keep=1)
    other = attrs.evolve(recipe, training=attrs.evolve(recipe.training, seed=1))
    second = TrainingStep(recipe, in_training(build(other)))
    read = load_checkpoint(source)
    check(second, read, source)
    restore(second, read)
    sampled = build(other).network
    fill(sampled, source / "ema.safetensors")
    for name, value in sampled.state_dict().items():
        require(torch.equal(value, kept.ema[name]), f"{name} of the average is loaded as something else")
    ended = [checkpoint_of(each, iteration=3, images_by_stage=(3, 3), seconds=1.0) for each in _both(first, second)]
    for part in ("model", "ema", "optimizer"):
        one, two = (getattr(each, part) for each in ended)
        require(one.keys() == two.keys(), f"loaded again, its {part} has other names: {sorted(set(one) ^ set(two))}")
        wrong = [name for name, value in one.items() if not torch.equal(value, two[name])]
        require(not wrong, f"saved, loaded and trained on, {part} {', '.join(wrong[:5])} is not as without a pause")


def _both(*steps: TrainingStep) -> tuple[TrainingStep, ...]:
    """After a third step of each."""
    for step in steps:
        _advance(step, 2)
    return steps


def _weights(step: TrainingStep) -> list[tuple[str, Tensor]]:
    """Under all of their names."""
    found = step.denoiser.network.named_parameters(remove_duplicate=False)
    return [(name, each) for name, each in found if each.is_floating_point() or each.is_complex()]


def _advance(step: TrainingStep, iteration: int) -> None:
    generator = torch.Generator().manual_seed(iteration)
    torch.manual_seed(iteration)  # of dropout
    clean, noise = (torch.randn(2, *step.recipe.shape, generator=generator) for _ in range(2))
    times = torch.tensor([0.1, 0.9], dtype=torch.float64)
    stages = torch.tensor([0, 1])
    step(Batch(clean), Draw(stages, times, torch.ones_like(times), noise), iteration)


def _trained(encoder: Encoder, decoder: Decoder, shape: Shape) -> Recipe:
    training = Training(iterations=3, batch_size=2, lr=1e-3, ema_decay=0.9)
    edges = Partition.of_times((0.5,), SCHEDULE).edges
    return Recipe(
        data=_Images(shape=shape),
        schedule=SCHEDULE,
        stages=Stages(edges_ratio=edges),
        encoder=encoder,
        decoders=(decoder,) * 2,
        training=training,
    )


@attrs.frozen(kw_only=True)
class _Images(Dataset):
    """Says what shape images have; a law makes them up."""

    shape: Shape  # pyright: ignore[reportIncompatibleMethodOverride]  a field may stand for a property

    def open(self) -> Source:
        raise DataError("there are no images of a law")


def parts(encoder: Encoder, decoder: Decoder, shape: Shape) -> Parts:
    """A denoiser of the stages of `PARTITION` with like decoders."""
    return Parts(encoders=(encoder,), decoders=(decoder,) * 3, schedule=SCHEDULE, parameterization=Eps(), shape=shape)


def check_budget(encoder: Encoder, decoder: Decoder, shape: Shape) -> None:
    """Every operator is counted, the second counter agrees, and rules of the network's own are right for any batch."""
    denoiser = join(parts(encoder, decoder, shape), PARTITION, "meta")
    found = budget(denoiser, shape).as_json()
    require(
        not found["uncounted"],
        f"the budget does not count {', '.join(sorted(found['uncounted']))}: declare what they cost (docs/plugins.md)",
    )
    difference = found["audit"]["relative_difference"]
    require(
        difference is not None and abs(difference) < 1e-6,
        f"two counters differ by {difference} in the multiply-accumulates: an operator is counted wrongly",
    )
    rules = of_the_second_counter(declared(denoiser.network))

    def counted(batch: int) -> dict[Any, int]:
        x, c_noise = torch.empty(batch, *shape, device="meta"), torch.empty(batch, device="meta")
        with FlopCounterMode(display=False, custom_mapping=rules) as mode, torch.no_grad():
            denoiser.network(x, c_noise, stage=0)
        flops: dict[Any, int] = dict(mode.get_flop_counts()["Global"])
        return {operator: flops.get(operator, 0) for operator in rules}

    one, two = (counted(batch) for batch in (1, 2)) if rules else ({}, {})
    for operator, flops in one.items():
        require(
            two[operator] == 2 * flops,
            f"the rule of {operator} gives {flops // 2} MACs for one image and {two[operator] // 2} for two: budgets "
            "count one image, so it must grow with the batch",
        )


def check_mixed(encoder: Encoder, decoder: Decoder, shape: Shape) -> None:
    """A batch that mixes stages gives each image what it gets alone."""
    denoiser: Any = built(lambda: join(parts(encoder, decoder, shape), PARTITION))
    x = images(shape, len(TIMES))
    with torch.no_grad():
        mixed = denoiser(x, TIMES)
        single = torch.cat([denoiser(x[i : i + 1], t) for i, t in enumerate(TIMES.tolist())])
    scale = float(single.abs().max())
    worst = float((mixed - single).abs().max())
    require(
        worst <= 1e-6 * scale,
        f"in a batch of mixed stages an image differs by {worst / scale:.2g} from itself alone: samples must not "
        "affect each other in eval mode",
    )
