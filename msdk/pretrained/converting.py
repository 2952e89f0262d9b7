"""A published checkpoint file -> a run folder that `msdk sample` and `msdk.load_run` take like any other."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import nn

from msdk import __version__
from msdk.autoencoders.base import Autoencoder
from msdk.datasets.folder import Folder
from msdk.denoiser import Denoiser
from msdk.denoiser.building import AUTOENCODER, Parts
from msdk.encoders.base import Shape
from msdk.errors import PartError, RunError, UnknownNameError, nearest
from msdk.noise_levels.steps import Steps
from msdk.parameterizations.base import Parameterization
from msdk.parameterizations.eps import Eps
from msdk.parameterizations.score import Score
from msdk.pretrained import AUTOENCODERS, autoencoder_of, check_family, load_pretrained, original_of
from msdk.pretrained.autoencoders import pieces_of, spec_of
from msdk.pretrained.checkpoints import Weights, first_stage, has_averages, weights_of
from msdk.pretrained.files import read_checkpoint
from msdk.pretrained.pieces import Piece
from msdk.pretrained.published import PUBLISHED
from msdk.recipe import Recipe, Sampling, Stages, Training
from msdk.recipe.structuring import to_data
from msdk.runs import Checkpoint, refuse_existing, start_run
from msdk.runs.checkpoint import write_checkpoint
from msdk.runs.files import save_tensors, write_json, written_whole
from msdk.runs.writer import one_writer
from msdk.samplers.base import Sampler
from msdk.samplers.dpm_multistep import DPMpp2M
from msdk.samplers.heun import Heun
from msdk.schedules.base import Schedule
from msdk.schedules.vp_discrete import VPDiscrete


@attrs.frozen
class Converted:
    """What a conversion made.

    Attributes:
        folder: The run folder, or for an autoencoder the folder that a recipe's `autoencoder.weights` names.
        config: The configuration's name among the published ones, or the family of the one that was given.
        params: Parameters of the network.
        stages: Number of its stages; 0 for an autoencoder alone.
        autoencoder: The recipe's `[autoencoder]`, where there is one.
        process: Schedule and parameterization that were assumed: names and shapes do not tell them apart.
        averages: Whether the file has averages too (`--weights ema`) and they were not taken.
        latents: Whether samples are latents, because the autoencoder is not in the file or not a published one.
    """

    folder: Path
    config: str
    params: int
    stages: int
    autoencoder: Mapping[str, Any] | None = None
    process: str = ""
    averages: bool = False
    latents: bool = False

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk pretrained convert --json`."""
        return {**attrs.asdict(self), "folder": str(self.folder)}


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

    A whole LDM checkpoint brings its autoencoder along, if that is a published one.

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
    check_family(family)
    refuse_existing(out, force=force)
    if file.resolve().is_relative_to(out.resolve()):
        raise RunError(f"{file} lies in {out}, which would be replaced: choose another --out, or move the file")
    if family in AUTOENCODERS and (out / "recipe.toml").exists():
        raise RunError(f"{out} is the run folder of a diffusion model, which an autoencoder does not replace")
    saved, carried = read_checkpoint(file)
    digest = _digest(file)
    name, settings = _settings(family, saved, config, carried, weights)
    network = load_pretrained(family, saved, settings, weights=weights)
    origin = {"file": file.name, "sha256": digest, "family": family, "weights": weights, "config": settings}

    def tell(folder: Path) -> None:
        write_json(folder / "pretrained.json", origin)

    if family in AUTOENCODERS:
        spec, _ = autoencoder_of(family, settings)
        return _write_autoencoder(out, network, attrs.evolve(spec, weights=out.resolve()), name, tell)
    title = f"{name}, from {file.name}"
    return _write_run(out, family, network, settings, saved, title, name, tell, weights=weights, force=force)


def _write_run(
    out: Path,
    family: str,
    denoiser: Denoiser,
    settings: Mapping[str, Any],
    saved: Mapping[str, Any],
    title: str,
    name: str,
    tell: Callable[[Path], None],
    *,
    weights: Weights,
    force: bool,
) -> Converted:
    parts = original_of(family, settings).parts
    state = denoiser.network.state_dict()
    seen = tuple([0] * len(denoiser.partition))

    def furnish(run: Path) -> None:
        write_checkpoint(run, Checkpoint(0, seen, state, state, {}, 0.0))
        tell(run)

    with tempfile.TemporaryDirectory() as folder:
        spec, shape = (None, parts.shape)
        if family.endswith("ldm"):
            spec, shape = _first_stage(saved, parts.shape, Path(folder))
        recipe = _recipe(parts, denoiser, title=title, autoencoder=spec, shape=shape)
        start_run(out, recipe, force=force, furnish=furnish)
    return Converted(
        out,
        name,
        _params(denoiser),
        len(denoiser.partition),
        autoencoder=None if spec is None else to_data(spec),
        process=f"{to_data(recipe.schedule)['name']}, {to_data(recipe.parameterization)['name']}",
        averages=weights == "raw" and has_averages(saved),
        latents=family.endswith("ldm") and spec is None,
    )


def _write_autoencoder(
    out: Path, network: nn.Module, spec: Autoencoder, name: str, tell: Callable[[Path], None]
) -> Converted:
    out = out.resolve()
    with one_writer(out), written_whole(out) as folder:
        folder.mkdir()
        save_tensors(network.state_dict(), folder / AUTOENCODER)
        write_json(folder / "lock.json", {"msdk": __version__, "autoencoder": name})  # what makes it a folder of ours
        tell(folder)
    usual = to_data(type(spec)())
    own = {key: value for key, value in to_data(spec).items() if key == "name" or usual.get(key) != value}
    return Converted(out, name, _params(network), 0, autoencoder=own)


def _first_stage(saved: Mapping[str, Any], latents: Shape, folder: Path) -> tuple[Autoencoder | None, Shape]:
    """The autoencoder of a whole LDM checkpoint and the shape of its images, if it is a published one."""
    try:
        _, settings = _settings("vq", first_stage(saved), None, None, "raw")
    except PartError:
        return None, latents
    spec, image = spec_of(settings)
    inner: Any = saved.get("state_dict", saved)
    spec = attrs.evolve(spec, scale=float(inner.get("scale_factor", 1.0)))  # LDM measures it on its first batch
    file = folder / AUTOENCODER
    save_tensors(load_pretrained("vq", saved, settings).state_dict(), file)
    factor = image[1] // spec.latent_shape(image)[1]
    return attrs.evolve(spec, weights=file), (image[0], latents[1] * factor, latents[2] * factor)


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
    given = config if config is not None else carried
    if given is not None:
        return family, given
    fitting: list[str] = []
    for name, settings in published.items():
        pieces = _pieces(family, settings)
        found = weights_of(family, saved, pieces, weights)
        shapes = {key: tuple(getattr(value, "shape", ())) for key, value in found.items()}
        if shapes == {piece.key: piece.shape for piece in pieces}:
            fitting.append(name)
    if len(fitting) == 1:
        return fitting[0], published[fitting[0]]
    if fitting:
        raise PartError(
            f"the names and shapes of these weights are those of {' and '.join(fitting)}, which differ in their "
            "diffusion: choose one with --config NAME"
        )
    tried = ", ".join(published) or "none is known"
    raise PartError(
        f"these weights have the names and shapes of no published configuration of {family} ({tried}). Give the "
        "original's constructor settings with --config FILE.json; its error then lists the keys that do not fit"
    )


def _pieces(family: str, settings: Mapping[str, Any]) -> list[Piece]:
    if family in AUTOENCODERS:
        spec, _ = spec_of(settings)
        return pieces_of(spec, load_pretrained(family, None, settings, device="meta"))
    denoiser = load_pretrained(family, None, settings, device="meta")
    return original_of(family, settings).pieces(denoiser.network).found


def _recipe(parts: Parts, denoiser: Denoiser, *, title: str, autoencoder: Autoencoder | None, shape: Shape) -> Recipe:
    """A recipe whose data is still to be named: sampling needs its shape alone."""
    channels, side, _ = shape
    if channels not in (1, 3):
        raise PartError(
            f"this network sees {channels} channels, latents of an autoencoder that is not in the file or not a "
            "published one, and a run draws images: load it with msdk.load_pretrained instead"
        )
    schedule, parameterization = _to_sample(parts)
    sampler: Sampler = DPMpp2M(grid="uniform-lam") if schedule.prior_std == 1 else Heun()
    edges = denoiser.partition.edges
    return Recipe(
        title=title,
        data=Folder(path=Path("data"), size=side, channels=channels),
        schedule=schedule,
        parameterization=parameterization,
        autoencoder=autoencoder,
        stages=Stages(edges_ratio=edges) if edges else Stages(),
        encoder=parts.encoders[0],
        decoders=parts.decoders,
        training=_training(schedule, parameterization),
        sampler=sampler,
        sampling=Sampling(steps=18 if isinstance(sampler, Heun) else 20),
    )


def _to_sample(parts: Parts) -> tuple[Schedule, Parameterization]:
    """The same diffusion in times that samplers can space: for score_sde's held steps, those between them too."""
    schedule, parameterization = parts.schedule, parts.parameterization
    if isinstance(schedule, VPDiscrete) and schedule.clock == "held":
        fed = Eps(time_scale=float(schedule.steps), time_offset=-1.0)
        return attrs.evolve(schedule, clock="steps"), fed
    return schedule, parameterization


def _training(schedule: Schedule, parameterization: Parameterization) -> Training:
    """How training goes on: at whole steps, where the model knows no others."""
    if isinstance(parameterization, Score) and parameterization.feed == "index":
        return Training(noise=Steps(count=parameterization.steps))
    return Training(noise=Steps()) if isinstance(schedule, VPDiscrete) else Training()


def _params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


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
