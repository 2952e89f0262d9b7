"""Parquet files and saved data sets keep msdk's laws of data sets, and say what is wrong with them."""

import io

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from msdk import testing
from msdk.errors import DataError
from msdk_hf.parquet import Parquet
from msdk_hf.saved import HuggingFace


def encoded(level, size=8):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (level, 0, 255 - level)).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two files with row groups of two; images of one level each, as Hugging Face's feature writes them."""
    for number, levels in enumerate(((0, 1, 2, 3, 4), (5, 6))):
        images = [{"bytes": encoded(level), "path": None} for level in levels]
        table = pa.table({"image": images, "label": [level % 3 for level in levels], "raw": [encoded(1)] * len(levels)})
        pq.write_table(table, tmp_path / f"part{number}.parquet", row_group_size=2)
    return tmp_path


@pytest.fixture
def saved(tmp_path):
    """A folder of `save_to_disk` with two splits."""
    images = [Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)) for level in range(6)]
    rows = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 2, 0, 1, 2]})
    rows = rows.cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": rows, "test": rows.select([0, 1])}).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("law", testing.laws("dataset"))
def test_parquet_keeps_the_laws(law, folder):
    """A folder and a single file, with and without classes."""
    law(Parquet(path=folder, size=8, label="label"))
    law(Parquet(path=folder / "part1.parquet", size=8))


@pytest.mark.parametrize("law", testing.laws("dataset"))
def test_saved_data_sets_keep_the_laws(law, saved):
    """What `save_to_disk` wrote."""
    law(HuggingFace(source=str(saved), size=8, label="label"))


def test_rows_keep_their_order(folder, saved):
    """Across files and row groups, in any order."""
    source = Parquet(path=folder, size=8, label="label").open()
    assert (len(source), source.labels) == (7, [0, 1, 2, 0, 1, 2, 0])
    assert source.read([6, 0, 3, 3]).images[:, 0, 0, 0].tolist() == [6, 0, 3, 3]
    assert Parquet(path=folder, size=8, image="raw").open().read([5]).images[0, 0, 0, 0] == 1
    assert len(HuggingFace(source=str(saved), split="test", size=8).open()) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image": "picture"}, r"has no column 'picture'\. Columns: image, label, raw"),
        ({"label": "class"}, r"has no column 'class'"),
        ({"label": "raw"}, "which is no whole number"),
        ({"size": 16}, r"row 0 of the column 'image' \(.*part0\.parquet\) has 8x8 pixels"),
        ({"image": "label"}, r"row 0 of the column 'label' \(.*part0\.parquet\) is no image file but int"),
    ],
)
def test_what_is_wrong_with_parquet_is_told(folder, settings, words):
    """Column, row and reason."""
    with pytest.raises(DataError, match=words):
        Parquet(path=folder, **({"size": 8} | settings)).open().read([0])


def test_missing_and_broken_files_are_told(tmp_path):
    """No file, and a file that is none."""
    with pytest.raises(DataError, match=r"there is no parquet file at .*: set data\.path"):
        Parquet(path=tmp_path, size=8).open()
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="is not a readable parquet file"):
        Parquet(path=tmp_path, size=8).open()


def test_nothing_is_downloaded_unasked(saved, tmp_path):
    """A name that is not in the cache is an error with the way out; so are a wrong split and column."""
    with pytest.raises(DataError, match=r"cannot be loaded \(download = true lets `datasets` go to the hub\)"):
        HuggingFace(source="no-such-owner/no-such-data-set", size=8).open()
    with pytest.raises(DataError, match=r"has no split 'validation'\. Splits: train, test"):
        HuggingFace(source=str(saved), split="validation", size=8).open()
    with pytest.raises(DataError, match="has no column 'picture'"):
        HuggingFace(source=str(saved), image="picture", size=8).open()
