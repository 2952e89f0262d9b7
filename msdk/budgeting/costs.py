"""The budget of a recipe: what each stage holds and costs, and what sampling and training make of it."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
import torch
from torch import Tensor, nn

from msdk.budgeting.counting import Count, count, count_fvcore, count_paper, count_second, weightless
from msdk.building import build
from msdk.denoiser import Denoiser
from msdk.encoders.base import Features, Shape
from msdk.noise_levels.base import stage_probabilities
from msdk.partition import Stage
from msdk.recipe import Convention, Recipe
from msdk.samplers.base import call_times


@attrs.frozen
class StageCosts:
    """One stage: its parameters, its MACs per image and network call, and how often it is used.

    Attributes:
        stage: Its index and its edges in ratio.
        times: Its edges in the time of the schedule.
        encoder_params: Parameters of the encoder it uses.
        decoder_params: Parameters of its decoder.
        encoder_macs: MACs of its encoder for one image.
        decoder_macs: MACs of its decoder for one image.
        by_operator: MACs of both by operator; the rows add up to the total, `conv_fir` (resampling filters) included.
        calls: Network calls per image that the recipe's sampler makes in this stage, guided ones twice; None without
            a recipe.
        weights: Share of the stage: "sampling" of those calls, "training" of the images drawn, "length" of time.
    """

    stage: Stage
    times: tuple[float, float]
    encoder_params: int
    decoder_params: int
    encoder_macs: int
    decoder_macs: int
    by_operator: Mapping[str, int]
    calls: int | None
    weights: Mapping[str, float | None]

    @property
    def macs(self) -> int:
        return self.encoder_macs + self.decoder_macs

    def as_json(self) -> dict[str, Any]:
        high = None if math.isinf(self.stage.high) else self.stage.high
        return {
            "index": self.stage.index,
            "t": list(self.times),
            "ratio": [self.stage.low, high],
            "params": {
                "encoder": self.encoder_params,
                "decoder": self.decoder_params,
                "active": self.encoder_params + self.decoder_params,
            },
            "macs": {
                "encoder": self.encoder_macs,
                "decoder": self.decoder_macs,
                "total": self.macs,
                "by_operator": dict(self.by_operator),
            },
            "calls": self.calls,
            "weights": dict(self.weights),
        }


@attrs.frozen
class GuidanceCosts:
    """What classifier-free guidance adds: a second evaluation of every call inside its interval of ratio."""

    weight: float
    interval: tuple[float, float] | None
    extra_calls: int


@attrs.frozen
class TrainingCosts:
    """What training costs: the paper's figure (forward, one image per iteration), and the real one."""

    iterations: int
    images: int
    paper_pflops: float
    forward_macs: float

    @property
    def total_flops(self) -> float:
        """Forward and backward (twice the forward), two FLOPs per MAC."""
        return self.forward_macs * 3 * 2


@attrs.frozen
class PartCosts:
    """One part: its count in the asked convention, and the two exact counts."""

    count: Count
    exact: int
    second: int


@attrs.frozen
class AutoencoderCosts:
    """The first stage: its parameters, and its MACs to encode one training image and to decode one sample."""

    params: int
    encode: PartCosts
    decode: PartCosts

    def as_json(self) -> dict[str, int]:
        return {
            "params": self.params,
            "encode_macs": self.encode.count.total,
            "decode_macs": self.decode.count.total,
        }


@attrs.frozen
class Budget:
    """The budget of one recipe.

    Attributes:
        recipe: What the recipe was called when the budget was asked for.
        title: The recipe's title.
        convention: How MACs are counted: "exact", "paper" or "fvcore".
        shape: Channels, height and width of the input.
        params: All parameters, each tensor once.
        encoder_params: Those of all encoders.
        other_params: Those of the autoencoder and of adapters.
        autoencoder: Its costs, which are in no stage; None without one.
        stages: Costs by stage, least noise first.
        guidance: None for a denoiser without a recipe.
        training: None for a denoiser without a recipe.
        uncounted: Operators without a counting rule, and how often they ran.
        exact_macs: Sum over stages, by fvcore with our rules.
        second_macs: The same by torch's FlopCounterMode.
    """

    recipe: str
    title: str
    convention: Convention
    shape: Shape
    params: int
    encoder_params: int
    other_params: int
    autoencoder: AutoencoderCosts | None
    stages: tuple[StageCosts, ...]
    guidance: GuidanceCosts | None
    training: TrainingCosts | None
    uncounted: Mapping[str, int]
    exact_macs: int
    second_macs: int

    @property
    def nfe(self) -> int | None:
        """Network calls per image of the recipe's sampler."""
        calls = [stage.calls for stage in self.stages]
        return None if None in calls else sum(call or 0 for call in calls)

    def equivalent_macs(self, weights: str) -> float | None:
        """Mean MACs of a network call under "sampling", "training" or "length" weights."""
        return _mean(self.stages, weights)

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk budget --json` (docs/contracts.md)."""
        training = self.training
        return {
            "recipe": self.recipe,
            "title": self.title,
            "convention": self.convention,
            "input_shape": list(self.shape),
            "params": {"total": self.params, "encoder": self.encoder_params, "other": self.other_params},
            "autoencoder": self.autoencoder and self.autoencoder.as_json(),
            "stages": [stage.as_json() for stage in self.stages],
            "equivalent_macs": {name: self.equivalent_macs(name) for name in ("sampling", "training", "length")},
            "nfe": self.nfe,
            "guidance": self.guidance and attrs.asdict(self.guidance),
            "training": training and {**attrs.asdict(training), "total_flops": training.total_flops},
            "uncounted": dict(self.uncounted),
            "audit": {
                "second_counter_macs": self.second_macs,
                "relative_difference": (self.exact_macs - self.second_macs) / max(self.second_macs, 1),
            },
        }


def budget(
    model: Recipe | Denoiser, shape: Shape | None = None, *, convention: Convention | None = None, name: str = ""
) -> Budget:
    """Counts the cost of a recipe, or of a denoiser and an input shape.

    Args:
        model: A recipe whose stage edges are known, or a denoiser.
        shape: Channels, height and width of the input; the denoiser's own when not given.
        convention: "exact", "paper" or "fvcore"; the recipe's own (or "exact") when not given.
        name: What to call it in the report.

    Raises:
        PartError: The stage edges are not known yet, or a network cannot be traced.
    """
    recipe = model if isinstance(model, Recipe) else None
    denoiser = build(model, "meta") if isinstance(model, Recipe) else model
    shape = shape or denoiser.shape
    how = convention or (recipe.budget.convention if recipe is not None else "exact")
    encoders, decoders = count_parts(denoiser, shape, how)
    autoencoder = count_autoencoder(denoiser.autoencoder, shape, how)
    first_stage = () if autoencoder is None else (autoencoder.encode, autoencoder.decode)
    uncounted: Counter[str] = Counter()
    for part in (*encoders, *decoders, *first_stage):
        uncounted.update(part.count.uncounted)
    costs: list[StageCosts] = []
    exact = second = 0
    network = denoiser.network
    for stage, times in zip(denoiser.partition.stages, denoiser.partition.times(denoiser.schedule), strict=True):
        encoder, decoder = encoders[0 if network.shared else stage.index], decoders[stage.index]
        exact += encoder.exact + decoder.exact
        second += encoder.second + decoder.second
        costs.append(
            StageCosts(
                stage=stage,
                times=times,
                encoder_params=_params(network.encoder(stage.index)),
                decoder_params=_params(network.decoders[stage.index]),
                encoder_macs=encoder.count.total,
                decoder_macs=decoder.count.total,
                by_operator=dict(encoder.count.by_operator + decoder.count.by_operator),
                calls=None,
                weights={},
            )
        )
    stages = _weighted(costs, denoiser, recipe)
    return Budget(
        recipe=name,
        title=recipe.title if recipe is not None else "",
        convention=how,
        shape=shape,
        params=_params(denoiser),
        encoder_params=_params(denoiser.network.encoders),
        other_params=_params(denoiser.network.adapters) + (autoencoder.params if autoencoder is not None else 0),
        autoencoder=autoencoder,
        stages=stages,
        guidance=_guidance(stages, recipe) if recipe is not None else None,
        training=_training(stages, recipe) if recipe is not None else None,
        uncounted=dict(uncounted),
        exact_macs=exact,
        second_macs=second,
    )


class _FlatEncoder(nn.Module):
    """Features as a tuple, behind the adapter if there is one: a tracer follows tensors, not attrs classes."""

    def __init__(self, encoder: nn.Module, adapter: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.adapter = encoder, adapter

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> tuple[Tensor, ...]:
        features: Features = self.encoder(x, c_noise, label)
        if self.adapter is not None:
            features = self.adapter(features)
        return (*features.skips, features.bottom, features.embedding)


class _FlatDecoder(nn.Module):
    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.decoder(Features(tensors[:-2], tensors[-2], tensors[-1]))


class _Coder(nn.Module):
    """One direction of an autoencoder."""

    def __init__(self, autoencoder: nn.Module, direction: Literal["encode", "decode"]) -> None:
        super().__init__()
        self.autoencoder, self.direction = autoencoder, direction

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.autoencoder, self.direction)(x)


def count_parts(denoiser: Denoiser, shape: Shape, how: Convention) -> tuple[list[PartCosts], list[PartCosts]]:
    """Costs of every encoder, with the adapter behind it, and of every decoder, each counted once for one image."""
    network = denoiser.network
    image = [torch.empty(1, *shape, device="meta"), torch.empty(1, device="meta")]
    if denoiser.classes:
        # A call of a conditional network has a class; augmentation labels are fed in training alone.
        image.append(torch.empty(1, dtype=torch.int64, device="meta"))
    encoders, features = list[PartCosts](), list[Tensor]()
    for index in range(len(network.encoders)):
        flat = _FlatEncoder(network.encoder(index), network.adapter(index))
        encoders.append(_costs(flat, image, how))
        features = features or _outputs(flat, image)
    return encoders, [_costs(_FlatDecoder(decoder), features, how) for decoder in network.decoders]


def count_autoencoder(autoencoder: nn.Module | None, shape: Shape, how: Convention) -> AutoencoderCosts | None:
    """Costs of an autoencoder whose latents have a shape."""
    if autoencoder is None:
        return None
    encoder, decoder = _Coder(autoencoder, "encode"), _Coder(autoencoder, "decode")
    latents = torch.empty(1, *shape, device="meta")
    (image,) = _outputs(decoder, [latents])
    return AutoencoderCosts(
        params=_params(autoencoder),
        encode=_costs(encoder, [image[None]], how),
        decode=_costs(decoder, [latents], how),
    )


def _costs(part: nn.Module, inputs: Sequence[Tensor], how: Convention) -> PartCosts:
    counters: dict[str, Callable[[nn.Module, Sequence[Tensor]], Count]] = {"paper": count_paper, "fvcore": count_fvcore}
    exact = count(part, inputs)
    asked = exact if how == "exact" else attrs.evolve(counters[how](part, inputs), uncounted=exact.uncounted)
    return PartCosts(asked, exact.total, count_second(part, inputs))


def _outputs(module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    with weightless(module, "meta") as copied, torch.no_grad():
        return list(copied(*inputs))


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())  # a shared tensor is listed once


def _weighted(costs: Sequence[StageCosts], denoiser: Denoiser, recipe: Recipe | None) -> tuple[StageCosts, ...]:
    """The same costs with the share of each stage under the three kinds of weights."""
    schedule, partition = denoiser.schedule, denoiser.partition
    whole = schedule.t_max - schedule.t_min
    calls, training = list[int | None]([None] * len(costs)), list[float | None]([None] * len(costs))
    if recipe is not None:
        visits: Counter[int] = Counter()
        for t in (t for interval in call_times(recipe.sampler, schedule, recipe.steps) for t in interval):
            visits[partition.at(t, schedule)] += recipe.guidance.evaluations(schedule.ratio(t))
        calls = [visits[index] for index in range(len(costs))]
        shares = recipe.training.noise.shares(schedule, partition)
        training = list(stage_probabilities(recipe.training.stage_draw, shares))
    nfe = sum(call or 0 for call in calls)
    return tuple(
        attrs.evolve(
            cost,
            calls=call,
            weights={
                "sampling": None if call is None else call / nfe,
                "training": share,
                "length": (cost.times[1] - cost.times[0]) / whole,
            },
        )
        for cost, call, share in zip(costs, calls, training, strict=True)
    )


def _guidance(stages: Sequence[StageCosts], recipe: Recipe) -> GuidanceCosts:
    calls = sum(stage.calls or 0 for stage in stages)
    guidance = recipe.guidance
    return GuidanceCosts(guidance.weight, guidance.interval, calls - sum(recipe.sampler.calls(recipe.steps)))


def _mean(stages: Sequence[StageCosts], weights: str) -> float | None:
    shares = [stage.weights[weights] for stage in stages]
    if None in shares:
        return None
    return math.fsum((share or 0.0) * stage.macs for share, stage in zip(shares, stages, strict=True))


def _training(stages: Sequence[StageCosts], recipe: Recipe) -> TrainingCosts:
    iterations, images = recipe.training.iterations, recipe.training.iterations * recipe.training.batch_size
    return TrainingCosts(
        iterations=iterations,
        images=images,
        paper_pflops=iterations * (_mean(stages, "sampling") or 0.0) / 1e15,
        forward_macs=images * (_mean(stages, "training") or 0.0),
    )
