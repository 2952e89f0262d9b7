"""The cache: what cannot be believed is counted or found again."""

import importlib
import json
import sys
from typing import Any

import pytest

import msdk
from msdk import cache as store
from recipes import tiny


def older(file):
    """As another version of the code would have left it, under the same name."""
    found = json.loads(file.read_text())
    found["key"]["code"]["msdk"] = "0" * 16
    return json.dumps(found).encode()


DAMAGES = (
    lambda file: file.read_bytes()[: file.stat().st_size // 2],
    lambda file: b"",
    lambda file: b"\x80\xff\x00",
    lambda file: b"[1, 2]",
    lambda file: json.dumps({"key": json.loads(file.read_text())["key"]}).encode(),
    older,
)


@pytest.mark.parametrize(("file", "neighbour"), [("lab/__init__.py", True), ("lab.py", False)])
def test_the_code_of_a_part_is_its_package(file, neighbour, tmp_path, monkeypatch):
    """Any file of a package may change what its parts do; of a module alone, its neighbours do not."""
    place = tmp_path / file
    place.parent.mkdir(exist_ok=True)
    for path in (place, place.with_name("other.py")):
        path.write_text("class Part:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lab", raising=False)
    importlib.invalidate_caches()
    part = importlib.import_module("lab").Part

    def now():
        store._digest_of.cache_clear()
        return store.fingerprint(part)

    before = now()
    assert now() == before
    place.with_name("other.py").write_text("changed = True\n")
    assert (now() != before) == neighbour
    before = now()
    place.write_text("class Part:\n    changed = True\n")
    assert now() != before
    del sys.modules["lab"]


def test_a_cache_that_cannot_be_believed_is_counted_again(tmp_path, monkeypatch):
    """Cut short, foreign or written by an older msdk: the same figures, no traceback, and a good cache afterwards."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path))
    counted = msdk.budget(tiny()).as_json()
    files = sorted((tmp_path / "counts").iterdir())
    good = {file: file.read_bytes() for file in files}
    assert len(files) > 3
    for damage in DAMAGES:
        for file in files:
            file.write_bytes(good[file])
            key = json.loads(good[file])["key"]
            assert store.recall(key, Any) is not None
            file.write_bytes(damage(file))
            assert store.recall(key, Any) is None
    for index, file in enumerate(files):
        file.write_bytes(good[file])
        file.write_bytes(DAMAGES[index % len(DAMAGES)](file))
    assert msdk.budget(tiny()).as_json() == counted
    assert {file: file.read_bytes() for file in files} == good
