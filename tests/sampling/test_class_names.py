"""Classes go by the names that the data gave them, wherever a class is asked for."""

import io
import json

import numpy as np
import pytest
import torch
from commands import quick
from PIL import Image

import msdk
from msdk.errors import PartError, UnknownNameError
from msdk.runs import class_names, fork, run_recipe
from msdk.sampling import class_number
from recipes import tiny

NAMES = ["1", "[cat]", "dog"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on a folder with a sub-folder per class."""
    place = tmp_path_factory.mktemp("named")
    for number, name in enumerate(NAMES):
        (place / "data" / name).mkdir(parents=True)
        for seed in range(2):
            pixels = np.random.default_rng((number, seed)).integers(0, 256, (8, 8), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "png")
            (place / "data" / name / f"{seed}.png").write_bytes(buffer.getvalue())
    data = f'data={{name="folder", path="{place / "data"}", size=8, channels=1}}'
    recipe = tiny(data, "encoder.classes=3", "training.iterations=2", "sampling.images=2")
    msdk.train(recipe, place / "run", device="cpu")
    return place / "run"


def test_a_run_keeps_the_names(run, tmp_path):
    """In lock.json, from where a loaded denoiser and a fork have them."""
    assert json.loads((run / "lock.json").read_text())["data"]["classes"] == NAMES
    assert tuple(msdk.load_run(run).class_names) == class_names(run) == tuple(NAMES)
    fork(run, run_recipe(run), lambda name: [name], tmp_path / "fork")
    assert class_names(tmp_path / "fork") == tuple(NAMES)


@pytest.mark.parametrize("label", ["dog", ["dog", "[cat]"], ("dog", 1), ["1", -1]])
def test_python_takes_names(run, label):
    """Alone, one for each image, and mixed with numbers."""
    denoiser = msdk.load_run(run)
    numbers = label if isinstance(label, str) else [NAMES.index(one) if isinstance(one, str) else one for one in label]
    numbers = NAMES.index(numbers) if isinstance(numbers, str) else numbers
    assert torch.equal(msdk.sample(denoiser, label=label), msdk.sample(denoiser, label=numbers))


def test_the_command_takes_names(run, tmp_path, capsys, monkeypatch):
    """What is drawn is that of the class's number, which samples.json has."""
    for label, number in (("dog", 2), ("2", 2), ("[cat]", 1), ("-1", -1)):
        out = tmp_path / str(label)
        code, _, err = quick(capsys, monkeypatch, "sample", run, "--label", label, "--seeds", "0", "--out", out)
        assert (code, err) == (0, "")
        assert json.loads((out / "samples.json").read_text())["sampling"]["label"] == number
    assert (tmp_path / "dog" / "000000.png").read_bytes() == (tmp_path / "2" / "000000.png").read_bytes()


def test_a_name_that_is_also_a_number_is_told(run, capsys, monkeypatch):
    """A number on the command line is a number, and the class of that name is said."""
    code, _, err = quick(capsys, monkeypatch, "sample", run, "--label", "1", "--explain")
    assert code == 0
    assert "--label 1 is class 1; the class that is named '1' is 0" in err


def test_unknown_names_are_told(run, tmp_path, capsys, monkeypatch):
    """With those that there are, at most fifty, and the nearest; a run without names says so."""
    code, _, err = quick(capsys, monkeypatch, "sample", run, "--label", "dogs", "--explain")
    assert code == 2
    assert "no class named 'dogs'. Did you mean 'dog'? Known: 0 1, 1 [cat], 2 dog." in err
    with pytest.raises(UnknownNameError, match="no class named 'bird'"):
        msdk.sample(msdk.load_run(run), label=["dog", "bird"])
    with pytest.raises(UnknownNameError, match=r"49 c49, and 950 more\.$"):
        class_number("x", [f"c{number}" for number in range(1000)])
    with pytest.raises(PartError, match="nothing says which class 'dog' is, as the data had no names"):
        class_number("dog", ())


@pytest.mark.parametrize("classes", [None, "cat", [1, 2], {"0": "cat"}])
def test_a_lock_that_is_odd_has_no_names(run, tmp_path, classes):
    """As a run of before; nothing else of it depends on them."""
    lock = json.loads((run / "lock.json").read_text())
    (tmp_path / "lock.json").write_text(json.dumps({**lock, "data": {**lock["data"], "classes": classes}}))
    assert class_names(tmp_path) == ()
    (tmp_path / "lock.json").write_text("{")
    assert class_names(tmp_path) == ()
