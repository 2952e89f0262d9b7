"""MLflow: https://mlflow.org/docs/latest/ml/tracking."""

import logging
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import min_len

from msdk.trackers.base import Log, Tracker
from msdk_trackers.retelling import Line, Retelling, flat, library

if TYPE_CHECKING:
    from msdk.recipe import Recipe

MOST_METRICS, MOST_PARAMS, LONGEST_PARAM = 1000, 100, 6000
"""What MLflow takes in one request."""


@attrs.frozen(kw_only=True)
class MLflow(Tracker):
    """MLflow: a store in `mlflow` of the run folder, or the server that MLFLOW_TRACKING_URI names.

    Needs msdk-trackers[mlflow]. MLflow takes no number back: where a killed process had told more than its last
    checkpoint knows, the run is replaced by one that is told metrics.jsonl.

    Args:
        experiment: Where runs stand beside each other.
    """

    experiment: str = attrs.field(default="msdk", validator=min_len(1))

    def open(self, run_dir: Path, recipe: "Recipe") -> Log:
        mlflow, server = library("mlflow", "mlflow"), os.environ.get("MLFLOW_TRACKING_URI", "")
        for name in () if server else ("sqlalchemy", "alembic"):
            library(name, "mlflow")
        return _Run(run_dir, recipe, run_dir / "mlflow", self.experiment, server, mlflow)


@attrs.define
class _Run(Retelling):
    """Its name is the file of its store, empty for a server, and the ID that MLflow gave it."""

    experiment: str
    server: str
    mlflow: Any
    client: Any = attrs.field(init=False, default=None)
    run_id: str = attrs.field(init=False, default="")

    def _begin(self, steps: Sequence[int]) -> int:
        # Making a store tells two lines, which nobody has asked for.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        store, _, before = self.before.partition(":")
        if self.before and (self.server if not store else not self.server and (self.folder / store).is_file()):
            self._connect(store)
            if self._shows(before, steps):
                self.run_id = before
                self.client.update_run(before, status="RUNNING")
                return max(steps, default=0)
            if self.server:
                self.client.delete_run(before)
        if not self.server:
            self._swept()
            self.folder.mkdir(exist_ok=True)
            store = f"{secrets.token_hex(4)}.db"  # a new name, as MLflow keeps files open
        self._connect(store)
        found = self.client.get_experiment_by_name(self.experiment)
        where = None if self.server else self._artifacts().as_uri()
        experiment = found.experiment_id if found else self.client.create_experiment(self.experiment, where)
        self.run_id = self.client.create_run(experiment, run_name=self.run_dir.resolve().name).info.run_id
        self._name(f"{store}:{self.run_id}")
        params = [self._entity("Param", key, str(value)[:LONGEST_PARAM]) for key, value in flat(self._settings())]
        for some in _pieces(params, MOST_PARAMS):
            self.client.log_batch(self.run_id, params=some)
        return 0

    def _connect(self, store: str) -> None:
        uri = self.server or f"sqlite:///{(self.folder / store).resolve()}"
        self.client = self.mlflow.MlflowClient(tracking_uri=uri)

    def _artifacts(self) -> Path:
        return (self.folder / "artifacts").resolve()

    def _shows(self, run: str, steps: Sequence[int]) -> bool:
        """Whether a run shows these steps, each once, and the images that are kept, and will show more of them."""
        try:
            where = self.client.get_run(run).info.artifact_uri
            found = [metric.step for metric in self.client.get_metric_history(run, "images")]
            images = [each.path for each in self.client.list_artifacts(run, "images")]
        except self.mlflow.MlflowException:  # somebody has removed it
            return False
        at = sorted(int(step) for each in images for step in re.findall(r"[+%]step[+%](\d+)[+%].*\.png$", each))
        moved = not self.server and not where.startswith(self._artifacts().as_uri())
        return not moved and sorted(found) == list(steps) and at == [step for step, _ in self._images()]

    def _tell(self, lines: Iterable[Line]) -> None:
        now = int(time.time() * 1000)
        metrics = [
            self._entity("Metric", key, float(value), now, step) for step, each in lines for key, value in each.items()
        ]
        for some in _pieces(metrics, MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=some)

    def _show(self, name: str, step: int, file: Path) -> None:
        from PIL import Image

        with Image.open(file) as image:
            self.client.log_image(self.run_id, image, key=re.sub(r"[^\w\-./ ]", "_", name, flags=re.ASCII), step=step)

    def _end(self) -> None:
        self.client.set_terminated(self.run_id)

    def _entity(self, kind: str, *values: Any) -> Any:
        return getattr(library("mlflow.entities", "mlflow"), kind)(*values)


def _pieces(items: list[Any], most: int) -> Iterable[list[Any]]:
    return (items[start : start + most] for start in range(0, len(items), most))
