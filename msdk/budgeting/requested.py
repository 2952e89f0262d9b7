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


Parallel = Literal["ddp", "fsdp"]
"""Each process has all weights, and gradients are summed up; or each keeps a share of them (FSDP2)."""


@attrs.frozen
class StagePlan:
    """One stage in a step on many processes.

    Attributes:
        index: Of the stage.
        images: That a step is expected to have of it, on all processes.
        presence: Chance that a step (of shared weights, a micro-batch) has any, so that its decoder takes part at all.
        compute_seconds: That a process is expected to spend on its images.
        bytes: Sizes of the collectives that a step has because the stage is present, whatever the number of its images.
        communication_seconds: Of these, times the presence.
    """

    index: int
    images: float
    presence: float
    compute_seconds: float
    bytes: int
    communication_seconds: float


@attrs.frozen
class StepPlan:
    """A step on so many processes.

    Attributes:
        nodes: Machines.
        gpus: Cards in each.
        processes: All of them, one a card.
        images: Of one process.
        compute_seconds: Of the process with most to do.
        communication_seconds: Of all collectives, one after the other.
        exposed_seconds: Of these, what no computation hides.
        seconds: Of the step.
        images_per_second: Of all processes.
        efficiency: Against one card that took as long for each image and had nobody to talk to.
        hours: Of the whole training.
        cost: Of all cards for so long; None without a price.
    """

    nodes: int
    gpus: int
    processes: int
    images: int
    compute_seconds: float
    communication_seconds: float
    exposed_seconds: float
    seconds: float
    images_per_second: float
    efficiency: float
    hours: float
    cost: float | None


@attrs.frozen
class ProcessMemory:
    """What one process has in memory, in bytes.

    Attributes:
        held: All the time: weights, gradients, what the optimiser keeps, averages; or its share of them.
        gathered: Weights that it puts together from the shares of all; 0 where it has them.
        peak: Largest number in use during a step.
        card: That the card has.
    """

    held: int
    gathered: int
    peak: int
    card: int


@attrs.frozen
class Plan:
    """Training on many cards, see `msdk.budgeting.scaling`; the card and its rate are those of the estimate beside it.

    Attributes:
        parallel: How weights are kept.
        link: Bytes/s between cards of a machine, in one direction, by the card's maker.
        wire: What that is: "NVLink", "PCIe", ...
        bandwidth: Bytes/s between machines, for a whole machine, in one direction; assumed, or told.
        hop_seconds: Latency of a hop inside a machine, assumed.
        far_hop_seconds: Latency of a hop between machines, assumed.
        stages: By stage, least noise first.
        shared_bytes: Sizes of the collectives that every step has: of a shared encoder, of the objective.
        shared_seconds: How long these take.
        collectives: Expected number of them in a step.
        bytes: Expected sum of their sizes.
        sent_bytes: Expected bytes that a process sends in a step.
        hidden: Share of the bytes that is asked for while there is still something to compute.
        step: On the cards that were asked for.
        efficiency_of_node: Against one machine; None where there is only one.
        memory: Of the process with the largest share.
        price: Of one card for an hour; None where it was not told.
        sweep: Steps on 1, 2, 4, ... machines up to those that were asked for, which the batch can be cut for.
    """

    parallel: Parallel
    link: float
    wire: str
    bandwidth: float
    hop_seconds: float
    far_hop_seconds: float
    stages: tuple[StagePlan, ...]
    shared_bytes: int
    shared_seconds: float
    collectives: float
    bytes: float
    sent_bytes: float
    hidden: float
    step: StepPlan
    efficiency_of_node: float | None
    memory: ProcessMemory
    price: float | None
    sweep: tuple[StepPlan, ...]
