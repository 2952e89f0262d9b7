"""The denoiser: a parameterisation around a staged network, routed by a partition of the noise ratio."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from msdk.autoencoders.base import FirstStage
from msdk.encoders.base import Features, Shape
from msdk.errors import PartError
from msdk.parameterizations.base import Coefficients, Parameterization
from msdk.partition import Partition
from msdk.schedules.base import Schedule


class StageNetwork(nn.Module):
    """Encoder and decoder of one stage, for counting, compiling and export. Weights are shared, not copied."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, adapter: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder, self.adapter = encoder, decoder, adapter

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch_or_1"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Float[Tensor, "batch outputs h w"]:
        features: Features = self.encoder(x, c_noise, label, augment)
        if self.adapter is not None:
            features = self.adapter(features)
        return scaled(self.decoder(features), features)


def scaled(output: Tensor, features: Features) -> Tensor:
    """The prediction times the features' `output_scale`, for networks that divide by the noise level."""
    if features.output_scale is None:
        return output
    # Under bf16 the scale would be off by up to 0.4 %, alike for all images of a noise level.
    precise = output.to(torch.promote_types(output.dtype, torch.float32))
    return precise * per_image(features.output_scale, precise)


class StagedNetwork(nn.Module):
    """One decoder per stage behind one shared encoder, or behind an encoder of its own.

    Args:
        encoders: One (shared), or one per decoder (separate).
        decoders: One per stage, least noise first.
        adapters: Between encoder and decoders: none, or one per encoder.
    """

    def __init__(
        self, encoders: Sequence[nn.Module], decoders: Sequence[nn.Module], adapters: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__()
        if len(encoders) not in (1, len(decoders)):
            raise PartError(f"{len(encoders)} encoders for {len(decoders)} decoders: give one, or one for each")
        self.encoders, self.decoders = nn.ModuleList(encoders), nn.ModuleList(decoders)
        self.adapters = nn.ModuleList(adapters)

    @property
    def shared(self) -> bool:
        """Whether all stages use one encoder."""
        return len(self.encoders) == 1

    def encoder(self, stage: int) -> nn.Module:
        """The encoder that a stage uses."""
        return self.encoders[0 if self.shared else stage]

    def adapter(self, stage: int) -> nn.Module | None:
        """The adapter behind the encoder that a stage uses."""
        return self.adapters[0 if self.shared else stage] if len(self.adapters) else None

    def set_recompute(self, recompute: bool) -> None:
        """Says whether training keeps activations or computes them again, to every part with an attribute `recompute`.

        msdk's own networks have it (`msdk.layers.blockwise`); a plugin's may.
        """
        for part in self.modules():
            if hasattr(part, "recompute"):
                cast("Any", part).recompute = recompute

    def features(
        self, x: Tensor, c_noise: Tensor, stage: int, label: Tensor | None = None, augment: Tensor | None = None
    ) -> Features:
        """What the decoder of a stage is given; for a shared encoder the stage does not matter."""
        features: Features = self.encoder(stage)(x, c_noise, label, augment)
        adapter = self.adapter(stage)
        return features if adapter is None else adapter(features)

    def forward(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch_or_1"],
        stage: int,
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Float[Tensor, "batch outputs h w"]:
        """The raw network of one stage; `stage` is a Python int, so that tracing and compiling see no routing.

        Args:
            x: What the network sees: images times `c_in`.
            c_noise: What it is fed as noise level.
            stage: Whose decoder to use.
            label: Class numbers int64 [batch], -1 for none, or rows [batch, classes].
            augment: Augmentation labels [batch, n].
        """
        features = self.features(x, c_noise, stage, label, augment)
        return scaled(self.decoders[stage](features), features)

    def route(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch"],
        stages: Int[Tensor, " batch"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Float[Tensor, "batch outputs h w"]:
        """A batch of mixed stages: a shared encoder runs once on all of it, each decoder once on its own samples.

        Which decoders run is decided on the host, so `stages` on the CPU costs no device synchronisation.
        """
        present, counts = (found.tolist() for found in stages.unique(return_counts=True))
        if len(present) == 1:
            return self(x, c_noise, present[0], label, augment)
        order = stages.argsort(stable=True)
        index, restore = (indices.to(x.device, non_blocking=True) for indices in (order, order.argsort()))
        return self.mixed(x, c_noise, dict(zip(present, counts, strict=True)), index, restore, label, augment)

    def mixed(
        self,
        x: Float[Tensor, "batch c h w"],
        c_noise: Float[Tensor, " batch"],
        counts: Mapping[int, int],
        index: Int[Tensor, " batch"],
        restore: Int[Tensor, " batch"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Float[Tensor, "batch outputs h w"]:
        """What `route` does on the device once it knows where each image goes.

        Args:
            x: Images times `c_in`.
            c_noise: Noise levels.
            counts: Images of each stage that has any, in ascending order of stages.
            index: The images in order of their stages.
            restore: The inverse of that permutation.
            label: As in `forward`.
            augment: As in `forward`.
        """

        # Sorted by stage in front of the encoder, a decoder's features are one piece of the batch: no copies of them.
        def sorted_by_stage(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.to(x.device).index_select(0, index)

        x, c_noise = x.index_select(0, index), c_noise.index_select(0, index)
        label, augment = sorted_by_stage(label), sorted_by_stage(augment)
        sizes = list(counts.values())
        if self.shared:
            pieces = self.features(x, c_noise, 0, label, augment).split(sizes)
            outputs = [scaled(self.decoders[stage](own), own) for stage, own in zip(counts, pieces, strict=True)]
        else:
            nothing = (None,) * len(sizes)
            pieces = (nothing if part is None else part.split(sizes) for part in (x, c_noise, label, augment))
            outputs = [
                self(own_x, own_noise, stage, own_label, own_augment)
                for stage, own_x, own_noise, own_label, own_augment in zip(counts, *pieces, strict=True)
            ]
        return torch.cat(outputs).index_select(0, restore)


class Denoiser(nn.Module):
    """Estimates the clean image from a noisy one, with the decoder of the noise level's stage.

    Args:
        network: The staged network.
        partition: Stage edges in ratio.
        schedule: Gives `t` its meaning.
        parameterization: What the network is fed and what its output means.
        shape: Channels, height and width of what the network sees: of the images, or of their latents.
        classes: Classes of its labels; 0 for an unconditional one.
        unit_range: Whether its images are in [0, 1] instead of [-1, 1].
        autoencoder: Between images and latents, a `FirstStage`; it is frozen here. None where the network sees images.
    """

    def __init__(
        self,
        network: StagedNetwork,
        partition: Partition,
        schedule: Schedule,
        parameterization: Parameterization,
        shape: Shape,
        classes: int = 0,
        *,
        unit_range: bool = False,
        autoencoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if len(partition) != len(network.decoders):
            raise PartError(f"{len(partition)} stages need as many decoders, got {len(network.decoders)}")
        self.network = network
        self.partition, self.schedule, self.parameterization = partition, schedule, parameterization
        self.shape, self.classes, self.unit_range = shape, classes, unit_range
        self.autoencoder = None if autoencoder is None else autoencoder.eval().requires_grad_(False)
        # Says which device and dtype images are to have, also while networks are not loaded (`msdk.offloading`).
        self.register_buffer("place", torch.empty(0), persistent=False)
        self.place: Tensor

    def train(self, mode: bool = True) -> "Denoiser":
        """Sets training mode, in which only the network changes: the autoencoder is frozen and stays in eval mode."""
        super().train(mode)
        if self.autoencoder is not None:
            self.autoencoder.eval()
        return self

    def encode(self, images: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d h2 w2"]:
        """What the network sees of images in its range: their scaled latents, or the images themselves."""
        if self.autoencoder is None:
            return images
        first_stage = cast("FirstStage", self.autoencoder)
        return first_stage.encode(images) * first_stage.scale

    def decode(self, x_0: Float[Tensor, "batch d h2 w2"]) -> Float[Tensor, "batch c h w"]:
        """The images of what the network sees, nominally in [-1, 1]."""
        if self.autoencoder is None:
            return x_0
        first_stage = cast("FirstStage", self.autoencoder)
        return first_stage.decode(x_0 / first_stage.scale)

    def forward(
        self,
        x_t: Float[Tensor, "batch c h w"],
        t: float | Tensor,
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Float[Tensor, "batch c h w"]:
        """Estimates x_0.

        Args:
            x_t: Noisy images.
            t: One time for the whole batch as a float (no device synchronisation), or a tensor [batch] of mixed
                stages; on the CPU it costs no synchronisation either.
            label: Class numbers int64 [batch], -1 for none, or rows [batch, classes]; None for no class at all.
            augment: Augmentation labels [batch, n], for encoders that take them.
        """
        output, c = self.output(x_t, t, label, augment)
        return c.c_skip * x_t + c.c_out * output

    def output(
        self,
        x_t: Float[Tensor, "batch c h w"],
        t: float | Tensor,
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> tuple[Float[Tensor, "batch c h w"], Coefficients[Any]]:
        """The network's own output F, and the coefficients that turn it into x_0, ready to multiply images.

        Of a network that predicts a variance too, F is the first half.
        """
        channels = x_t.shape[1]
        # A noise level fed in bf16 would be off by up to 2 of 999; Apple's devices have no float64.
        precise = torch.float32 if x_t.device.type == "mps" else torch.float64
        if not isinstance(t, Tensor):
            c = self.parameterization.coefficients(self.schedule, float(t))
            c_noise = torch.full((1,), c.c_noise, dtype=precise, device=x_t.device)
            stage = self.partition.at(float(t), self.schedule)
            return self.network(c.c_in * x_t, c_noise, stage, label, augment)[:, :channels], c
        if t.shape != x_t.shape[:1]:
            raise PartError(
                f"t must be a float or have one entry per image, got {tuple(t.shape)} for {len(x_t)} images"
            )
        t = t.double()  # so that stages and scales do not depend on the dtype of the images
        c = self.parameterization.coefficients(self.schedule, t)
        c_noise = c.c_noise.to(x_t.device, precise, non_blocking=True)
        stages = self.partition.at(t, self.schedule)
        shaped = Coefficients(*(per_image(part, x_t) for part in (c.c_skip, c.c_out, c.c_in, c.c_noise)))
        return self.network.route(shaped.c_in * x_t, c_noise, stages, label, augment)[:, :channels], shaped

    def eps(self, x_t: Float[Tensor, "batch c h w"], t: float | Tensor, label: Tensor | None = None) -> Tensor:
        """The noise that the estimate implies: (x_t - alpha x_0) / sigma.

        It is composed from the network's output, because x_t - alpha x_0 cancels near the data.
        """
        return self._combined(x_t, t, label, lambda alpha, sigma: (1 / sigma, -alpha / sigma))

    def score(self, x_t: Float[Tensor, "batch c h w"], t: float | Tensor, label: Tensor | None = None) -> Tensor:
        """The gradient of log p_t at x_t: -eps / sigma."""
        return self._combined(x_t, t, label, lambda alpha, sigma: (-1 / sigma**2, alpha / sigma**2))

    def v(self, x_t: Float[Tensor, "batch c h w"], t: float | Tensor, label: Tensor | None = None) -> Tensor:
        """Velocity alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512)."""
        return self._combined(x_t, t, label, lambda alpha, sigma: (alpha / sigma, -alpha * alpha / sigma - sigma))

    def _combined(
        self, x_t: Tensor, t: float | Tensor, label: Tensor | None, weights: Callable[[Any, Any], tuple[Any, Any]]
    ) -> Tensor:
        """`a x_t + b x_0` for `(a, b) = weights(alpha, sigma)`, with the factor of x_t summed in float64."""
        time: Any = t.double() if isinstance(t, Tensor) else float(t)
        c = self.parameterization.coefficients(self.schedule, time)
        of_x, of_estimate = weights(self.schedule.alpha(time), self.schedule.sigma(time))
        factors: list[Any] = [of_x + of_estimate * c.c_skip, of_estimate * c.c_out]
        if isinstance(t, Tensor):
            factors = [per_image(factor, x_t) for factor in factors]
        output, _ = self.output(x_t, t, label)
        return factors[0] * x_t + factors[1] * output

    def stage(self, index: int) -> StageNetwork:
        """Encoder and decoder of one stage as a module of their own."""
        return StageNetwork(self.network.encoder(index), self.network.decoders[index], self.network.adapter(index))


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """[batch] -> [batch, 1, 1, 1] beside the images."""
    return values.to(images.device, images.dtype, non_blocking=True).view(-1, *[1] * (images.ndim - 1))
