"""Weights & Biases: https://docs.wandb.ai."""

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs.validators import matches_re

from msdk.errors import MsdkError
from msdk.trackers.base import Log, Tracker
from msdk_trackers.retelling import Line, Retelling, library

if TYPE_CHECKING:
    from msdk.recipe import Recipe


@attrs.frozen(kw_only=True)
class WandB(Tracker):
    """Weights & Biases, offline: `wandb sync RUN/wandb/offline-run-*` uploads a run. Needs msdk-trackers[wandb].

    Offline, a run that goes on is written anew from metrics.jsonl. A server takes nothing back: online, steps that a
    killed process had told are not told again.

    Args:
        project: Where runs stand beside each other.
        entity: The user or team; empty: the default of whoever is logged in.
        mode: offline keeps the run in `wandb` of the run folder; online tells the server (`wandb login`).
    """

    # What W&B allows in names of projects.
    project: str = attrs.field(default="msdk", validator=matches_re(r"[^/\\#?%:\s]{1,128}"))
    entity: str = attrs.field(default="", validator=matches_re(r"[\w.-]*"))
    mode: Literal["offline", "online"] = "offline"

    def open(self, run_dir: Path, recipe: "Recipe") -> Log:
        wandb = library("wandb", "wandb")
        if self.mode == "online":
            try:
                wandb.login()
            except wandb.Error as error:
                raise MsdkError(
                    "the tracker 'wandb' with mode = \"online\" needs a key: run wandb login, or set WANDB_API_KEY; or "
                    f'say mode = "offline" ({error})'
                ) from error
        return _Run(run_dir, recipe, run_dir / "wandb", self, wandb)


@attrs.define
class _Run(Retelling):
    spec: WandB
    wandb: Any
    run: Any = attrs.field(init=False, default=None)

    def _begin(self, steps: Sequence[int]) -> int:
        # Only a run that goes on has steps; offline it is the same run all the more, as it is written anew.
        if self.spec.mode == "online":
            self._open(self.before if steps else "")
            return int(self.run.starting_step) - 1 if self.run.resumed else 0
        self._swept()
        try:
            self._open(self.before)
        except Exception:
            if not self.before:
                raise
            # W&B serves several processes, and has not seen yet that the one that had the run is gone.
            self._swept()
            self._open("")
        return 0

    def _open(self, name: str) -> None:
        name = name or secrets.token_hex(4)
        self._name(name)
        self.run = self.wandb.init(
            project=self.spec.project,
            entity=self.spec.entity or None,
            id=name,
            name=self.run_dir.resolve().name,
            dir=str(self.run_dir),
            mode=self.spec.mode,
            resume="allow" if self.spec.mode == "online" else None,
            reinit="create_new",  # a run of the program that called is its own
            config=self._settings(),
            settings=self.wandb.Settings(console="off", silent=True),
        )

    def _tell(self, lines: Iterable[Line]) -> None:
        for step, numbers in lines:
            self.run.log(numbers, step=step)

    def _show(self, name: str, step: int, file: Path) -> None:
        self.run.log({name: self.wandb.Image(str(file))}, step=step)

    def _end(self) -> None:
        self.run.finish()
