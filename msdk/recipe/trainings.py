"""`[training]` of a recipe. Imports no torch."""

from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import deep_iterable, ge, gt, le, lt, optional

from msdk import averages, objectives, optimizers
from msdk.averages.base import Average
from msdk.combinations.base import Combination
from msdk.lr_schedules.base import LRSchedule
from msdk.noise_levels.base import NoiseLevel
from msdk.objectives.base import Objective
from msdk.optimizers.base import Optimizer
from msdk.recipe.keeping import Keep, at_least_one
from msdk.recipe.stage_draws import StageDraw
from msdk.recipe.watching import Stop

AUGMENT_LABELS = 9
"""Labels that say what `training.augment` did to an image, see `msdk.training.augmentation`."""


def _left_to_the_schedule() -> Any:
    """A default that a recipe replaces by what its schedule says; None only while there is no recipe."""
    return attrs.field(default=None)


@attrs.frozen(kw_only=True)
class Training:
    """How the networks are trained.

    Args:
        iterations: Optimiser steps.
        batch_size: Images per step.
        accumulation: Micro-batches that a step is made of; each has `batch_size / accumulation` images, and only one is
            in memory at a time. What is drawn for a step, dropout excepted, does not depend on it.
        parallel: How processes train together: each with all weights ("ddp"), or with its rows of all weights, moments
            and averages, which are gathered part by part ("fsdp"). Nothing that is trained depends on it.
        recompute: Whether activations are computed again in the backward pass, block by block, instead of being kept:
            a third more to compute, for a fraction of the memory.
        objective: What is minimised; `denoising` when not given. A recipe whose decoders predict a variance trains with
            an objective that is named and learns it.
        noise: The law of training times; the one that suits the schedule when not given, which the recipe then holds.
        stage_draw: Which stages are drawn: "natural", "uniform", "stratified", "round-robin", "curriculum", or
            `{ shares = [..] }`, see `msdk show stage_draw`.
        stage_groups: Groups of images that a batch is cut into, each of one stage: 1 is one stage for a batch, 4 what
            four processes do of which each draws one. When not given, each image is a group of its own.
        mixed: False is an older word for `stage_groups = 1`.
        importance: Whether the loss of a stage is weighted by its natural share over the share that it is drawn with,
            so that the mean gradient is that of natural draws, in the shared encoder above all. The loss that is logged
            is the weighted one.
        lr: Learning rate.
        warmup: Steps over which the learning rate rises linearly from 0, which the first step has, as in the originals:
            lr min(steps done / warmup, 1).
        lr_schedule: A factor on the learning rate; none when not given.
        optimizer: AdamW with `betas` and `weight_decay` when not given.
        betas: Decay of Adam's first and second moment.
        weight_decay: Decoupled weight decay (AdamW, Loshchilov and Hutter 2019, arXiv 1711.05101); 0 is Adam.
        sanitize: Whether gradients that are not finite are replaced before clipping, as in EDM: NaN by 0, infinities by
            +-1e5 over the numbers of an image, because EDM sums the loss that is a mean here. The loss stays as it is.
        gradients: What the shared encoder's gradients of the stages are combined by, as "pcgrad" or "nash-mtl" do, see
            `msdk.combinations`; those of decoders stay as they are. They are summed when not given.
        gradient_cosine: Whether every line of metrics.jsonl that falls on `log_every` tells how the stages' gradients
            of the shared encoder lie to each other in its step: `gradient_cosine` and `gradient_norm_by_stage`.
        clip_norm: Largest norm of the whole gradient; 0 does not clip.
        ema_decay: Decay of the averaged weights, ramped up as min(decay, (1 + n) / (10 + n)); 0 keeps none.
        ema_half_life: Images after which a weight counts half in the average (EDM); 0 means `ema_decay` rules instead.
        ema_ramp: The half-life is at most this share of the images seen so far; 0 does not ramp it up.
        averages: Averages of the weights, in the place of those that the three keys above name: the first is what is
            sampled, all are kept in checkpoints. `[]` keeps none.
        average_by: What averages of a decoder, and of the encoder that it alone uses, go by: every "step", also those
            in which it is idle; or the steps of its "stage", with the images that this has in them. Averages of a stage
            that is seldom drawn are then means over its own steps, not what its weights were last.
        snapshot_every: Steps between snapshots of all averages, which no later checkpoint removes: `msdk stage ema`
            makes averages of other lengths from those of `power`. 0 takes none.
        flip: Whether images are mirrored left to right with probability 1/2, without telling the network.
        augment: Probability of each geometric change of EDM's augmentation; 0 changes nothing. Its labels are fed to
            an encoder with `augment = 9`. See `msdk.training.augmentation`.
        label_dropout: Probability that an image's class is withheld, which guidance needs (Ho and Salimans 2022).
        precision: "bf16" or "fp16" runs the networks under autocast; weights and optimiser stay in float32. "fp16"
            scales the loss by a factor that follows its gradients: a step whose gradients overflow changes no weight.
        compile: Whether encoder and decoders are compiled by torch.compile, each as one graph for batches of any mix.
        workers: Threads that read the images of the next steps while one is computed, each those of a step; 0 reads
            them in between. When not given, up to 4 for data in files, and 0 for others.
        cache_images: Whether decoded images are kept in the cache folder, for all processes and runs on these data:
            where they take at most a quarter of the free memory and of the free disk, and are read more than once.
        validate_every: Steps between looks at the loss on held-out images, by stage: `held_out_loss` in metrics.jsonl.
            It is that of training, weights by `importance` apart, without dropout, augmentation and withheld classes,
            at the same times and with the same noise each time, whatever the run's seed. 0 never looks.
        validate_images: Held-out images that are looked at, at most; each is, in each stage.
        validate_weights: The weights whose loss it is: the average that is sampled ("ema"; the last ones where none
            are kept), or the last ones ("raw").
        stop: When a stage has learned enough, by these looks; never when not given.
        sample_every: Steps between contact sheets, which are drawn as `[sampling]` says. 0 draws none.
        sample_images: Images on a contact sheet, at most: the first ones of `[sampling]`.
        latents: Folder of the latents of the data, as `msdk data encode` keeps them: they are read instead of images,
            which are then not encoded. Nothing that is trained depends on it.
        seed: Seed of the initial weights and of everything drawn in training.
        log_every: Steps between lines of metrics.jsonl.
        checkpoint_every: Steps between checkpoints; the last step always makes one.
        keep: Number of newest checkpoints kept; or "all"; or `{ every = k }`, 2 newest ones and those of every k steps.
        evaluate_every: Steps between evaluations as `[evaluation]` says, each of a checkpoint that is saved for it: the
            numbers are those of `msdk evaluate` afterwards. 0 never evaluates.
    """

    iterations: int = attrs.field(default=100_000, validator=ge(1))
    batch_size: int = attrs.field(default=128, validator=ge(1))
    accumulation: int = attrs.field(default=1, validator=ge(1))
    parallel: Literal["ddp", "fsdp"] = "ddp"
    recompute: bool = False
    objective: Objective | None = None
    noise: NoiseLevel = _left_to_the_schedule()
    stage_draw: StageDraw = attrs.field(factory=lambda: StageDraw(name="natural"), converter=StageDraw.of)
    stage_groups: int | None = attrs.field(default=None, validator=optional(ge(1)))
    mixed: bool = True
    importance: bool = False
    lr: float = attrs.field(default=2e-4, validator=gt(0))
    warmup: int = attrs.field(default=0, validator=ge(0))
    lr_schedule: LRSchedule | None = None
    optimizer: Optimizer | None = None
    betas: tuple[float, float] = attrs.field(default=(0.9, 0.999), validator=deep_iterable([ge(0), lt(1)]))
    weight_decay: float = attrs.field(default=0.0, validator=ge(0))
    sanitize: bool = False
    gradients: Combination | None = None
    gradient_cosine: bool = False
    clip_norm: float = attrs.field(default=1.0, validator=ge(0))
    ema_decay: float = attrs.field(default=0.9999, validator=[ge(0), lt(1)])
    ema_half_life: float = attrs.field(default=0.0, validator=ge(0))
    ema_ramp: float = attrs.field(default=0.05, validator=ge(0))
    averages: tuple[Average, ...] | None = None
    average_by: Literal["step", "stage"] = "step"
    snapshot_every: int = attrs.field(default=0, validator=ge(0))
    flip: bool = False
    augment: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    label_dropout: float = attrs.field(default=0.0, validator=[ge(0), le(1)])
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    workers: int | None = attrs.field(default=None, validator=optional([ge(0), le(64)]))
    cache_images: bool = True
    validate_every: int = attrs.field(default=0, validator=ge(0))
    validate_images: int = attrs.field(default=2048, validator=ge(1))
    validate_weights: Literal["ema", "raw"] = "ema"
    stop: Stop | None = None
    sample_every: int = attrs.field(default=0, validator=ge(0))
    sample_images: int = attrs.field(default=64, validator=[ge(1), le(1024)])
    latents: Path | None = None
    seed: int = attrs.field(default=0, validator=ge(0))
    log_every: int = attrs.field(default=100, validator=ge(1))
    checkpoint_every: int = attrs.field(default=10_000, validator=ge(1))
    keep: int | Literal["all"] | Keep = attrs.field(default=2, validator=at_least_one)
    evaluate_every: int = attrs.field(default=0, validator=ge(0))

    def groups(self, images: int) -> int:
        """Groups of one stage each that a batch of so many images is cut into."""
        if self.stage_groups is not None:
            return self.stage_groups
        return images if self.mixed and self.stage_draw.grouped else 1

    @property
    def averaged(self) -> bool:
        """Whether averaged weights are kept."""
        return bool(self.kept_averages)

    @property
    def kept_averages(self) -> tuple[Average, ...]:
        """The averages that are kept, whichever way they are given; the first is what is sampled."""
        if self.averages is not None:
            return self.averages
        half_life: Any = averages.get("msdk:half-life")
        ramped: Any = averages.get("msdk:ramped")
        if self.ema_half_life:
            return (half_life(images=self.ema_half_life, ramp=self.ema_ramp),)
        return (ramped(value=self.ema_decay),) if self.ema_decay else ()

    @property
    def loss(self) -> Objective:
        """The objective, named or not."""
        if self.objective is not None:
            return self.objective
        return objectives.get("msdk:denoising")()

    @property
    def rule(self) -> Optimizer:
        """The optimiser, whichever way it is given."""
        if self.optimizer is not None:
            return self.optimizer
        adam: Any = optimizers.get("msdk:adamw")
        return adam(betas=self.betas, weight_decay=self.weight_decay)
