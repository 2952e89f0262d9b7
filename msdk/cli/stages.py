"""`msdk stage`: what is done to the weights of a run after training."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import Set
from msdk.errors import RunError

stages = App(name="stage", help="Change the checkpoints of runs.")


@stages.command(name="gather")
def gather_shards(
    run: Path,
    /,
    *,
    checkpoint: Annotated[int | None, Parameter(help="Its iteration; the newest one by default.")] = None,
) -> None:
    """Put whole files of weights in the place of the shards that training with parallel = "fsdp" leaves.

    Examples: msdk stage gather runs/large / msdk stage gather runs/large --checkpoint 100000

    Parameters
    ----------
    run
        A run folder.
    """
    from msdk.runs import checkpoints, run_recipe
    from msdk.runs.shards import gather

    run_recipe(run)  # told where it is no run folder
    known = {int(path.name): path for path in checkpoints(run)}
    if checkpoint is not None and checkpoint not in known:
        raise RunError(
            f"{run} has no checkpoint of iteration {checkpoint}. Known: {', '.join(map(str, known)) or 'none'}."
        )
    made = gather(run, None if checkpoint is None else known[checkpoint])
    place = known[max(known) if checkpoint is None else checkpoint]
    display.say(f"{place}: made {', '.join(made)}" if made else f"{place} has no shards: nothing was to be done")


@stages.command(name="ema")
def average_weights(
    run: Path,
    /,
    *,
    length: float,
    out: Path,
    checkpoint: Annotated[int | None, Parameter(help="Where the average ends; at the newest one by default.")] = None,
) -> None:
    """Make a run folder whose average has another length, of those that training kept as snapshots (EDM2).

    Examples: msdk stage ema runs/large --length 0.08 --out runs/large-0.08 && msdk sample runs/large-0.08

    Parameters
    ----------
    run
        A run folder whose recipe has averages by a power function, and training.snapshot_every.
    length
        Standard deviation of the average's profile, relative to the training so far: 0.05, 0.1, ...
    out
        The new run folder.
    """
    from msdk.surgery import average

    made = average(run, length, out, checkpoint=checkpoint)
    display.say(f"{made}: its average has length {length:g}")
    display.hint("sample", made)


@stages.command(name="widen")
def widen_decoders(run: Path, /, *, out: Path, overrides: Set = None) -> None:
    """Make a run folder with wider decoders and the same outputs, to go on training.

    Examples: msdk stage widen runs/small --out runs/wide --set decoders.0.channels=64 && msdk train runs/wide --resume

    Parameters
    ----------
    run
        A run folder.
    out
        The new run folder.
    """
    from msdk.surgery import widen

    made = widen(run, out, overrides or [])
    display.say(f"{made}: its outputs are those of {run}")
    display.hint("train", made, "--resume")
