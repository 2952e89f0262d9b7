"""One training step: the only place where one is computed, be it of a run or of a budget on made-up images.

A step is a function of the weights, a batch, a draw and its number: encoding, the objective's loss of every image,
gradients, update. What it is given is made in `msdk.training.drawing`; budgets simulate it on tensors without storage
(`msdk.budgeting.memory`) and time it on a device (`msdk.budgeting.measuring`).
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msdk.autoencoders.base import FirstStage
from msdk.batch import Batch, Encoded
from msdk.denoiser import Denoiser
from msdk.denoiser.declared import built
from msdk.denoiser.weights import settle
from msdk.distributed import Group, alive
from msdk.errors import PartError
from msdk.objectives.base import Draw, Following, Loss, Taught
from msdk.recipe import Recipe, Training
from msdk.runs import load_run
from msdk.training.combining import SharedGradients, by_stage
from msdk.training.dealing import Hand
from msdk.training.drawing import layout, mixed_seed
from msdk.training.ema import EMA
from msdk.training.latents import drawn, moments_of
from msdk.training.sharding import Trained, clip, norm_of, refuse_whole, rows, shard, take_gradients
from msdk.training.summing import GradientSums, stages_of

Losses = Callable[[Batch, Draw, Denoiser], Tensor]

INFINITE = 1e5
"""What EDM puts in the place of an infinite gradient of its loss."""


class TrainingStep:
    """A denoiser in training, with what changes it; calling it makes one optimiser step.

    Args:
        recipe: Its training is used.
        denoiser: On the device of the training, see `in_training`; its weights are changed in place.
        group: The processes that share the step; this one alone when not given.

    Attributes:
        objective: What is minimised, as the recipe's objective builds it.
        trained: All that is trained, averaged and saved: `network` and `objective`.
        optimizer: As the recipe's optimiser builds it.
        emas: Averages of what is trained, as many as the recipe keeps; the first is what is sampled.
        sharded: Whether this process keeps rows of the weights, and of all that belongs to them.
        own: What the optimiser moves of each weight that is trained: all of it, or this process's rows.
        scaler: What keeps the gradients of float16 in its range; None in other precisions.
        shared: Gradients of what stages share, where these are combined or looked at; None elsewhere.
        turns: Steps in which each stage had images, where averages go by them (`training.average_by`).
        images: Of each stage in the next step, of the whole batch; whoever makes steps says so where that is.
        measures: Whether the norm of the next gradient is wanted, also where nothing is clipped by it.
    """

    def __init__(self, recipe: Recipe, denoiser: Denoiser, group: Group | None = None) -> None:
        options = recipe.training
        self.recipe, self.denoiser, self.group = recipe, denoiser, group or Group()
        denoiser.network.set_recompute(options.recompute)
        self.objective = objective_of(recipe, denoiser)
        self.trained = Trained({"network": denoiser.network, "objective": cast("nn.Module", self.objective)})
        self.sharded = options.parallel == "fsdp" and self.group.rank.count > 1
        if self.sharded:
            refuse_whole(options.rule)
            shard(self.trained, denoiser.place.device, self.group)
        self.own = [rows(each) if self.sharded else each for each in self.trained.parameters()]
        self.sums = None if self.sharded else GradientSums(self.trained, self.group)
        self.shared = (
            SharedGradients(self.trained, self.own, len(recipe.decoders), options.gradients, self.group)
            if options.gradients is not None or options.gradient_cosine
            else None
        )
        self.optimizer = options.rule.build(self.own, options.lr)
        by_stage = stages_of(self.trained) if options.average_by == "stage" else {}
        self.emas = [EMA(self.trained, average, options.batch_size, by_stage) for average in options.kept_averages]
        self.turns, self.images = [0] * len(recipe.decoders), list[int]()
        if self.sharded and options.precision == "fp16":  # each process would scale by what its own rows hold
            told = 'training.precision = "fp16" needs whole gradients: use "bf16", or training.parallel = "ddp"'
            raise PartError(told)
        self.scaler = scaler_for(recipe, self.trained, denoiser.place.device)
        self.measures, self._norm = False, cast("Tensor | None", None)
        # EDM's bound is of the sum over an image's numbers, whose mean is the loss here.
        self.bound = INFINITE / math.prod(recipe.shape)

    @property
    def ema(self) -> EMA | None:
        """The average that is sampled; None where the recipe keeps none."""
        return self.emas[0] if self.emas else None

    def __call__(self, batch: Batch, draw: Draw, iteration: int, hand: Hand | None = None) -> Float[Tensor, " batch"]:
        """One step: the loss of every image, on their device; 0 of those that do not count.

        Args:
            batch: Images in the range that the network wants, with their conditions, on its device.
            draw: Of these images.
            iteration: Steps done before this one.
            hand: Which images of the whole batch they are; all of it, in equal micro-batches, when not given.
        """
        if self.images:
            self.turns = [turns + bool(images) for turns, images in zip(self.turns, self.images, strict=True)]
        # An idle decoder keeps no gradient, so Adam leaves it alone. Old gradients go before activations come.
        self.optimizer.zero_grad(set_to_none=True)
        images, parts = len(batch.images), self.recipe.training.accumulation
        total, sizes = (images, (images // parts,) * parts) if hand is None else (hand.total, hand.sizes)
        flags: Sequence[Tensor | None] = [None] * len(sizes)
        if hand is not None and hand.counted is not None:
            flags = hand.counted.to(batch.images.device, non_blocking=True).split(list(sizes))
        values: list[Tensor] = []
        shared = self._apart(iteration)
        for done, (each, own, counted) in enumerate(zip(batch.split(sizes), draw.split(sizes), flags, strict=True), 1):
            if self.sums is not None and done == len(sizes) and shared is None:
                self.sums.expect(set(own.stages.tolist()))
            if not len(own.stages):
                continue  # all of its images are of stages that stay as they are
            # Networks in shards talk with other processes.
            with alive(alone=False) if self.sharded else contextlib.nullcontext():
                if shared is None:
                    values.append(self._backward(each, own, counted, total))
                else:
                    values.append(self._backward_apart(shared, each, own, counted, total))
        if self.sums is not None:
            self.sums.finish()
        else:
            take_gradients(self.trained, self.own)
        if shared is not None:
            self._put(shared, iteration)
        self.update(iteration)
        return torch.cat(values) if values else draw.noise.new_zeros(0)

    def _backward(self, batch: Batch, draw: Draw, counted: Tensor | None, total: int) -> Tensor:
        """Adds the gradients of a micro-batch to those of its step, whose loss is a mean over so many images.

        Returns:
            The loss of every image; 0 of those that do not count.
        """
        moments = isinstance(batch, Encoded)
        images = encoded(self.recipe, self.denoiser, batch.images, draw.posterior, moments=moments)
        clean = Batch(images, batch.condition)
        values = image_losses(self.trained, self.recipe, self.denoiser, clean, draw)
        values = values if counted is None else values * counted
        if values.requires_grad:  # images of stages that are wholly frozen alone teach nothing
            loss = values.sum() / total
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return values.detach()

    def _apart(self, iteration: int) -> SharedGradients | None:
        """What takes the gradients of the stages one by one, in the steps that do."""
        if self.shared is not None:
            self.shared.forget()
        options = self.recipe.training
        wanted = options.gradients is not None or (iteration + 1) % options.log_every == 0
        return self.shared if wanted else None

    def _backward_apart(
        self, shared: SharedGradients, batch: Batch, draw: Draw, counted: Tensor | None, total: int
    ) -> Tensor:
        """As `_backward`, stage by stage."""
        pieces, places = by_stage(batch, draw, counted)
        values: list[Tensor] = []
        for stage, own, drawn_for, flags in pieces:
            values.append(self._backward(own, drawn_for, flags, total))
            shared.take(stage)
        return torch.cat(values).index_select(0, places)

    def _put(self, shared: SharedGradients, iteration: int) -> None:
        options = self.recipe.training
        unit = None if self.scaler is None else self.scaler.scale(torch.ones((), device=self.denoiser.place.device))
        # In float16 what overflows has to be seen, so that the step is left out.
        bound = self.bound if options.sanitize and self.scaler is None else None
        seed = mixed_seed(options.seed, "gradients", iteration)
        shared.put(iteration, seed, sharded=self.sharded, unit=unit, bound=bound)

    def update(self, iteration: int) -> None:
        """Takes the gradients in: sanitized, clipped, by the optimiser at the step's learning rate, then averaged.

        In float16 they are divided by their scale first. Where one is not finite, which all processes see alike since
        they have the same sums, the optimiser leaves everything as it is, and the scale falls; learning rate and
        averages go by the number of the step all the same.
        """
        options = self.recipe.training
        gradients = [weight.grad for weight in self.own if weight.grad is not None]
        scaler = self.scaler if gradients else None
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if options.sanitize:
            for gradient in gradients:
                gradient.nan_to_num_(nan=0.0, posinf=self.bound, neginf=-self.bound)
        self._norm = None
        if options.clip_norm and not self.sharded:
            self._norm = torch.nn.utils.clip_grad_norm_(self.own, options.clip_norm)
        elif gradients and (options.clip_norm or self.measures):
            self._norm = norm_of(gradients, self.group if self.sharded else None)
            if options.clip_norm:
                clip(gradients, self._norm, options.clip_norm)
        rate = learning_rate(options, iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if scaler is None:
            self.optimizer.step()
        else:  # fused optimisers look at the device whether to step; others make the host look, once a step
            scaler.step(self.optimizer)
            scaler.update()
        if hasattr(self.objective, "follow"):
            cast("Following", self.objective).follow(self.denoiser, iteration)
        for ema in self.emas:
            ema.update(iteration + 1, self._turns())

    def _turns(self) -> dict[int, tuple[int, int]] | None:
        """What averages that go by stages are told of a step."""
        if self.recipe.training.average_by != "stage" or not self.images:
            return None
        return {stage: (self.turns[stage], images) for stage, images in enumerate(self.images) if images}

    def gradient_norm(self) -> float | None:
        """That of the whole gradient of the last step, before it was clipped, where it is known and finite.

        Waits for the device.
        """
        found = math.nan if self._norm is None else float(self._norm)
        return found if math.isfinite(found) else None


def learning_rate(options: Training, iteration: int) -> float:
    """The learning rate of the step after so many."""
    rate = options.lr * (min(iteration / options.warmup, 1.0) if options.warmup else 1.0)
    if options.lr_schedule is not None:
        rate *= options.lr_schedule.factor(iteration, options.iterations)
    return rate


def objective_of(recipe: Recipe, denoiser: Denoiser) -> Loss:
    """The recipe's objective for a denoiser, with its initial weights, on the denoiser's device."""
    loss, device = recipe.training.loss, denoiser.place.device
    objective = cast("nn.Module", built(loss, lambda: loss.build(denoiser)))
    if any(tensor.device != device for tensor in objective.state_dict().values()):
        objective = objective.to(device)  # tensors without storage cannot be moved, nor need they be
    teacher: Path | None = getattr(loss, "teacher", None)
    simulated = device.type == "meta" or type(denoiser.place) is not Tensor  # as in budgets: nothing is learnt there
    if teacher is not None and not simulated and hasattr(objective, "teach"):
        cast("Taught", objective).teach(load_run(teacher, device=device))
    return cast("Loss", settle(objective))


def in_training(denoiser: Denoiser) -> Denoiser:
    """The denoiser in training mode, its weights laid out as images are."""
    denoiser.train()
    for tensor in (*denoiser.parameters(), *denoiser.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=layout(4))
    return denoiser


@torch.no_grad()
def encoded(
    recipe: Recipe,
    denoiser: Denoiser,
    images: Float[Tensor, "batch c *axes"],
    noise: Float[Tensor, "batch d *inner"] | None = None,
    *,
    moments: bool = False,
) -> Float[Tensor, "batch d *inner"]:
    """What the network learns to denoise: images in [-1, 1], or their scaled latents under the recipe's precision.

    Args:
        recipe: Of the run.
        denoiser: With its autoencoder.
        images: In its range; or with `moments` what the autoencoder has made of them.
        noise: Draws latents from their Gaussians; their means are taken without.
        moments: Whether images were encoded before, see `msdk.training.latents`.
    """
    if denoiser.autoencoder is None or not (moments or noise is not None):
        with autocast(recipe, images.device):
            return denoiser.encode(images).to(images.dtype)
    first_stage, dtype = denoiser.autoencoder, images.dtype
    if not moments:
        with autocast(recipe, images.device):
            images = moments_of(first_stage, images).to(dtype)
    elif noise is None:
        means = images[:, : denoiser.shape[0]]  # log-variances lie behind them
        images = means.to(DTYPES[recipe.training.precision])  # as it came out of the autoencoder, and is scaled there
    return (drawn(images, noise) * cast("FirstStage", first_stage).scale).to(dtype)


def image_losses(loss: Losses, recipe: Recipe, denoiser: Denoiser, batch: Batch, draw: Draw) -> Float[Tensor, " batch"]:
    """The loss of every clean image under the recipe's precision, by an objective's `loss` or all that is trained."""
    with autocast(recipe, batch.images.device):
        return loss(batch, draw, denoiser)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision of a recipe -> what its networks compute in."""


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Runs networks in the recipe's precision."""
    dtype = DTYPES[recipe.training.precision]
    half = dtype != torch.float32
    return torch.autocast(device.type, dtype if half else torch.bfloat16, enabled=half)


def scaler_for(recipe: Recipe, trained: nn.Module, device: torch.device) -> torch.amp.GradScaler | None:
    """What scales the loss where gradients would vanish in float16; None in other precisions.

    Source: Micikevicius et al. 2018, arXiv 1710.03740; the scale is torch's: halved after a step that overflows,
    doubled after 2,000 that do not.

    Raises:
        PartError: Weights are of a dtype whose gradients have no scale.
    """
    if recipe.training.precision != "fp16":
        return None
    for name, weight in trained.named_parameters():
        if weight.requires_grad and weight.dtype not in (torch.float32, torch.float64):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise PartError(f'training.precision = "fp16" is for weights of float32, but {name} is {dtype}: use "bf16"')
    scaler = torch.amp.GradScaler(device.type)
    scaler.scale(torch.zeros((), device=device))  # now it has a scale, which checkpoints keep
    return scaler
