"""The parts of a denoiser, counted one by one: encoders, adapters, decoders, and both directions of the autoencoder."""

from collections.abc import Collection, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from msdk.budgeting.costs import PartCosts
from msdk.budgeting.counting import count, weightless
from msdk.denoiser import Denoiser
from msdk.denoiser.declared import built
from msdk.encoders.base import Features, Shape
from msdk.objectives.base import Objective
from msdk.threads import threads_for

Label = str
"""Name of a part: "encoder.0", "adapter.0", "decoder.2", "autoencoder.encode", "autoencoder.decode"."""


@threads_for(0)
def count_parts(denoiser: Denoiser, shape: Shape, only: Collection[Label] | None = None) -> dict[Label, PartCosts]:
    """Costs of the parts of a denoiser for one image, each counted once.

    Args:
        denoiser: On any device; the meta device is enough.
        shape: Channels, height and width of what the network is fed.
        only: Which parts; all of them when not given.

    Raises:
        PartError: A part cannot be traced.
    """
    network = denoiser.network
    image = [torch.empty(1, *shape, device="meta"), torch.empty(1, device="meta")]
    if denoiser.classes:
        # A call of a conditional network has a class; augmentation labels are fed in training alone.
        image.append(torch.empty(1, dtype=torch.int64, device="meta"))
    jobs: dict[Label, tuple[nn.Module, Sequence[Tensor]]] = {
        f"encoder.{k}": (_FlatEncoder(encoder), image) for k, encoder in enumerate(network.encoders)
    }
    behind = [f"{kind}.{k}" for kind in ("adapter", "decoder") for k in range(len(network.decoders))]
    if only is None or not set(behind).isdisjoint(only):
        features = [_outputs(jobs[f"encoder.{k}"][0], image) for k in range(len(network.encoders))]
        for k, adapter in enumerate(network.adapters):
            jobs[f"adapter.{k}"] = _FlatAdapter(adapter), features[k]
            features[k] = _outputs(jobs[f"adapter.{k}"][0], features[k])
        for k, decoder in enumerate(network.decoders):
            jobs[f"decoder.{k}"] = _FlatDecoder(decoder), features[0 if network.shared else k]
    if denoiser.autoencoder is not None:
        coders = {name: _Coder(denoiser.autoencoder, name) for name in ("encode", "decode")}
        latents = [torch.empty(1, *denoiser.shape, device="meta")]
        jobs["autoencoder.decode"] = coders["decode"], latents
        if only is None or "autoencoder.encode" in only:
            (decoded,) = _outputs(coders["decode"], latents)
            jobs["autoencoder.encode"] = coders["encode"], [decoded[None]]
    return {label: count(part, inputs) for label, (part, inputs) in jobs.items() if only is None or label in only}


def count_objective(objective: Objective, denoiser: Denoiser) -> PartCosts:
    """The parameters that an objective owns; what it computes beside the network's passes costs no MACs."""
    own = list(cast("nn.Module", built(objective, lambda: objective.build(denoiser))).parameters())
    return PartCosts(
        params=sum(parameter.numel() for parameter in own),
        trained=sum(parameter.numel() for parameter in own if parameter.requires_grad),
        by_operator={"exact": {}, "paper": {}, "fvcore": {}},
        second=0,
        uncounted={},
    )


class _FlatEncoder(nn.Module):
    """Features as plain tensors: a tracer follows those, not named tuples."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> tuple[Tensor, ...]:
        features: Features = self.encoder(x, c_noise, label)
        return (*features.skips, features.bottom, features.embedding)


class _FlatAdapter(nn.Module):
    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        features: Features = self.adapter(Features(tensors[:-2], tensors[-2], tensors[-1]))
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


def _outputs(module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    with weightless(module, "meta") as copied, torch.no_grad():
        return list(copied(*inputs))
