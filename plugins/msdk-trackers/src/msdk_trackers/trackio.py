"""Trackio: https://huggingface.co/docs/trackio."""

import contextlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import matches_re

from msdk.errors import MsdkError
from msdk.trackers.base import Log, Tracker
from msdk_trackers.retelling import Line, Retelling, library, new_name

if TYPE_CHECKING:
    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class Trackio(Tracker):
    """Trackio, on this machine: `trackio show --project msdk` shows runs beside each other.

    Needs msdk-trackers[trackio]. It keeps runs in TRACKIO_DIR, or in its own folder without; `trackio sync` brings them
    to a Space. A run that goes on is written anew from metrics.jsonl.

    Args:
        project: Where runs stand beside each other.
    """

    project: str = attrs.field(default="msdk", validator=matches_re(r"[A-Za-z0-9_-]+"))

    def open(self, run_dir: Path, recipe: "Recipe") -> Log:
        for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            if os.environ.get(name):
                raise MsdkError(
                    f"the tracker 'trackio' keeps runs on this machine, and {name} names another place: unset it, "
                    "and use trackio sync after the training"
                )
        return _Run(run_dir, recipe, run_dir / "trackio", self.project, library("trackio", "trackio"))


@attrs.define
class _Run(Retelling):
    project: str
    trackio: Any
    run: Any = attrs.field(init=False, default=None)

    def _begin(self, steps: Sequence[int]) -> int:
        name = self.before or new_name(self.run_dir)
        with contextlib.suppress(ValueError):  # no such project yet
            for run in self.trackio.Api().runs(self.project):
                if run.name == name:
                    run.delete()
        self._name(name)
        with _quiet():
            self.run = self.trackio.init(
                project=self.project, name=name, config=self._settings(), embed=False, auto_log_cpu=False
            )
        return 0

    def _tell(self, lines: Iterable[Line]) -> None:
        for step, numbers in lines:
            self.run.log(numbers, step=step)

    def _show(self, name: str, step: int, file: Path) -> None:
        self.run.log({name: self.trackio.Image(str(file))}, step=step)

    def _end(self) -> None:
        with _quiet():
            self.trackio.finish()


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Trackio tells its doings on stdout, which is for what a command is asked for."""
    return contextlib.redirect_stdout(io.StringIO())
