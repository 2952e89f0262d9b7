"""Event files for TensorBoard."""

import importlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from msdk.errors import PluginError
from msdk.trackers.base import Log, Numbers, Tracker, scalars, told

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.recipe import Recipe


def _own_folder(_: object, __: object, value: str) -> None:
    # A recipe can come from a stranger, who is not to say where files are written.
    if (
        not re.fullmatch(r"[A-Za-z0-9][\w.-]*", value)
        or value in ("checkpoints", "code", "sheets", "snapshots")
        or value.startswith("samples")
    ):
        raise ValueError(f"'{value}' must be the name of a folder of its own in the run folder, like tensorboard")


@attrs.frozen(kw_only=True)
class TensorBoard(Tracker):
    """Event files in `folder` of the run folder, for `tensorboard --logdir`. Needs msdk-diffusion[tensorboard].

    Numbers by stage are `loss_by_stage/0`, `loss_by_stage/1`, ...; where a run repeats steps, TensorBoard shows the
    later ones, and where the tracker is new in a run that goes on, also what metrics.jsonl says of the steps before.

    Args:
        folder: Its name in the run folder.
    """

    folder: str = attrs.field(default="tensorboard", validator=_own_folder)

    def open(self, run_dir: Path, recipe: "Recipe") -> Log:
        try:
            writer: Any = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError as error:
            raise PluginError(
                "the tracker 'tensorboard' needs the package tensorboard: pip install 'msdk-diffusion[tensorboard]', "
                "or leave it out of the recipe's trackers"
            ) from error
        return _Events(run_dir, run_dir / self.folder, writer)


@attrs.define
class _Events(Log):
    """Opened at the first number, since a writer makes its folder and file at once."""

    run_dir: Path
    path: Path
    make: Any
    writer: Any = None
    first: int | None = None
    """The step from which TensorBoard is to forget what older files say."""

    def log(self, step: int, numbers: Numbers) -> None:
        self._tell(step, numbers)
        self._opened().flush()  # a killed run loses nothing that its checkpoints know

    def image(self, name: str, step: int, image: "Tensor") -> None:
        self._opened().add_image(name, image, step)
        self._opened().flush()

    def rewind(self, step: int) -> None:
        if not self.path.exists():  # it is new in this run
            for before, numbers in told(self.run_dir, step):
                self._tell(before, numbers)
        else:
            self.first = step + 1

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _tell(self, step: int, numbers: Numbers) -> None:
        for name, number in scalars(numbers):
            self._opened().add_scalar(name, number, step)

    def _opened(self) -> Any:
        if self.writer is None:
            _wait_for_a_later_name(self.path)
            self.writer = self.make(str(self.path), purge_step=self.first)
        return self.writer


def _wait_for_a_later_name(folder: Path) -> None:
    # TensorBoard reads event files by their names: the second, then host and process, which say nothing of the order. A
    # run that is resumed in the second of its last file would be read before it. A clock set back is not waited for.
    seconds = [int(each.name.split(".")[3]) for each in folder.glob("events.out.tfevents.[0-9]*.*")]
    ahead = max(seconds, default=0) + 1 - time.time()
    if 0 < ahead <= 2:
        time.sleep(ahead)
