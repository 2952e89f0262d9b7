"""Trackers of others, against their real libraries, offline: each step once, whatever happened to the run."""

import importlib.util
import json
import re
import sys
import time
import types

import pytest
import torch
from commands import quick
from killed import train_until_killed, train_with_images

import msdk
from msdk import testing
from msdk.errors import MsdkError, RecipeError
from msdk.runs.metrics import JSONL
from msdk.trackers.base import scalars, told
from msdk_trackers.mlflow import MLflow
from msdk_trackers.trackio import Trackio
from msdk_trackers.wandb import WandB
from recipes import tiny

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


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """What stands for a server of MLflow; making the tables of a store takes seconds."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("server")
    uri = f"sqlite:///{folder}/server.db"
    MlflowClient(uri).create_experiment("msdk", folder.as_uri())
    return uri


@pytest.mark.parametrize("tracker", [pytest.param(name, marks=needs(name)) for name in NEEDS])
def test_the_laws(tracker, request, monkeypatch):
    """MLflow on what stands for a server, the others in stores of their own."""
    if tracker == "mlflow":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    spec = {"wandb": WandB, "mlflow": MLflow, "trackio": Trackio}[tracker]()
    for law in testing.laws("tracker"):
        # The others show what they were told once a run is closed, and one of the laws looks before.
        shown = (lambda run: steps_of(tracker, run)) if tracker == "mlflow" or "takes" in law.__name__ else None
        law(spec, shown=shown)


@pytest.mark.skipif(not HERE, reason="neither wandb nor mlflow nor trackio is installed")
def test_each_step_once_through_a_kill(tmp_path, monkeypatch, request):
    """Killed at step 5 and resumed from 3: the numbers of metrics.jsonl and the images, each step once."""
    if "mlflow" in HERE:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    trackers = ", ".join(f'{{name = "{name}"}}' for name in HERE)
    run, settings = tmp_path / "run", (f"trackers=[{trackers}]", "training.checkpoint_every=3")
    train_until_killed(5, run, "training.iterations=7", *settings)
    names, said = {name: name_of(run, name) for name in HERE}, []
    train_with_images(run, "training.iterations=7", *settings, resume=True, warn=said.append)
    assert said == []
    lines = [(step, pytest.approx(dict(scalars(numbers)))) for step, numbers in told(run, 99)]
    assert [step for step, _ in lines] == list(range(1, 8))
    for name in HERE:
        rows, images = READERS[name](run)
        assert lines == cleaned(rows), name
        assert images == [(step, "grid") for step in range(1, 8)], name
        assert (name_of(run, name) == names[name]) == (name != "mlflow"), name


@needs("mlflow")
def test_mlflow_keeps_a_store_in_the_run_folder(tmp_path, monkeypatch):
    """A folder that was moved has its store written anew: MLflow's knows where images were."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    run.mkdir()
    log = tell(MLflow().open(run, tiny()), run, range(1, 4))
    log.image("grid", 3, torch.zeros(3, 4, 4, dtype=torch.uint8))
    log.close()
    run = run.rename(tmp_path / "moved")
    log = MLflow().open(run, tiny())
    log.rewind(3)
    tell(log, run, [4]).close()
    rows, images = of_mlflow(run)
    assert [step for step, _ in rows] == [1, 2, 3, 4]
    assert images == [(3, "grid")]
    assert list(tmp_path.iterdir()) == [run]


def cleaned(rows):
    """Without what libraries add."""
    return [(step, {key: value for key, value in numbers.items() if key[0] != "_"}) for step, numbers in rows]


def tell(log, run, steps):
    """Tells a tracker, and metrics.jsonl, of steps."""
    for step in steps:
        for each in (JSONL().open(run, tiny()), log):
            each.log(step, {"images": 8 * step, "loss": 1 / step})
    return log


@needs("wandb")
def test_wandb_goes_on_with_a_run_that_it_thinks_is_in_use(tmp_path):
    """Its process serves several of ours, and does not see at once that one of them is gone: the run has a new ID."""
    tell(WandB().open(tmp_path, tiny()), tmp_path, range(1, 4))
    before = name_of(tmp_path, "wandb")
    log = WandB().open(tmp_path, tiny())
    log.rewind(2)
    tell(log, tmp_path, [3, 4]).close()
    assert [step for step, _ in of_wandb(tmp_path)[0]] == [1, 2, 3, 4]
    assert name_of(tmp_path, "wandb") != before


@needs("mlflow")
def test_mlflow_replaces_a_run_that_shows_anything_else(tmp_path, monkeypatch, mlflow_server):
    """One run is left, with the numbers of metrics.jsonl; images by name and step."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    run = tmp_path / "replaced"
    run.mkdir()
    tell(MLflow().open(run, tiny()), run, range(1, 4))
    first = name_of(run, "mlflow")
    for step, same in ((3, True), (2, False)):
        log = MLflow().open(run, tiny())
        JSONL().open(run, tiny()).rewind(step)
        log.rewind(step)
        assert (name_of(run, "mlflow") == first) == same
    tell(log, run, [3])
    log.image("grid of/all: 1", 3, torch.zeros(1, 4, 4, dtype=torch.uint8))
    log.close()
    rows, images = of_mlflow(run)
    assert [step for step, _ in rows] == [1, 2, 3]
    assert images == [(3, "grid of~all_ 1")]
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.search_runs(
        [client.get_experiment_by_name("msdk").experiment_id], "attributes.run_name = 'replaced'"
    )
    assert [(each.info.run_id, each.info.status) for each in found] == [(name_of(run, "mlflow")[1:], "FINISHED")]
    assert client.get_run(found[0].info.run_id).data.params["training.batch_size"] == "8"


@pytest.mark.parametrize(("there", "heard"), [(5, [6, 7]), (2, [3, 4, 5, 6, 7]), (0, [1, 2, 3, 4, 5, 6, 7])])
def test_a_server_of_wandb_hears_no_step_twice(tmp_path, monkeypatch, there, heard):
    """It takes nothing back. A stand-in that has steps up to some one, for a run that goes on from step 3."""
    rows, begun = [], []

    class Run:
        resumed, starting_step = there > 0, there + 1

        def log(self, numbers, step):
            rows.append(step)

        def finish(self):
            rows.append("finished")

    def init(**settings):
        begun.append(settings)
        return Run()

    fake = types.SimpleNamespace(
        login=lambda: True, init=init, Error=RuntimeError, Settings=lambda **settings: settings
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tracker = WandB(mode="online", entity="lab")
    tell(tracker.open(tmp_path, tiny()), tmp_path, [1])
    rows.clear()
    for step in range(2, 4):
        JSONL().open(tmp_path, tiny()).log(step, {"loss": 1.0})
    log = tracker.open(tmp_path, tiny())
    log.rewind(3)
    tell(log, tmp_path, range(4, 8)).close()
    assert rows == [*heard, "finished"]
    assert [each["resume"] for each in begun] == ["allow", "allow"]
    assert begun[0]["id"] == begun[1]["id"]
    assert (begun[0]["entity"], begun[0]["mode"]) == ("lab", "online")


@needs("wandb")
def test_wandb_online_asks_for_a_key_in_words(tmp_path, monkeypatch):
    """Before a folder is made."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(MsdkError, match=r'mode = "online" needs a key: run wandb login, or set WANDB_API_KEY'):
        msdk.train(tiny('trackers=[{name="wandb", mode="online"}]'), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tracker", NEEDS)
def test_a_library_is_asked_for_in_words(tmp_path, monkeypatch, capsys, tracker):
    """With what to install, exit code 2, and before a folder is made."""
    monkeypatch.setitem(sys.modules, tracker, None)
    arguments = ("--out", tmp_path / "run", "--set", f'trackers=[{{name="{tracker}"}}]')
    code, _, err = quick(capsys, monkeypatch, "train", "recipes/digits/multistage.toml", *arguments, columns=300)
    assert code == 2
    assert f"the tracker '{tracker}' needs the package {tracker}, " in err
    assert f"pip install 'msdk-trackers[{tracker}]', or leave it out of the recipe's trackers" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_trackio_stays_on_this_machine(tmp_path, monkeypatch, name):
    """It takes nothing back elsewhere."""
    monkeypatch.setenv(name, "lab/space")
    with pytest.raises(MsdkError, match=f"{name} names another place: unset it"):
        Trackio().open(tmp_path, tiny())


@pytest.mark.parametrize(
    "tracker",
    [
        '{name="wandb", project="a/b"}',
        '{name="wandb", mode="disabled"}',
        '{name="trackio", project=""}',
        '{name="mlflow", experiment=""}',
    ],
)
def test_settings_are_checked(tracker):
    """With the recipe, not when training begins."""
    with pytest.raises(RecipeError, match=r"trackers\.0\."):
        tiny(f"trackers=[{tracker}]")
