"""Published checkpoints -> Denoiser (or autoencoder): the same numbers from the original weights, under our names."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, overload

import torch
from torch import nn

from msdk.arguments import as_annotated
from msdk.autoencoders.kl import KL
from msdk.autoencoders.vq import VQ
from msdk.denoiser import Denoiser
from msdk.denoiser.building import build_autoencoder, join, known_device
from msdk.encoders.base import Shape
from msdk.errors import MsdkError, PartError, UnknownNameError, unknown
from msdk.pretrained import edm, ldm, score_sde
from msdk.pretrained.autoencoders import pieces_of, spec_of
from msdk.pretrained.checkpoints import Weights, check_betas, weights_of
from msdk.pretrained.config import Config
from msdk.pretrained.pieces import Original, assembled

FAMILIES: Mapping[str, Callable[[str, Config], Original]] = {
    "edm": edm.original,
    "vp": edm.original,
    "ve": edm.original,
    "iddpm": edm.original,
    "score_sde": score_sde.original,
    "ldm": ldm.original,
    "multistage-edm": edm.original,
    "multistage-score-sde": score_sde.original,
    "multistage-ldm": ldm.original,
}
"""Family -> what knows its configurations and names."""

AUTOENCODERS = ("vq", "kl")
"""Families that are autoencoders."""


def check_family(family: str) -> None:
    """Raises `UnknownNameError` where there is no such family of checkpoints."""
    known = (*FAMILIES, *AUTOENCODERS)
    if family not in known:
        raise UnknownNameError(unknown("family of checkpoints", family, known))


def original_of(family: str, config: Mapping[str, Any]) -> Original:
    """What a configuration means, see the family's `original`; raises `PartError` for one that cannot be meant."""
    with _readable():
        return FAMILIES[family](family, Config(config))


def autoencoder_of(family: str, config: Mapping[str, Any]) -> tuple[VQ | KL, Shape]:
    """The spec of an autoencoder and the shape of its images; raises `PartError` likewise."""
    with _readable():
        return spec_of(config, family)


@contextmanager
def _readable() -> Generator[None]:
    """Values of a wrong kind, a text for a number say, become errors that say so."""
    try:
        yield
    except MsdkError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        reason = error.args[0] if isinstance(error, ValueError) and error.args else f"{type(error).__name__}: {error}"
        raise PartError(f"the config has a value that its constructor could not take: {reason}") from error


@overload
def load_pretrained(  # pyright: ignore[reportOverlappingOverload]  "vq" is a str too, and the first that fits is taken
    family: Literal["vq", "kl"],
    state_dict: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    *,
    weights: Weights = "raw",
    device: str | torch.device = "cpu",
) -> nn.Module: ...
@overload
def load_pretrained(
    family: str,
    state_dict: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    *,
    weights: Weights = "raw",
    device: str | torch.device = "cpu",
) -> Denoiser: ...


@as_annotated
def load_pretrained(
    family: str,
    state_dict: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    *,
    weights: Weights = "raw",
    device: str | torch.device = "cpu",
) -> Denoiser | nn.Module:
    """Builds a published network and fills it with the original's weights.

    Args:
        family: "edm", "vp", "ve", "iddpm" (EDM's preconditioners), "score_sde", "ldm", or the paper's
            "multistage-edm", "multistage-score-sde", "multistage-ldm"; or "vq" and "kl" for LDM's autoencoders.
        state_dict: Tensors under the original's names, or the dictionary that its training saves; None leaves the
            network untrained.
        config: The constructor's settings as the original's JSON has them, see the family's `original`.
        weights: "ema" for the averages that score_sde and LDM save beside the weights.
        device: Where to put it; "meta" builds without memory (then `state_dict` must be None).

    Returns:
        A denoiser in eval mode, in float32. Its `t` is sigma for EDM's families, the original's time for score_sde's,
        and (step + 1) / steps for LDM's. For "vq" and "kl" an autoencoder, see `msdk.autoencoders.base.FirstStage`.

    Raises:
        UnknownNameError: There is no such family.
        PartError: A setting is not supported; or keys are missing, unknown or misshapen, which are all listed.
    """
    check_family(family)
    device = known_device(device)
    if family in AUTOENCODERS:
        return _autoencoder(family, state_dict, config, weights, device)
    original = original_of(family, config)
    denoiser = join(original.parts, original.partition, "meta" if str(device) == "meta" else "cpu")
    if state_dict is not None:
        pieces = original.pieces(denoiser.network).found
        found = assembled(pieces, weights_of(family, state_dict, pieces, weights), family)
        if family.endswith("ldm"):
            check_betas(state_dict, original.parts.schedule)
        denoiser.network.load_state_dict(found)
    return denoiser.to(device).eval()


def _autoencoder(
    family: str,
    state_dict: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    weights: Weights,
    device: str | torch.device,
) -> nn.Module:
    spec, shape = autoencoder_of(family, config)
    network = build_autoencoder(spec, shape, "meta" if str(device) == "meta" else "cpu")
    if state_dict is not None:
        pieces = pieces_of(spec, network)
        network.load_state_dict(assembled(pieces, weights_of(family, state_dict, pieces, weights), family))
    return network.to(device).eval()
