"""What a budget holds: parameters, MACs and uses of each stage, and what sampling and training make of them.

Plain numbers; nothing here imports torch, so a budget whose parts were counted before is made in an instant.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from msdk.budgeting.limits import Limit
from msdk.encoders.base import Shape
from msdk.partition import Stage
from msdk.recipe import Convention
from msdk.samplers.tracing import Call

if TYPE_CHECKING:
    from msdk.budgeting.measuring import Timing
    from msdk.budgeting.memory import Memory

WEIGHTS = ("sampling", "training", "length")
"""Ways to weigh stages: by the sampler's network calls, by the images that training draws, by length of time."""

Weights = Literal["sampling", "training", "length"]


@attrs.frozen
class PartCosts:
    """One part for one image: an encoder, an adapter, a decoder, one direction of an autoencoder.

    Attributes:
        params: Its parameters, each tensor once.
        by_operator: Convention -> MACs by operator; resampling filters are a row of their own, `conv_fir`.
        second: Exact MACs by torch's FlopCounterMode.
        uncounted: Operators without a counting rule that are not known to be free, and how often they ran.
    """

    params: int
    by_operator: Mapping[Convention, Mapping[str, int]]
    second: int
    uncounted: Mapping[str, int]

    def macs(self, convention: Convention) -> int:
        """All MACs by a convention."""
        return sum(self.by_operator[convention].values())


@attrs.frozen
class StageCosts:
    """One stage: its parameters, its MACs per image and network call, and how often it is used.

    Attributes:
        stage: Its index and its edges in ratio.
        times: Its edges in the time of the schedule.
        convention: How MACs are counted.
        encoder: Costs of the encoder it uses.
        adapter: Costs of the adapter behind that encoder; None without one.
        decoder: Costs of its decoder.
        calls: Network calls per image that the recipe's sampler makes in this stage, guided ones twice; None without
            a recipe.
        weights: Share of the stage: "sampling" of those calls, "training" of the images drawn, "length" of time.
    """

    stage: Stage
    times: tuple[float, float]
    convention: Convention
    encoder: PartCosts
    adapter: PartCosts | None
    decoder: PartCosts
    calls: int | None = None
    weights: Mapping[str, float | None] = attrs.field(factory=dict)

    @property
    def parts(self) -> tuple[PartCosts, ...]:
        return tuple(part for part in (self.encoder, self.adapter, self.decoder) if part is not None)

    @property
    def encoder_params(self) -> int:
        return self.encoder.params

    @property
    def decoder_params(self) -> int:
        return self.decoder.params

    @property
    def encoder_macs(self) -> int:
        """Those of the adapter included."""
        return self.macs - self.decoder_macs

    @property
    def decoder_macs(self) -> int:
        return self.decoder.macs(self.convention)

    @property
    def macs(self) -> int:
        return sum(part.macs(self.convention) for part in self.parts)

    @property
    def by_operator(self) -> "Counter[str]":
        """MACs by operator; the rows add up to `macs`."""
        return self._by_operator(*self.parts)

    def _by_operator(self, *parts: PartCosts) -> "Counter[str]":
        found: Counter[str] = Counter()
        for part in parts:
            found.update(part.by_operator[self.convention])
        return found

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
                "encoder_by_operator": dict(self._by_operator(*self.parts[:-1])),
                "decoder_by_operator": dict(self._by_operator(self.decoder)),
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
    """What training costs: the paper's figure (forward, one image per iteration), and the real one.

    Attributes:
        iterations: Optimiser steps.
        batch_size: Images per step.
        accumulation: Micro-batches that a step's images are cut into.
        paper_pflops: Iterations x mean MACs of a sampling call / 1e15, the paper's accounting.
        images_by_stage: Images that each stage is expected to see.
        forward_macs_by_stage: Forward MACs of those.
        recompute_flops_by_stage: FLOPs of what their backward passes compute a second time; zeros without `recompute`.
        autoencoder_macs: MACs to encode all images for a latent model, which no stage has; 0 without an autoencoder.
    """

    iterations: int
    batch_size: int
    accumulation: int
    paper_pflops: float
    images_by_stage: tuple[float, ...]
    forward_macs_by_stage: tuple[float, ...]
    recompute_flops_by_stage: tuple[float, ...]
    autoencoder_macs: float = 0.0

    @property
    def images(self) -> int:
        return self.iterations * self.batch_size

    @property
    def forward_macs(self) -> float:
        """Of all images, under the training draws."""
        return math.fsum(self.forward_macs_by_stage)

    @property
    def forward_flops(self) -> float:
        """Two FLOPs per MAC."""
        return 2 * self.forward_macs

    @property
    def backward_flops(self) -> float:
        """Twice the forward: gradients of inputs and of weights (measured: 1.998 to 2.000 in every network)."""
        return 2 * self.forward_flops

    @property
    def recompute_flops(self) -> float:
        return math.fsum(self.recompute_flops_by_stage)

    @property
    def total_flops(self) -> float:
        """Forward, backward, and what is computed again."""
        return self.forward_flops + self.backward_flops + self.recompute_flops

    def as_json(self) -> dict[str, Any]:
        return {
            "iterations": self.iterations,
            "images": self.images,
            "batch_size": self.batch_size,
            "accumulation": self.accumulation,
            "paper_pflops": self.paper_pflops,
            "forward_macs": self.forward_macs,
            "forward_flops": self.forward_flops,
            "backward_flops": self.backward_flops,
            "recompute_flops": self.recompute_flops,
            "total_flops": self.total_flops,
            "autoencoder_flops": 2 * self.autoencoder_macs,
            "stages": [
                {
                    "index": index,
                    "images": images,
                    "forward_flops": 2 * macs,
                    "backward_flops": 4 * macs,
                    "recompute_flops": again,
                }
                for index, (images, macs, again) in enumerate(
                    zip(
                        self.images_by_stage,
                        self.forward_macs_by_stage,
                        self.recompute_flops_by_stage,
                        strict=True,
                    )
                )
            ],
        }


@attrs.frozen
class AutoencoderCosts:
    """The first stage: its parameters, and its MACs to encode one training image and to decode one sample."""

    params: int
    encode: PartCosts
    decode: PartCosts


@attrs.frozen
class Budget:
    """The budget of one recipe.

    Attributes:
        recipe: What the recipe was called when the budget was asked for.
        title: The recipe's title.
        convention: How MACs are counted: "exact", "paper" or "fvcore".
        shape: Channels, height and width of the input.
        stages: Costs by stage, least noise first.
        shared: Whether all stages use one encoder.
        autoencoder: Its costs, which are in no stage; None without one.
        trace: Network calls of the sampler; empty for a denoiser without a recipe.
        guidance: None for a denoiser without a recipe.
        training: None for a denoiser without a recipe.
        ema: Whether training keeps averaged weights.
        moments: Numbers that the optimiser keeps for each trained parameter.
        allowed: What the recipe allows itself, key of `[budget]` -> the most, in the units of `msdk.recipe.LIMITS`.
        notes: What a reader must know of these figures, a sentence each.
        memory: Bytes of training and sampling, where they were asked for.
        timing: Measured speed, where it was asked for.
        ledger: What a run has really spent, the content of its ledger.json; None without a run.
    """

    recipe: str
    title: str
    convention: Convention
    shape: Shape
    stages: tuple[StageCosts, ...]
    shared: bool
    autoencoder: AutoencoderCosts | None
    trace: tuple[Call, ...] = ()
    guidance: GuidanceCosts | None = None
    training: TrainingCosts | None = None
    ema: bool = True
    moments: int = 2
    allowed: Mapping[str, float] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()
    memory: "Memory | None" = None
    timing: "Timing | None" = None
    ledger: Mapping[str, Any] | None = None

    @property
    def params(self) -> int:
        """All parameters, each tensor once."""
        return self.encoder_params + sum(stage.decoder_params for stage in self.stages) + self.other_params

    @property
    def encoder_params(self) -> int:
        """Those of all encoders."""
        return sum(stage.encoder_params for stage in (self.stages[:1] if self.shared else self.stages))

    @property
    def adapter_params(self) -> int:
        """Those of all adapters."""
        adapters = [stage.adapter.params for stage in self.stages if stage.adapter is not None]
        return sum(adapters[:1] if self.shared else adapters)

    @property
    def other_params(self) -> int:
        """Those of the autoencoder and of adapters."""
        return self.adapter_params + (0 if self.autoencoder is None else self.autoencoder.params)

    @property
    def trained_params(self) -> int:
        """Those that training changes: all but the autoencoder's."""
        return self.params - (0 if self.autoencoder is None else self.autoencoder.params)

    @property
    def optimizer_params(self) -> int:
        """Numbers that the optimiser keeps: of Adam, two moments for each trained parameter."""
        return self.moments * self.trained_params

    @property
    def shared_params(self) -> int:
        """Those that every stage uses."""
        return self.encoder_params + self.adapter_params if self.shared else 0

    @property
    def nfe(self) -> int | None:
        """Network calls per image of the recipe's sampler, guided ones twice."""
        calls = [stage.calls for stage in self.stages]
        return None if None in calls else sum(call or 0 for call in calls)

    @property
    def exact_macs(self) -> int:
        """Sum over stages, by fvcore with our rules."""
        return sum(part.macs("exact") for stage in self.stages for part in stage.parts)

    @property
    def second_macs(self) -> int:
        """The same by torch's FlopCounterMode."""
        return sum(part.second for stage in self.stages for part in stage.parts)

    @property
    def uncounted(self) -> Mapping[str, int]:
        """Operators without a counting rule, and how often one run of each part has them."""
        parts = {id(part): part for stage in self.stages for part in stage.parts}
        if self.autoencoder is not None:
            parts |= {id(part): part for part in (self.autoencoder.encode, self.autoencoder.decode)}
        found: Counter[str] = Counter()
        for part in parts.values():
            found.update(part.uncounted)
        return found

    @property
    def doubts(self) -> list[str]:
        """Why the figures are not beyond doubt, a sentence each; `--strict` refuses a budget that has any."""
        found = [
            f"{operator} has no counting rule and ran {times} time{'s' if times > 1 else ''}, so its MACs are missing"
            for operator, times in self.uncounted.items()
        ]
        parts = {f"stage {stage.stage.index}": stage.parts for stage in self.stages}
        if self.autoencoder is not None:
            parts["the autoencoder"] = (self.autoencoder.encode, self.autoencoder.decode)
        for name, pair in parts.items():
            first, second = sum(part.macs("exact") for part in pair), sum(part.second for part in pair)
            if first != second:
                found.append(f"fvcore counts {first:,} exact MACs in {name}, torch's counter {second:,}")
        return found

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What the recipe allows itself, beside what it has."""
        training, memory = self.training, self.memory
        found: dict[str, float | None] = {
            "params": self.params,
            "macs": self.equivalent_macs("sampling"),
            "flops": None if training is None else training.total_flops,
            "memory": None if memory is None else memory.peak,
        }
        return tuple(Limit(key, most, found[key]) for key, most in self.allowed.items())

    def equivalent_macs(self, weights: str) -> float | None:
        """Mean MACs of a network call under "sampling", "training" or "length" weights."""
        return mean_macs(self.stages, weights)

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk budget --json` (docs/contracts.md)."""
        first_stage = self.autoencoder
        return {
            "recipe": self.recipe,
            "title": self.title,
            "convention": self.convention,
            "input_shape": list(self.shape),
            "params": {
                "total": self.params,
                "encoder": self.encoder_params,
                "other": self.other_params,
                "shared": self.shared_params,
                "trained": self.trained_params,
                "ema": self.trained_params if self.ema else 0,
                "optimizer": self.optimizer_params,
            },
            "autoencoder": first_stage
            and {
                "params": first_stage.params,
                "encode_macs": first_stage.encode.macs(self.convention),
                "decode_macs": first_stage.decode.macs(self.convention),
            },
            "stages": [stage.as_json() for stage in self.stages],
            "equivalent_macs": {name: self.equivalent_macs(name) for name in WEIGHTS},
            "nfe": self.nfe,
            "trace": [
                {**attrs.asdict(call), "macs": call.evaluations * self.stages[call.stage].macs} for call in self.trace
            ],
            "guidance": self.guidance and attrs.asdict(self.guidance),
            "training": self.training and {**self.training.as_json(), "explanation": self.explanation()},
            "memory": self.memory and self.memory.as_json(),
            "timing": self.timing and self.timing.as_json(),
            "ledger": self.ledger,
            "limits": [limit.as_json() for limit in self.limits],
            "notes": list(self.notes),
            "uncounted": dict(self.uncounted),
            "audit": {
                "second_counter_macs": self.second_macs,
                "relative_difference": (self.exact_macs - self.second_macs) / max(self.second_macs, 1),
            },
        }

    def explanation(self) -> str:
        """One sentence: where the paper's accounting and the real cost of training differ."""
        call, image = self.equivalent_macs("sampling"), self.equivalent_macs("training")
        if not call or not image or self.training is None:
            return ""
        shares = " / ".join(f"{100 * (stage.weights['training'] or 0):.3g}" for stage in self.stages)
        where = f", which training draws from the stages by {shares} %," if len(self.stages) > 1 else ""
        return (
            f"The paper's PFLOPs are iterations x {call / 1e9:.4g} GMACs, the mean sampling call, forward, one image; "
            f"a training image{where} costs {image / 1e9:.4g} GMACs forward ({100 * image / call:.0f} % of that), and "
            f"training does that for {self.training.batch_size:,} images an iteration, with a backward pass of twice "
            f"the forward{' and activations computed again' if self.training.recompute_flops else ''}."
        )


def mean_macs(stages: tuple[StageCosts, ...], weights: str) -> float | None:
    """Mean MACs of a network call under one kind of weights; None where the stages have none."""
    shares = [stage.weights[weights] for stage in stages]
    if None in shares:
        return None
    return math.fsum((share or 0.0) * stage.macs for share, stage in zip(shares, stages, strict=True))
