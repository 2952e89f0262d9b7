"""`msdk data info` tells what a data set holds, by the decisions of its own reader."""

import io
import json
import struct
import time
import zipfile
import zlib
from pathlib import Path

import attrs
import numpy as np
import pytest
from commands import quick
from PIL import Image

from msdk.datasets.digits import Digits
from msdk.datasets.folder import Folder
from msdk.errors import DataError
from msdk.preparing.surveying import Size, dataset_at, survey
from msdk.report import survey_grids


def encoded(seed, kind="png", *, size=16, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def mixed(tmp_path):
    """A folder with two classes and one of everything that can be told."""
    files = {
        **{f"cat/{number}.png": encoded(number) for number in range(4)},
        **{f"dog/{number}.JPG": encoded(10 + number, "jpeg") for number in range(3)},
        "dog/copy.png": encoded(0),
        "dog/grey.png": encoded(20, mode="L"),
        "dog/large.png": encoded(21, size=24),
        "cat/cut.png": encoded(22)[:300],
        "cat/cut2.png": encoded(23)[:300],
        "cat/empty.png": b"",
        "notes.txt": b"hello",
        ".git/config": b"",
        ".DS_Store": b"",
        "old[x].zip": b"PK",
    }
    for name, content in files.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(content)
    return tmp_path / "x"


def counts(kinds):
    return {each.what: each.count for each in kinds}


def test_everything_is_told(mixed):
    """Counted by hand: what is there, what is passed over, what is refused and why."""
    found = survey(dataset_at(mixed), fitted=True)
    assert dict(found.data) == {"name": "folder", "path": str(mixed), "size": 16, "channels": 3}
    assert (found.images, found.usable) == (13, 9)
    assert counts(found.passed_over) == {"hidden": 2, "other files": 1, "archives, not opened": 1}
    assert counts(found.refused) == {"damaged": 2, "no image inside": 1, "another size": 1}
    assert [(one.label, one.name, one.count) for one in found.classes] == [(0, "cat", 7), (1, "dog", 6)]
    assert {one.axes: one.count for one in found.sizes} == {(16, 16): 9, (24, 24): 1}
    assert counts(found.formats) == {"PNG": 7, "JPEG": 3}
    assert counts(found.modes) == {"RGB": 9, "L": 1}
    assert (found.lowest, found.highest) == (0, 255)
    assert sorted("(2 such images)" in problem for problem in found.problems) == [False, False, True]
    assert (found.duplicates.count, found.duplicates.of_two_classes) == (1, 1)
    assert [Path(name).name for name in found.duplicates.example] == ["copy.png", "0.png"]
    assert len(found.problems) == 3
    assert found.sha256 == Folder(path=mixed).open().digest


def test_what_is_usable_is_what_the_reader_reads(mixed):
    """The count is that of the images that a source of this size gives; the messages are its own."""
    spec = Folder(path=mixed, size=16)
    source, read, told = spec.open(), 0, set()
    for index in range(len(source)):
        try:
            source.read([index])
            read += 1
        except DataError as error:
            told.add(str(error))
    found = survey(spec)
    assert found.usable == read
    assert {each.example for each in found.refused} <= told


def test_a_place_that_is_refused_is_looked_at_all_the_same(mixed):
    """Other endings and a listing of classes: all reasons at once, and the rest is counted."""
    (mixed / "a.gif").write_bytes(b"GIF89a")
    (mixed / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match=r"dataset\.json says"):
        Folder(path=mixed, size=16).open()
    found = survey(Folder(path=mixed, size=16))
    assert [problem.rpartition("/")[2][:20] for problem in found.problems[:2]] == [
        "dataset.json says wh",
        "x also holds images ",
    ]
    assert found.images == 13


def test_any_source_can_be_looked_at():
    """One that says nothing of files has images, classes, range and digest."""
    found = survey(Digits())
    assert (found.images, found.usable, found.formats, found.problems) == (1797, 1797, (), ())
    assert [one.count for one in found.classes] == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (found.lowest, found.highest, found.sha256) == (0, 255, Digits().open().digest)


def test_the_command_tells_it(mixed, capsys, monkeypatch):
    """A table, with text in brackets as it is, and the line that a recipe needs; or JSON."""
    code, out, err = quick(capsys, monkeypatch, "data", "info", mixed, "--json")
    told = json.loads(out)
    assert (code, err, told["images"], told["usable"]) == (0, "", 13, 9)
    code, out, err = quick(capsys, monkeypatch, "data", "info", mixed)
    assert (code, err) == (0, "")
    assert f'data = {{ name = "folder", path = "{mixed}", size = 16, channels = 3 }}' in out
    for words in (
        "refused: another size",
        "passed over: hidden",
        "size 16x16",
        "format JPEG",
        "old[x].zip",
        "0      cat",
    ):
        assert words in out


def test_sixty_columns_are_enough(mixed):
    """No line is wider, and no count is broken."""
    lines = [line for grid in survey_grids(survey(dataset_at(mixed), fitted=True)) for line, _ in grid.lines(60)]
    assert max(map(len, lines)) <= 60
    assert any(line.split()[:2] == ["images", "13"] for line in lines)


def test_many_sizes_are_summed_up(mixed):
    """Eight have rows of their own; the rest are one, with an example and all their images."""
    found = survey(dataset_at(mixed), fitted=True)
    sizes = tuple(Size((side, side), side, f"{side}.png") for side in range(1, 12))
    (grid, *_) = survey_grids(attrs.evolve(found, sizes=sizes))
    rows = [row for row in grid.rows if "size" in row[0] and "another" not in row[0]]
    assert rows[7:] == [("size 8x8", "8.png", "8"), ("3 more sizes", "9.png", "30")]


def test_the_command_takes_zips_shards_recipes_and_runs(tmp_path, capsys, monkeypatch):
    """Whatever names data; what does not is refused with what would."""
    (tmp_path / "parts").mkdir()
    for place in (tmp_path / "x.zip", tmp_path / "parts" / "0.zip", tmp_path / "parts" / "1.zip"):
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("a.png", encoded(0, mode="L"))
    recipe = Path("recipes") / "digits" / "multistage.toml"
    for place, name, images in (
        (tmp_path / "x.zip", "zip", 1),
        (tmp_path / "parts", "shards", 2),
        (recipe, "digits", 1797),
    ):
        code, out, _ = quick(capsys, monkeypatch, "data", "info", place, "--json")
        found = json.loads(out)
        assert (code, found["data"]["name"], found["images"]) == (0, name, images)
    assert (
        json.loads(quick(capsys, monkeypatch, "data", "info", tmp_path / "x.zip", "--json")[1])["data"]["channels"] == 1
    )
    for place, words in (
        (tmp_path / "none", "does not exist: give"),
        (Path("README.md"), "is no folder"),
    ):
        code, out, err = quick(capsys, monkeypatch, "data", "info", place)
        assert (code, out) == (2, "")
        assert words in err


def png_of(width, height):
    """A PNG that says it has so many pixels, and has none."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_bombs_are_told_at_once(tmp_path):
    """Without a recipe that says how large images are, too: by their headers and lengths."""
    (tmp_path / "a.png").write_bytes(png_of(60_000, 60_000))
    (tmp_path / "b.png").write_bytes(png_of(20_000, 20_000))
    with open(tmp_path / "c.png", "wb") as file:
        file.truncate(2**40)
    began = time.process_time()
    found = survey(dataset_at(tmp_path), fitted=True)
    assert time.process_time() - began < 2
    assert counts(found.refused) == {"too many pixels": 2, "too many bytes": 1}
    assert (found.usable, found.sha256) == (0, None)


def test_what_training_refuses_is_a_problem(tmp_path, capsys, monkeypatch):
    """Data of a conditional recipe without the classes that it needs."""
    for name in ("cat/1.png", "stray.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(1, size=8, mode="L"))
    recipe = Path("recipes") / "digits" / "conditional.toml"
    data = f'data={{name="folder", path="{tmp_path}", size=8, channels=1}}'
    code, out, _ = quick(capsys, monkeypatch, "data", "info", recipe, "--set", data, "--json")
    (problem,) = json.loads(out)["problems"]
    assert code == 0
    assert "stray.png in" in problem
    assert "but encoder.classes is 10" in problem
