"""Finds the weights in what the originals save: prefixes, wrappers, and lists or copies of averages."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from msdk.errors import PartError
from msdk.pretrained.pieces import Piece, listed
from msdk.schedules.base import Schedule
from msdk.schedules.vp_discrete import VPDiscrete

Weights = Literal["raw", "ema"]
"""The weights as trained, or their moving averages where the original saves both."""


def weights_of(family: str, saved: Mapping[str, Any], pieces: Sequence[Piece], weights: Weights) -> Mapping[str, Any]:
    """The state dict under the names of the original's network.

    Args:
        family: Whose checkpoint it is.
        saved: A plain state dict, or the dictionary that the original's training saves.
        pieces: The network's.
        weights: "ema" for score_sde's `ema.shadow_params` (a list in the order of parameters), or LDM's `model_ema.`.

    Raises:
        PartError: There are no averages.
    """
    if family.endswith(("score_sde", "score-sde")):
        return _score_sde(saved, pieces, weights)
    if family.endswith("ldm"):
        return _ldm(saved, pieces, weights)
    if family in ("vq", "kl") and weights == "raw":
        return first_stage(saved)
    if weights == "ema":
        raise PartError(f"a checkpoint of {family} holds one set of weights, which are averages already: ask for 'raw'")
    return saved


def _score_sde(saved: Mapping[str, Any], pieces: Sequence[Piece], weights: Weights) -> Mapping[str, Any]:
    model: Mapping[str, Any] = saved["model"] if isinstance(saved.get("model"), Mapping) else saved
    model = {key.removeprefix("module."): value for key, value in model.items()}
    if weights == "raw":
        return model
    averages = _averages(saved)
    if averages is None:
        raise PartError("this checkpoint has no averaged weights (ema.shadow_params): ask for 'raw'")
    return model | listed(pieces, averages)  # what is not trained is not averaged


def _averages(saved: Mapping[str, Any]) -> list[Tensor] | None:
    """The list of averages, where there is one."""
    ema: Any = saved.get("ema", saved)
    found: Any = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    return found if isinstance(found, list) and all(isinstance(one, Tensor) for one in found) else None


def has_averages(saved: Mapping[str, Any]) -> bool:
    """Whether averages lie beside the raw weights."""
    inner: Any = saved.get("state_dict", saved)
    return _averages(saved) is not None or any(str(key).startswith("model_ema.diffusion") for key in inner)


_NETWORK, _FIRST_STAGE = "model.diffusion_model.", "first_stage_model."


def first_stage(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights of the autoencoder, of a checkpoint of its own or of a whole LDM; without those of its loss."""
    saved = saved["state_dict"] if isinstance(saved.get("state_dict"), Mapping) else saved
    if any(key.startswith((_NETWORK, _FIRST_STAGE)) for key in saved):
        saved = {key.removeprefix(_FIRST_STAGE): value for key, value in saved.items() if key.startswith(_FIRST_STAGE)}
    return {key: value for key, value in saved.items() if not key.startswith("loss.")}


def _ldm(saved: Mapping[str, Any], pieces: Sequence[Piece], weights: Weights) -> Mapping[str, Any]:
    saved = saved["state_dict"] if isinstance(saved.get("state_dict"), Mapping) else saved
    if weights == "ema":
        # Names of buffers may hold no dots, so the original removes them.
        dotless = {f"model_ema.diffusion_model.{piece.key}".replace(".", ""): piece.key for piece in pieces}
        averages = {dotless[name]: value for key, value in saved.items() if (name := key.replace(".", "")) in dotless}
        if not averages:
            raise PartError("this checkpoint has no averaged weights (model_ema.): ask for 'raw'")
        return averages
    whole = any(key.startswith(_NETWORK) for key in saved)  # diffusion, network and autoencoder in one
    if not whole:
        return saved
    return {key.removeprefix(_NETWORK): value for key, value in saved.items() if key.startswith(_NETWORK)}


def check_betas(saved: Mapping[str, Any], schedule: Schedule) -> None:
    """Raises `PartError` where a whole LDM checkpoint was trained under another diffusion than the config says."""
    inner: Any = saved.get("state_dict", saved)
    betas: Any = inner.get("betas")
    if not isinstance(betas, Tensor) or not isinstance(schedule, VPDiscrete):
        return
    alphas = [schedule.alpha((step + 1) / schedule.steps) ** 2 for step in range(schedule.steps)]
    wanted = [1 - after / before for before, after in itertools.pairwise([1.0, *alphas])]
    if len(betas) != len(wanted) or not torch.allclose(betas.double(), torch.tensor(wanted).double(), rtol=1e-3):
        raise PartError(
            f"the checkpoint's diffusion has {len(betas)} steps with betas from {float(betas[0]):.6g} to "
            f"{float(betas[-1]):.6g}, but the config means {len(wanted)} from {wanted[0]:.6g} to {wanted[-1]:.6g}: set "
            "timesteps, linear_start and linear_end in the config"
        )
