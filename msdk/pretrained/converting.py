"""A published checkpoint file -> a run folder that `msdk sample` and `msdk.load_run` take like any other."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from msdk.building import Parts
from msdk.checkpoint import Checkpoint, save_checkpoint, start_run, write_json
from msdk.datasets.folder import Folder
from msdk.denoiser import Denoiser
from msdk.errors import PartError, RunError, UnknownNameError, nearest
from msdk.partition import Partition
from msdk.pretrained import FAMILIES, load_pretrained
from msdk.pretrained.checkpoints import Weights, weights_of
from msdk.pretrained.config import Config
from msdk.pretrained.files import read_checkpoint
from msdk.pretrained.pieces import Original, Piece
from msdk.pretrained.published import PUBLISHED
from msdk.recipe import Recipe, Sampling, Stages
from msdk.samplers.base import Sampler
from msdk.samplers.dpmpp import DPMpp2M
from msdk.samplers.heun import Heun


@attrs.frozen
class Converted:
    """What a conversion made.

    Attributes:
        run_dir: The run folder.
        config: The configuration's name among the published ones, or where it came from.
        params: Parameters of the network.
        stages: Number of its stages.
    """

    run_dir: Path
    config: str
    params: int
    stages: int

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk pretrained convert --json`."""
        return {"run": str(self.run_dir), "config": self.config, "params": self.params, "stages": self.stages}


def convert(
    file: str | Path,
    family: str,
    out: str | Path,
    *,
    config: Mapping[str, Any] | str | None = None,
    weights: Weights = "raw",
    force: bool = False,
) -> Converted:
    """Writes a run folder from a checkpoint file of an original program.

    Args:
        file: A .safetensors file, or a torch file of tensors alone; a pickle that needs code is refused.
        family: See `msdk.load_pretrained`.
        out: The run folder.
        config: The constructor's settings, or the name of a published configuration; else what the file itself carries
            as metadata `config`, else the published configuration of the family whose names and shapes are the file's.
        weights: "ema" for the averages that score_sde and LDM save beside the weights.
        force: Replace an existing run folder.

    Raises:
        RunError: The file cannot be read as data, or the folder exists.
        PartError: The weights do not fit the configuration, or no published one.
        UnknownNameError: There is no such family or configuration.
    """
    file, out = Path(file), Path(out)
    _known(family)
    saved, carried = read_checkpoint(file)
    name, settings = _settings(family, saved, config, carried, weights)
    denoiser = load_pretrained(family, saved, settings, weights=weights)
    parts = FAMILIES[family](family, Config(settings)).parts
    recipe = _recipe(parts, denoiser.partition, title=f"{name}, from {file.name}")
    start_run(out, recipe, force=force)
    state = denoiser.network.state_dict()
    seen = tuple([0] * len(denoiser.partition))
    save_checkpoint(out, Checkpoint(0, seen, state, state, {}, 0.0), keep=1)
    origin = {"file": file.name, "sha256": _digest(file), "family": family, "weights": weights, "config": settings}
    write_json(out / "pretrained.json", origin)
    params = sum(parameter.numel() for parameter in denoiser.parameters())
    return Converted(out, name, params, len(denoiser.partition))


def _known(family: str) -> None:
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UnknownNameError(f"no family of checkpoints named '{family}'.{nearest(family, FAMILIES)} Known: {known}.")


def _settings(
    family: str,
    saved: Mapping[str, Any],
    config: Mapping[str, Any] | str | None,
    carried: Mapping[str, Any] | None,
    weights: Weights,
) -> tuple[str, Mapping[str, Any]]:
    """What to call the configuration, and the configuration."""
    published = PUBLISHED.get(family, {})
    if isinstance(config, str):
        if config not in published:
            known = ", ".join(published) or "none"
            raise UnknownNameError(
                f"no published configuration of {family} named '{config}'.{nearest(config, published)} Known: {known}."
            )
        return config, published[config]
    if config is not None or carried is not None:
        return family, config if config is not None else carried or {}
    for name, settings in published.items():
        pieces = _pieces(family, settings)
        found = weights_of(family, saved, pieces, weights)
        shapes = {key: tuple(getattr(value, "shape", ())) for key, value in found.items()}
        if shapes == {piece.key: piece.shape for piece in pieces}:
            return name, settings
    tried = ", ".join(published) or "none is known"
    raise PartError(
        f"these weights have the names and shapes of no published configuration of {family} ({tried}). Give the "
        "original's constructor settings with --config FILE.json; its error then lists the keys that do not fit"
    )


def _pieces(family: str, settings: Mapping[str, Any]) -> list[Piece]:
    original: Original = FAMILIES[family](family, Config(settings))
    network: Denoiser = load_pretrained(family, None, settings, device="meta")
    return original.pieces(network.network).found


def _recipe(parts: Parts, partition: Partition, *, title: str) -> Recipe:
    """A recipe whose data is still to be named: sampling needs its shape alone."""
    channels, side, _ = parts.shape
    sampler: Sampler = DPMpp2M(grid="uniform-lam") if parts.schedule.prior_std == 1 else Heun()
    return Recipe(
        title=title,
        data=Folder(path=Path("data"), size=side, channels=channels),
        schedule=parts.schedule,
        parameterization=parts.parameterization,
        stages=Stages(edges_ratio=partition.edges) if partition.edges else Stages(),
        encoder=parts.encoder,
        decoders=parts.decoders,
        sampler=sampler,
        sampling=Sampling(steps=18 if isinstance(sampler, Heun) else 20),
    )


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read_config(path: Path) -> Mapping[str, Any]:
    """Constructor settings from a JSON file.

    Raises:
        RunError: It cannot be read, or is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} must be a JSON object of constructor settings")
    return found  # pyright: ignore[reportUnknownVariableType]  a JSON object
