"""Runs with wider decoders, whose outputs are those of the run that they were made from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from torch import Tensor

from msdk.arguments import as_annotated
from msdk.denoiser.building import build
from msdk.errors import RunError
from msdk.recipe.differences import compare
from msdk.runs import load_checkpoint, run_recipe, start_run
from msdk.runs.checkpoint import stored, write_checkpoint
from msdk.runs.folder import latest, refuse_existing
from msdk.runs.forking import digest_of
from msdk.runs.lock import class_names, read_lock
from msdk.runs.starting import carry


@as_annotated
def widen(run: str | Path, out: str | Path, overrides: Sequence[str]) -> Path:
    """Makes a run folder of a run with wider decoders, at the same iteration, with the same outputs.

    Averages are widened like the weights. What the optimiser keeps of a widened decoder begins anew. U-Nets get new
    channels, which weigh nothing at first; transformers, whose norms mix all channels, copies of the old ones.

    Args:
        run: A run folder with a checkpoint.
        out: The new run folder.
        overrides: Of the run's recipe, `"decoders.0.channels=64"`.

    Returns:
        The new run folder.

    Raises:
        RunError: `out` exists; overrides change something else; or a decoder cannot be widened with the same outputs,
            which is told with the reason.
    """
    run, out = Path(run), Path(out)
    refuse_existing(out, force=False)
    parent = run_recipe(run)
    recipe = run_recipe(run, overrides)
    parent, recipe = (each.with_partition(each.partition()) for each in (parent, recipe))
    changed = [one.path for one in compare(parent, recipe)]
    others = [key for key in changed if not key.startswith("decoders.")]
    if others or not changed or len(parent.decoders) != len(recipe.decoders):
        what = (
            f"not {', '.join(others[:3])}" if others else "and nothing changed" if not changed else "not their number"
        )
        raise RunError(f"widening changes decoders alone, {what}: say --set decoders.0.channels=64, for example")
    old, source = load_checkpoint(latest(run)), latest(run)
    network = build(recipe).network
    parts = {
        f"{kind}.{k}": f"{kind}.{k}" for kind, inner in network.named_children() for k, _ in inner.named_children()
    }
    numbers = [str(place) for place in range(1, len(parent.training.kept_averages))]
    kept = [old.model, *([old.ema] if old.ema else []), *(_under(f"{number}/", old.averages) for number in numbers)]
    found = carry(recipe, parent, network, build(parent, "meta").network, parts, kept)
    if len(found.parts) < len(parts) or found.told:
        raise RunError(f"{run} cannot be widened: {'; '.join(found.told)}")
    model, *rest = found.states
    ema = rest.pop(0) if old.ema else {}
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    new = attrs.evolve(
        old,
        model=model,
        ema=ema,
        averages={
            f"{number}/{name}": value
            for number, each in zip(numbers, rest, strict=True)
            for name, value in each.items()
        },
        optimizer=found.moments(old.optimizer, trained),
        optimizer_numbers={
            **old.optimizer_numbers,
            "state": found.moments(old.optimizer_numbers.get("state", {}), trained),
        },
    )
    lock = read_lock(run)
    origin = {"run": str(run), "checkpoint": source.name, "sha256": digest_of(stored(source, "model"))}
    start_run(
        out,
        recipe,
        data_digest=lock.data.get("sha256", ""),
        class_names=class_names(run),
        protocol=lock.data.get("protocol", ""),
        forked_from=[{**origin, "widened": ", ".join(sorted(found.widened))}, *lock.forked_from],
        started_from=lock.started_from,
        furnish=lambda folder: write_checkpoint(folder, new),
    )
    return out


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
