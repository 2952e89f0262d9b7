"""Trackers of others, against their real libraries, offline: each step once, whatever happened to the run."""

import importlib.util
import json
import re
import time

import pytest
from killed import train_until_killed, train_with_images

from msdk import testing
from msdk.trackers.base import scalars, told
from msdk_trackers.mlflow import MLflow
from msdk_trackers.trackio import Trackio
from msdk_trackers.wandb import WandB

NEEDS = {"wandb": ["wandb"], "mlflow": ["mlflow", "sqlalchemy", "alembic"], "trackio": ["trackio"]}
HERE = [name for name, needs in NEEDS.items() if all(map(importlib.util.find_spec, needs))]

pytestmark = pytest.mark.filterwarnings("default")  # of libraries that are not ours


def needs(name):
    return pytest.mark.skipif(name not in HERE, reason=f"{name} is not installed: pip install 'msdk-trackers[{name}]'")


def name_of(run, tracker):
    """What the tracker calls a run."""
    return json.loads((run / tracker / "run.json").read_text())["name"]


def of_wandb(run):
    """Step -> numbers, and name -> steps of images, of the file that `wandb sync` uploads; every row of it."""
    from wandb.proto.wandb_internal_pb2 import Record

    files = list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) < 2
    rows, images, records, deadline = [], [], [], time.monotonic() + 30
    # W&B's own process writes the file a moment after `finish` has returned.
    while files and not (records and records[-1].HasField("exit")) and time.monotonic() < deadline:
        records = [Record.FromString(payload) for payload in payloads(files[0].read_bytes())]
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            step = record.history.step.num
            pictures = [key.removesuffix("/path") for key in items if key.endswith("/path")]
            images += [(step, name) for name in pictures]
            rows.append((step, {key: value for key, value in items.items() if key.partition("/")[0] not in pictures}))
    return rows, images


def payloads(data):
    """Those of the log format of LevelDB: blocks of 32 KiB, in which pieces have a checksum, a length and a kind."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + length > len(data):
            return  # being written
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield parts
            parts = b""


def of_mlflow(run):
    """The same of the store that MLflow's client reads, in which there is one run."""
    from mlflow import MlflowClient

    store, _, run_id = name_of(run, "mlflow").partition(":")
    client = MlflowClient(f"sqlite:///{run / 'mlflow' / store}" if store else None)
    if store:
        assert [each.name for each in (run / "mlflow").glob("*.db")] == [store]
        found = client.search_runs([client.get_experiment_by_name("msdk").experiment_id])
        assert [each.info.run_id for each in found] == [run_id]
    rows = {}
    for key in client.get_run(run_id).data.metrics:
        for metric in client.get_metric_history(run_id, key):
            rows.setdefault(metric.step, []).append((key, metric.value))
    for pairs in rows.values():
        assert len(pairs) == len(dict(pairs))
    files = [
        re.fullmatch(r"images/(.+)[+%]step[+%](\d+)[+%].*png", f.path) for f in client.list_artifacts(run_id, "images")
    ]
    images = sorted((int(found[2]), found[1]) for found in files if found)
    return [(step, dict(pairs)) for step, pairs in sorted(rows.items())], images


def of_trackio(run):
    """The same of the database that its dashboard reads."""
    from trackio.sqlite_storage import SQLiteStorage

    rows, images = [], []
    for row in SQLiteStorage.get_logs("msdk", name_of(run, "trackio")):
        step = row.pop("step")
        pictures = [key for key, value in row.items() if isinstance(value, dict) and value["_type"] == "trackio.image"]
        images += [(step, key) for key in pictures]
        numbers = {key: value for key, value in row.items() if isinstance(value, float | int)}
        rows += [(step, numbers)] if numbers else []
    return rows, images


READERS = {"wandb": of_wandb, "mlflow": of_mlflow, "trackio": of_trackio}


def steps_of(tracker, run):
    """The steps that somebody who looks is shown."""
    try:
        return [step for step, _ in READERS[tracker](run)[0]]
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("tracker", [pytest.param(name, marks=needs(name)) for name in NEEDS])
def test_the_laws(tracker, tmp_path, monkeypatch):
    """In stores of their own; MLflow, which needs seconds to make one, in one that stands for a server."""
    if tracker == "mlflow":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/server.db")
        monkeypatch.chdir(tmp_path)
    spec = {"wandb": WandB, "mlflow": MLflow, "trackio": Trackio}[tracker]()
    for law in testing.laws("tracker"):
        # The others show what they were told once a run is closed, and one of the laws looks before.
        shown = (lambda run: steps_of(tracker, run)) if tracker == "mlflow" or "takes" in law.__name__ else None
        law(spec, shown=shown)


@pytest.mark.skipif(not HERE, reason="neither wandb nor mlflow nor trackio is installed")
def test_each_step_once_through_a_kill(tmp_path, monkeypatch):
    """Killed at step 5, resumed from 3, resumed again: numbers of metrics.jsonl and images, each step once."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    settings = (
        f"trackers={[{'name': name} for name in HERE]}".replace("'name':", "name ="),
        "training.checkpoint_every=3",
    )
    train_until_killed(5, run, "training.iterations=7", *settings)
    names = {name: name_of(run, name) for name in HERE}
    said = []
    for last in (7, 8):
        train_with_images(run, f"training.iterations={last}", *settings, resume=True, warn=said.append)
        assert said == []
        lines = [(step, dict(scalars(numbers))) for step, numbers in told(run, 99)]
        assert [step for step, _ in lines] == list(range(1, last + 1))
        for name in HERE:
            rows, images = READERS[name](run)
            assert [(step, pytest.approx(numbers)) for step, numbers in lines] == cleaned(rows), name
            assert images == [(step, "grid") for step in range(1, last + 1)], name
        if "mlflow" in HERE:  # a run that nothing has to be taken from is gone on with
            assert (name_of(run, "mlflow") == names["mlflow"]) == (last == 8)
            names["mlflow"] = name_of(run, "mlflow")


def cleaned(rows):
    """Without what libraries add."""
    return [(step, {key: value for key, value in numbers.items() if key[0] != "_"}) for step, numbers in rows]
