"""Averages as they were on the way, of which others are made after training (`msdk stage ema`)."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from msdk.runs.files import save_tensors, written_whole

FOLDER = "snapshots"
"""Of a run: a file for each time, named by its iteration; "<number of the average>/<weight>" are its tensors."""


def save_snapshot(run: Path, iteration: int, averages: Mapping[str, Tensor]) -> None:
    """Writes `snapshots/ITERATION.safetensors` in a folder that nobody else writes.

    Raises:
        RunError: It cannot be written.
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    with written_whole(folder / f"{iteration:08d}.safetensors") as temporary:
        save_tensors(averages, temporary)


def snapshots(run: Path, last: int) -> dict[int, Path]:
    """The iterations of those that were taken until one, and their files."""
    found = {int(path.stem): path for path in (run / FOLDER).glob("*.safetensors") if path.stem.isdigit()}
    return {iteration: found[iteration] for iteration in sorted(found) if iteration <= last}
