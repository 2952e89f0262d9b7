"""What a budget has where it is asked for, memory, speed and plans: the numbers alone, without torch."""

from typing import Any, Literal

import attrs

from msdk.budgeting.cards import Rate
from msdk.budgeting.training_price import Held
from msdk.recipe.results import key, to_json

Precision = Literal["fp32", "bf16", "fp16"]


@attrs.frozen
class StageMemory:
    """One stage.

    Attributes:
        index: Of the stage.
        activations_per_image: Bytes that the forward pass of one image leaves for the backward pass: encoder and
            decoder together, what both keep once, without weights and copies of them in another dtype.
        activations: The same for a micro-batch whose images are all in this stage.
        peak: Largest number of bytes in use during a training step whose images are all in this stage.
    """

    index: int
    activations_per_image: int
    activations: int
    peak: int


@attrs.frozen
class Memory:
    """What the training and the sampling of a recipe hold in memory, in bytes.

    Attributes:
        dtype: "fp32", or "bf16" or "fp16" for autocast; weights, gradients and averages are float32 in both.
        batch: Images per step.
        micro_batch: Images in memory at a time.
        held: All the time.
        stages: By stage, least noise first.
        peak: Largest number of bytes in use during training. Where batches mix stages, it is that of a micro-batch with
            the expected share of each stage, and at least one image; elsewhere, that of the dearest stage.
        sampling_batch: Images per network call in sampling, before guidance doubles them.
        sampling_peak: Largest number of bytes in use while one batch is sampled and decoded, without what the sampler
            remembers of earlier calls.
        backward_over_forward: By stage, FLOPs of the backward pass, without recomputation, over those of the forward
            pass.
    """

    dtype: Precision
    batch: int
    micro_batch: int
    held: Held = attrs.field(metadata=key("bytes"))
    stages: tuple[StageMemory, ...]
    peak: int
    sampling_batch: int
    sampling_peak: int
    backward_over_forward: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """The object `memory` of docs/contracts.md."""
        return to_json(self)


@attrs.frozen
class StageTiming:
    """One stage.

    Attributes:
        index: Of the stage.
        sampling_images_per_second: Of its forward pass, without gradients, in eval mode.
        sampling_utilisation: 2 FLOPs per exact MAC at that rate, over `Timing.matmul_flops_per_second`.
        training_images_per_second: Of steps whose images are all in this stage: forward, backward, optimiser, averages.
        training_utilisation: FLOPs of forward and backward at that rate, over the same; what is recomputed does not
            count.
    """

    index: int
    sampling_images_per_second: float
    sampling_utilisation: float
    training_images_per_second: float
    training_utilisation: float


@attrs.frozen
class Timing:
    """Measured speed of a recipe on one device.

    Attributes:
        device: "cpu", "cuda", ...
        name: Of the processor.
        threads: That the CPU used.
        dtype: "fp32", or "bf16" or "fp16" for autocast.
        batch: Images per step and per network call.
        matmul_flops_per_second: The fastest product of matrices on this device in this dtype, see
            `msdk.budgeting.measuring.matmul_peak`.
        stages: By stage, least noise first.
        hours: Of the recipe's whole training at these rates, each stage with its share of the training draws.
    """

    device: str
    name: str
    threads: int
    dtype: Precision
    batch: int
    matmul_flops_per_second: float
    stages: tuple[StageTiming, ...]
    hours: float

    def as_json(self) -> dict[str, Any]:
        """The object `timing` of docs/contracts.md."""
        return to_json(self)


@attrs.frozen
class Estimate:
    """What training would take on one card, see `msdk.budgeting.planning`.

    Attributes:
        gpu: The card, as `--gpu` spells it.
        title: As its maker does.
        dtype: Of the training.
        rate: How the card multiplies then: of "fp32" TF32, where the card has that.
        peak_flops_per_second: At that rate, by its maker.
        memory: Bytes of the card.
        source: Where the maker says so.
        utilisation: Share of the peak that is assumed.
        hours: Of the whole training, the encoding of latents included.
        hours_by_stage: Of the networks' own FLOPs in each stage.
        price: Of the card for an hour; None where it was not told.
        cost: Of the whole training, in the currency of the price.
    """

    gpu: str
    title: str
    dtype: Precision
    rate: Rate
    peak_flops_per_second: float
    memory: int
    source: str
    utilisation: float
    hours: float
    hours_by_stage: tuple[float, ...]
    price: float | None
    cost: float | None
