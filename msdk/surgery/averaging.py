"""Averages of any length, made of those that a run kept on the way."""

from pathlib import Path

import attrs
import torch
from torch import Tensor

from msdk.arguments import as_annotated
from msdk.averages.power import LONGEST, Power, coefficients
from msdk.denoiser.building import build
from msdk.denoiser.weights import read_weights, refuse_misfits
from msdk.errors import RunError
from msdk.recipe import Recipe
from msdk.runs import load_checkpoint, run_recipe, start_run
from msdk.runs.checkpoint import Checkpoint, write_checkpoint
from msdk.runs.folder import checkpoints, refuse_existing
from msdk.runs.lock import class_names, read_lock
from msdk.runs.snapshots import snapshots


@as_annotated
def average(run: str | Path, length: float, out: str | Path, *, checkpoint: int | None = None) -> Path:
    """Makes a run folder whose sampled average has another length than those that the run kept.

    The kept averages are multiplied with the coefficients of the best fit to the wanted one and summed (Karras et al.
    2024, arXiv 2312.02696, algorithm 3), in double precision. All else is as in the run's checkpoint; buffers are those
    of the newest snapshot.

    Args:
        run: A run folder whose recipe has `power` in `training.averages`, and `training.snapshot_every`.
        length: Standard deviation of the profile relative to the training so far, below 12^-1/2 = 0.2887.
        out: The new run folder.
        checkpoint: The iteration at which the average ends, of a checkpoint that is there; the newest when not given.

    Returns:
        The new run folder.

    Raises:
        RunError: No such checkpoint; no snapshots until then, or damaged ones; `out` exists; or a length out of range.
    """
    run, out = Path(run), Path(out)
    refuse_existing(out, force=False)
    if not 0 < length < LONGEST:
        raise RunError(f"the length of an average is above 0 and below {LONGEST:.4f}, got {length:g}")
    recipe = run_recipe(run)
    known = {int(path.name): path for path in checkpoints(run)}
    if not known or (checkpoint is not None and checkpoint not in known):
        wanted = "" if checkpoint is None else f" of iteration {checkpoint}"
        raise RunError(f"{run} has no checkpoint{wanted}. Known: {', '.join(map(str, known)) or 'none'}.")
    source = known[max(known) if checkpoint is None else checkpoint]
    old = load_checkpoint(source)
    new = attrs.evolve(old, ema=_made(run, recipe, length, old))
    lock = read_lock(run)
    origin = {"run": str(run), "checkpoint": source.name, "average": f"power, length {length:g}"}
    start_run(
        out,
        recipe,
        data_digest=lock.data.get("sha256", ""),
        class_names=class_names(run),
        protocol=lock.data.get("protocol", ""),
        forked_from=[origin, *lock.forked_from],
        furnish=lambda folder: write_checkpoint(folder, new),
    )
    return out


def _made(run: Path, recipe: Recipe, length: float, checkpoint: Checkpoint) -> dict[str, Tensor]:
    if recipe.training.average_by == "stage":
        raise RunError(
            f"{run} has averages by the steps of each stage (training.average_by), and lengths are made of averages by "
            "all steps alone"
        )
    kept = [(place, each.length) for place, each in enumerate(recipe.training.kept_averages) if isinstance(each, Power)]
    files = snapshots(run, checkpoint.iteration)
    if not kept or not files:
        lacks = "snapshots" if kept else "averages by a power function"
        raise RunError(
            f'{run} has no {lacks}, of which others are made: train with training.averages = [{{ name = "power", '
            'length = 0.05 }, { name = "power", length = 0.1 }] and training.snapshot_every'
        )
    times = [iteration for iteration in files for _ in kept]
    lengths = [each for _ in files for _, each in kept]
    found = coefficients(times, lengths, checkpoint.iteration, [length])[:, 0].tolist()
    network = build(recipe, "meta").network
    averaged = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    whole = {name: torch.zeros_like(value, dtype=_wide(value)) for name, value in checkpoint.model.items()}
    for number, path in enumerate(files.values()):
        content = read_weights(path)
        for order, (place, _) in enumerate(kept):
            prefix = f"{place}/"
            part = {name.removeprefix(prefix): each for name, each in content.items() if name.startswith(prefix)}
            refuse_misfits(checkpoint.model, part, path, "run", ())
            for name, value in part.items():
                if name in averaged and (value.is_floating_point() or value.is_complex()):
                    whole[name].add_(value.to(whole[name].dtype), alpha=found[number * len(kept) + order])
                else:
                    whole[name] = value
    return {name: value.to(checkpoint.model[name].dtype) for name, value in whole.items()}


def _wide(value: Tensor) -> torch.dtype:
    """What sums of a weight are computed in."""
    if value.is_complex():
        return torch.complex128
    return torch.float64 if value.is_floating_point() else value.dtype
