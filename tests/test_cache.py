"""The cache: what cannot be believed is counted or found again."""

import json
from typing import Any

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
