"""What a budget says: parameters, MACs and uses of each stage, and what sampling and training make of them.

Plain numbers, with the keys of `msdk budget --json` (docs/contracts.md), so that a saved budget can be shown again.
Nothing here imports torch, so a budget whose parts were counted before is made in an instant.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
from attrs.validators import ge, min_len, optional

from msdk.budgeting.ledger import Ledger
from msdk.budgeting.limits import Limit
from msdk.budgeting.requested import Estimate, Memory, Plan, Timing
from msdk.budgeting.training_price import ImageFlops
from msdk.encoders.base import Shape
from msdk.recipe import Convention
from msdk.recipe.results import ABSENT, from_json, key, to_json
from msdk.report import stages_grid

WEIGHTS = ("sampling", "training", "length")
"""Ways to weigh stages: by the sampler's network calls, by the images that training draws, by length of time."""

Weights = Literal["sampling", "training", "length"]


# --- what budgets that are read must satisfy, so that a file of somebody else's is no budget with negative costs ------

CLOSE = 1e-9
"""Relative sums of floats that agree so far are equal."""


def _sum_of(*names: str) -> Callable[[object, Any, float], None]:
    """A validator: the field is the sum of others."""

    def check(instance: object, field: Any, value: float) -> None:
        total = math.fsum(getattr(instance, name) for name in names)
        if abs(total - value) > CLOSE * max(abs(total), 1):
            raise ValueError(f"{field.name} is {value:,}, but {', '.join(names)} add up to {total:,.0f}")

    return check


def _rows_of(name: str) -> Callable[[object, Any, Mapping[str, int]], None]:
    """A validator: the rows of the field add up to another field."""

    def check(instance: object, field: Any, value: Mapping[str, int]) -> None:
        if min(value.values(), default=0) < 0 or sum(value.values()) != getattr(instance, name):
            raise ValueError(f"the rows of {field.name} do not add up to {name}, {getattr(instance, name):,}")

    return check


@attrs.frozen
class PartCosts:
    """One part for one image: an encoder, an adapter, a decoder, one direction of an autoencoder.

    Attributes:
        params: Its parameters, each tensor once.
        trained: Of those, the ones that training changes; the others are frozen.
        by_operator: Convention -> MACs by operator; resampling filters are a row of their own, `conv_fir`.
        second: Exact MACs by torch's FlopCounterMode.
        uncounted: Operators without a counting rule that are not known to be free, and how often they ran.
    """

    params: int
    trained: int
    by_operator: Mapping[Convention, Mapping[str, int]]
    second: int
    uncounted: Mapping[str, int]

    def macs(self, convention: Convention) -> int:
        """All MACs by a convention."""
        return sum(self.by_operator[convention].values())


@attrs.frozen
class Parameters:
    """Parameters of a whole recipe, each tensor once.

    Attributes:
        total: All of them.
        encoder: Those of all encoders.
        other: Those of the autoencoder and of adapters.
        shared: Those that every stage uses.
        trained: Those that training changes, those of the objective included, which are in no other count.
        ema: Numbers of the averaged copy; 0 without one.
        optimizer: Numbers that the optimiser keeps: of Adam, two for each trained parameter.
    """

    total: int = attrs.field(validator=ge(0))
    encoder: int = attrs.field(validator=ge(0))
    other: int = attrs.field(validator=ge(0))
    shared: int = attrs.field(validator=ge(0))
    trained: int = attrs.field(validator=ge(0))
    ema: int = attrs.field(validator=ge(0))
    optimizer: int = attrs.field(validator=ge(0))


@attrs.frozen
class StageParameters:
    """Parameters that a stage uses; those of an adapter are in none of them."""

    encoder: int = attrs.field(validator=ge(0))
    decoder: int = attrs.field(validator=ge(0))
    active: int = attrs.field(validator=_sum_of("encoder", "decoder"))


@attrs.frozen
class StageMacs:
    """MACs of one network call for one image; those of an adapter are the encoder's."""

    encoder: int = attrs.field(validator=ge(0))
    decoder: int = attrs.field(validator=ge(0))
    total: int = attrs.field(validator=_sum_of("encoder", "decoder"))
    by_operator: Mapping[str, int] = attrs.field(validator=_rows_of("total"))
    encoder_by_operator: Mapping[str, int] = attrs.field(validator=_rows_of("encoder"))
    decoder_by_operator: Mapping[str, int] = attrs.field(validator=_rows_of("decoder"))


@attrs.frozen
class StageCosts:
    """One stage: its parameters, its MACs per image and network call, and how often it is used.

    Attributes:
        index: Of the stage, 0 is nearest the data.
        t: Its edges in the time of the schedule.
        ratio: Its edges in ratio; None is unbounded.
        parameters: That it uses.
        costs: MACs of its encoder and its decoder.
        calls: Network calls per image that the recipe's sampler makes in this stage, guided ones twice; None without
            a recipe.
        weights: Share of the stage: "sampling" of those calls, "training" of the images drawn, "length" of time.
    """

    index: int
    t: tuple[float, float]
    ratio: tuple[float, float | None]
    parameters: StageParameters = attrs.field(metadata=key("params"))
    costs: StageMacs = attrs.field(metadata=key("macs"))
    calls: int | None = attrs.field(validator=optional(ge(0)))
    weights: Mapping[str, float | None]

    @property
    def encoder_params(self) -> int:
        return self.parameters.encoder

    @property
    def decoder_params(self) -> int:
        return self.parameters.decoder

    @property
    def encoder_macs(self) -> int:
        """Those of an adapter included."""
        return self.costs.encoder

    @property
    def decoder_macs(self) -> int:
        return self.costs.decoder

    @property
    def macs(self) -> int:
        return self.costs.total

    @property
    def by_operator(self) -> Mapping[str, int]:
        """MACs by operator; the rows add up to `macs`."""
        return self.costs.by_operator


@attrs.frozen
class AutoencoderCosts:
    """The first stage: its parameters, and its MACs to encode one training image and to decode one sample."""

    params: int = attrs.field(validator=ge(0))
    encode_macs: int = attrs.field(validator=ge(0))
    decode_macs: int = attrs.field(validator=ge(0))


@attrs.frozen
class CallCosts:
    """One network call of the sampler, see `msdk.samplers.tracing.Call`, and the MACs of all its evaluations."""

    step: int
    t: float
    ratio: float
    stage: int
    evaluations: int = attrs.field(validator=ge(1))
    macs: int = attrs.field(validator=ge(0))


@attrs.frozen
class GuidanceCosts:
    """What guidance adds: a second evaluation of every call inside its interval of ratio, maybe of another run.

    Attributes:
        weight: Of the guidance.
        interval: In ratio; None is everywhere.
        extra_calls: How many there are in `nfe`.
        run: The run whose they are; None where they are the recipe's own.
        macs: Of those of a run, for an image; None where they are the recipe's own, or the run cannot be read.
    """

    weight: float
    interval: tuple[float, float] | None
    extra_calls: int
    run: str | None = None
    macs: int | None = None

    def _told(self, plain: dict[str, Any]) -> dict[str, Any]:
        return _known(_known(plain, "run"), "macs")


def _known(plain: dict[str, Any], name: str) -> dict[str, Any]:
    """The table without a key that older files lack, where it is not known: what was read is written as it was."""
    return {key: value for key, value in plain.items() if key != name or value is not None}


@attrs.frozen
class StageTraining:
    """What training is expected to spend in one stage.

    Attributes:
        index: Of the stage.
        images: Drawn in it.
        forward_flops: Of those.
        backward_flops: Of those.
        recompute_flops: Of those.
        updates: Steps that have an image of it, in which its decoder is updated; None in JSON of before it was told.
    """

    index: int
    images: float = attrs.field(validator=ge(0))
    forward_flops: float = attrs.field(validator=ge(0))
    backward_flops: float = attrs.field(validator=ge(0))
    recompute_flops: float = attrs.field(validator=ge(0))
    updates: float | None = attrs.field(default=None, validator=optional(ge(0)))

    def _told(self, plain: dict[str, Any]) -> dict[str, Any]:
        return _known(plain, "updates")


@attrs.frozen
class TrainingCosts:
    """What training costs: the paper's figure (forward, one image per iteration), and the real one.

    All but the paper's figure rests on exact MACs, whatever the convention of the budget.

    Attributes:
        iterations: Optimiser steps.
        images: Iterations x batch size.
        batch_size: Images per step.
        accumulation: Micro-batches that a step's images are cut into.
        paper_pflops: Iterations x mean MACs of a sampling call / 1e15, the paper's accounting.
        forward_macs: Of all images, under the training draws.
        forward_flops: Two per MAC.
        backward_flops: Gradients, see `msdk.budgeting.training_price`.
        recompute_flops: What backward passes compute a second time; 0 without `recompute`.
        total_flops: Forward, backward, and what is computed again.
        autoencoder_flops: To encode all images for a latent model, which no stage and no total has.
        stages: What each stage is expected to see and to spend.
        explanation: A sentence: where the paper's accounting and the real cost differ.
        stage_groups: Groups of images in a step, of which each draws a stage; None in JSON of before it was told.
    """

    iterations: int = attrs.field(validator=ge(0))
    images: int = attrs.field(validator=ge(0))
    batch_size: int = attrs.field(validator=ge(1))
    accumulation: int = attrs.field(validator=ge(1))
    paper_pflops: float = attrs.field(validator=ge(0))
    forward_macs: float = attrs.field(validator=ge(0))
    forward_flops: float = attrs.field(validator=ge(0))
    backward_flops: float = attrs.field(validator=ge(0))
    recompute_flops: float = attrs.field(validator=ge(0))
    total_flops: float = attrs.field(validator=_sum_of("forward_flops", "backward_flops", "recompute_flops"))
    autoencoder_flops: float = attrs.field(validator=ge(0))
    stages: tuple[StageTraining, ...]
    explanation: str
    stage_groups: int | None = attrs.field(default=None, validator=optional(ge(1)))

    @property
    def paper_macs(self) -> float:
        """The paper's account as what it is: MACs."""
        return 1e15 * self.paper_pflops

    def _told(self, plain: dict[str, Any]) -> dict[str, Any]:
        return _known(plain, "stage_groups")


@attrs.frozen
class Audit:
    """What a second counter (torch's) finds of the exact MACs of all stages, and how far fvcore's sum is from it."""

    second_counter_macs: int
    relative_difference: float


def _allowed(limits: object) -> dict[str, float]:
    """What limits allow, of their list in JSON; the rest of it follows from the budget."""
    return {limit.key: limit.limit for limit in from_json(limits, tuple[Limit, ...])}


def mean_macs(stages: Sequence[StageCosts], weights: str) -> float | None:
    """Mean MACs of a network call under one kind of weights; None where the stages have none."""
    shares = [stage.weights[weights] for stage in stages]
    if None in shares:
        return None
    return math.fsum((share or 0.0) * stage.macs for share, stage in zip(shares, stages, strict=True))


def _of_stages(budget: "Budget", field: Any, value: Parameters) -> None:
    """A validator: all parameters are those of the encoders, the stages' decoders, adapters and the autoencoder."""
    decoders = sum(stage.parameters.decoder for stage in budget.stages)
    if value.total != value.encoder + value.other + decoders:
        raise ValueError(
            f"params.total is {value.total:,}, but params.encoder, params.other and the decoders of the stages add up "
            f"to {value.encoder + value.other + decoders:,}"
        )


def _means_of_stages(budget: "Budget", field: Any, value: Mapping[str, float | None]) -> None:
    """A validator: means weigh the MACs of the stages by the shares of the stages."""
    for name in WEIGHTS:
        try:
            mean, expected = value[name], mean_macs(budget.stages, name)
        except KeyError:
            raise ValueError(f"equivalent_macs and the weights of each stage must have '{name}'") from None
        if (mean is None) != (expected is None) or abs((mean or 0) - (expected or 0)) > CLOSE * (expected or 1):
            raise ValueError(f"equivalent_macs.{name} is {mean}, but MACs and shares of the stages make {expected}")


@attrs.frozen
class Budget:
    """The budget of one recipe.

    Attributes:
        recipe: What the recipe was called when the budget was asked for.
        title: The recipe's title.
        convention: How MACs are counted: "exact", "paper" or "fvcore".
        shape: Channels, height and width of the networks' input.
        parameters: Of the whole recipe.
        autoencoder: Its costs, which are in no stage; None without one.
        stages: Costs by stage, least noise first.
        means: Mean MACs of a network call under each kind of weights.
        nfe: Network calls per image of the recipe's sampler, guided ones twice; None for a denoiser without a recipe.
        trace: Those calls in order; empty for a denoiser without a recipe.
        guidance: None for a denoiser without a recipe.
        training: None for a denoiser without a recipe.
        memory: Bytes of training and sampling, where they were asked for.
        timing: Measured speed, where it was asked for.
        ledger: What a run has really spent; None without a run.
        allowed: What the recipe allows itself, key of `[budget]` -> the most, in the units of `msdk.recipe.LIMITS`.
        notes: What a reader must know of these figures, a sentence each.
        uncounted: Operators without a counting rule, and how often one run of each part has them.
        audit: By the second counter.
        disagreements: Where the two counters differ, a sentence each.
        estimate: What training would take on a card, where it was asked for; JSON lacks the key elsewhere.
        plan: What it would take on many cards, where it was asked for; JSON lacks the key elsewhere.
        image_flops: What training spends on one image, by stage; empty where JSON was read, or without a recipe.
    """

    recipe: str
    title: str
    convention: Convention
    shape: Shape = attrs.field(metadata=key("input_shape"))
    parameters: Parameters = attrs.field(metadata=key("params"), validator=_of_stages)
    autoencoder: AutoencoderCosts | None
    stages: tuple[StageCosts, ...] = attrs.field(validator=min_len(1))
    means: Mapping[str, float | None] = attrs.field(metadata=key("equivalent_macs"), validator=_means_of_stages)
    nfe: int | None = attrs.field(validator=optional(ge(0)))
    trace: tuple[CallCosts, ...]
    guidance: GuidanceCosts | None
    training: TrainingCosts | None
    memory: Memory | None
    timing: Timing | None
    ledger: Ledger | None
    allowed: Mapping[str, float] = attrs.field(metadata=key("limits", _allowed))
    notes: tuple[str, ...]
    uncounted: Mapping[str, int]
    audit: Audit
    disagreements: tuple[str, ...] = attrs.field(default=(), metadata=ABSENT)
    estimate: Estimate | None = None
    plan: Plan | None = None
    image_flops: tuple[ImageFlops, ...] = attrs.field(default=(), metadata=ABSENT)

    @property
    def params(self) -> int:
        """All parameters, each tensor once."""
        return self.parameters.total

    @property
    def encoder_params(self) -> int:
        return self.parameters.encoder

    @property
    def other_params(self) -> int:
        return self.parameters.other

    @property
    def trained_params(self) -> int:
        return self.parameters.trained

    @property
    def optimizer_params(self) -> int:
        return self.parameters.optimizer

    def equivalent_macs(self, weights: str) -> float | None:
        """Mean MACs of a network call under "sampling", "training" or "length" weights."""
        return self.means[weights]

    @property
    def doubts(self) -> list[str]:
        """Why the figures are not beyond doubt, a sentence each; the gates refuse a budget that has any."""
        found = [
            f"{operator} has no counting rule and ran {times} time{'s' if times > 1 else ''}, so its MACs are missing "
            "(a network may declare one: docs/plugins.md)"
            for operator, times in self.uncounted.items()
        ]
        found += self.disagreements
        if self.audit.relative_difference and not self.disagreements:  # of a saved budget, which has only the sums
            found.append(f"fvcore's exact MACs differ from torch's counter by {self.audit.relative_difference:.1e}")
        return found

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What the recipe allows itself, beside what it has."""
        training, memory = self.training, self.memory
        many = self.plan and self.plan.step
        spent = self.timing or many or self.estimate
        priced = many or self.estimate
        found: dict[str, float | None] = {
            "params": self.params,
            "macs": self.equivalent_macs("sampling"),
            "flops": None if training is None else training.total_flops,
            "memory": None if memory is None else memory.peak,
            "hours": None if spent is None else spent.hours,
            "cost": None if priced is None else priced.cost,
        }
        return tuple(Limit.of(name, most, found[name]) for name, most in self.allowed.items())

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk budget --json` (docs/contracts.md)."""
        return to_json(self)

    def __repr__(self) -> str:
        return f"Budget of {stages_grid(self).brief()}"

    def _repr_html_(self) -> str:
        return stages_grid(self).html()

    def _told(self, plain: dict[str, Any]) -> dict[str, Any]:
        """In JSON, limits stand beside what was found, and an estimate and a plan where there are any."""
        absent = [name for name in ("estimate", "plan") if getattr(self, name) is None]
        told = {**plain, "limits": to_json(self.limits)}
        return {name: told[name] for name in told if name not in absent}
