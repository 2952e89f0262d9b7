"""`msdk stage`: what is done to the weights of a run after training."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from msdk.cli import display
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
