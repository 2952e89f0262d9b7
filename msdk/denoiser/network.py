"""The staged network: one decoder per stage behind a shared encoder, or behind encoders of their own."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from msdk.batch import Condition, per_image
from msdk.denoiser.declared import Declared
from msdk.encoders.base import Features
from msdk.errors import PartError


class StageNetwork(nn.Module):
    """Encoder and decoder of one stage, for counting, compiling and export. Weights are shared, not copied."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, adapter: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder, self.adapter = encoder, decoder, adapter

    def forward(
        self,
        x: Float[Tensor, "batch c *axes"],
        c_noise: Float[Tensor, " batch_or_1"],
        label: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Float[Tensor, "batch outputs *axes"]:
        features: Features = self.encoder(x, c_noise, **Condition(label, augment).inputs())
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
        declared: What the parts declare of their outputs, which the first ones are held to.
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        decoders: Sequence[nn.Module],
        adapters: Sequence[nn.Module] = (),
        declared: Declared | None = None,
    ) -> None:
        super().__init__()
        if len(encoders) not in (1, len(decoders)):
            raise PartError(f"{len(encoders)} encoders for {len(decoders)} decoders: give one, or one for each")
        self.encoders, self.decoders = nn.ModuleList(encoders), nn.ModuleList(decoders)
        self.adapters = nn.ModuleList(adapters)
        self.declared = declared

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

    def features(self, x: Tensor, c_noise: Tensor, stage: int, condition: Condition | None = None) -> Features:
        """What the decoder of a stage is given; for a shared encoder the stage does not matter."""
        features: Features = self.encoder(stage)(x, c_noise, **(condition or Condition()).inputs())
        if self.declared is not None:
            self.declared.features(features, x, 0 if self.shared else stage)
        adapter = self.adapter(stage)
        return features if adapter is None else adapter(features)

    def forward(
        self,
        x: Float[Tensor, "batch c *axes"],
        c_noise: Float[Tensor, " batch_or_1"],
        stage: int,
        label: Condition | Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Float[Tensor, "batch outputs *axes"]:
        """The raw network of one stage; `stage` is a Python int, so that tracing and compiling see no routing.

        Args:
            x: What the network sees: images times `c_in`.
            c_noise: What it is fed as noise level.
            stage: Whose decoder to use.
            label: A whole condition; or class numbers int64 [batch], -1 for none, or rows [batch, classes].
            augment: Augmentation labels [batch, n], beside class numbers.
        """
        features = self.features(x, c_noise, stage, Condition.of(label, augment))
        return self._predicted(features, x, stage)

    def _predicted(self, features: Features, x: Tensor, stage: int) -> Tensor:
        """What the decoder of a stage makes of the features of images."""
        found = self.decoders[stage](features)
        if self.declared is not None:
            self.declared.prediction(found, x, stage)
        return scaled(found, features)

    def route(
        self,
        x: Float[Tensor, "batch c *axes"],
        c_noise: Float[Tensor, " batch"],
        stages: Int[Tensor, " batch"],
        condition: Condition | None = None,
    ) -> Float[Tensor, "batch outputs *axes"]:
        """A batch of mixed stages: a shared encoder runs once on all of it, each decoder once on its own samples.

        Which decoders run is decided on the host, so `stages` on the CPU costs no device synchronisation.
        """
        present, counts = (found.tolist() for found in stages.unique(return_counts=True))
        if len(present) == 1:
            return self(x, c_noise, present[0], condition)
        order = stages.argsort(stable=True)
        index, restore = (indices.to(x.device, non_blocking=True) for indices in (order, order.argsort()))
        return self.mixed(x, c_noise, dict(zip(present, counts, strict=True)), index, restore, condition)

    def mixed(
        self,
        x: Float[Tensor, "batch c *axes"],
        c_noise: Float[Tensor, " batch"],
        counts: Mapping[int, int],
        index: Int[Tensor, " batch"],
        restore: Int[Tensor, " batch"],
        condition: Condition | None = None,
    ) -> Float[Tensor, "batch outputs *axes"]:
        """What `route` does on the device once it knows where each image goes.

        Args:
            x: Images times `c_in`.
            c_noise: Noise levels.
            counts: Images of each stage that has any, in ascending order of stages.
            index: The images in order of their stages.
            restore: The inverse of that permutation.
            condition: Of the images.
        """
        # Sorted by stage in front of the encoder, a decoder's features are one piece of the batch: no copies of them.
        x, c_noise = x.index_select(0, index), c_noise.index_select(0, index)
        condition = (condition or Condition()).select(index)
        sizes = list(counts.values())
        if self.shared:
            pieces = zip(self.features(x, c_noise, 0, condition).split(sizes), x.split(sizes), strict=True)
            outputs = [self._predicted(*piece, stage) for stage, piece in zip(counts, pieces, strict=True)]
        else:
            pieces = zip(counts, x.split(sizes), c_noise.split(sizes), condition.split(sizes), strict=True)
            outputs = [self(own_x, own_noise, stage, own) for stage, own_x, own_noise, own in pieces]
        return torch.cat(outputs).index_select(0, restore)
