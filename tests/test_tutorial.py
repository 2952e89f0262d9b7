"""docs/tutorial.md does what it says: its blocks are written and run, in their order, as a reader would."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from installed import as_installed

PAGE = Path("docs/tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)


def named(text):
    """The file that a block says it is, or None."""
    first = text.partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# my-lab/") else None


@pytest.mark.slow
def test_the_tutorial_works(tmp_path):
    """Files are written, commands are run, all of them succeed; pip alone is stood in for, as tests load nothing."""
    place, site = tmp_path, tmp_path / "site"
    run = []
    begun = time.perf_counter()
    for language, text in BLOCKS:
        if named(text):
            (tmp_path / named(text)).write_text(text)
            continue
        if language != "bash":
            continue
        for line in text.strip().splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == "cd":
                place = place / words[1]
                continue
            if words[:2] == ["pip", "install"]:
                as_installed(place, site)
                continue
            path = os.pathsep.join([str(site), str(tmp_path / "my-lab" / "src")])
            program = {"msdk": ["-m", "msdk"], "pytest": ["-m", "pytest", "-q", "-p", "no:cacheprovider"]}[words[0]]
            done = subprocess.run(
                [sys.executable, *program, *words[1:]],
                cwd=place,
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": path, "COLUMNS": "160"},
            )
            assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            run.append((line, done.stdout))
    output = dict(run)
    assert len(run) == 8
    assert "my-lab" in output["msdk plugin doctor"]
    assert "is a good recipe: 3 decoder(s)" in output["msdk recipe check recipe.toml"]
    assert (tmp_path / "my-lab/run/samples/grid.png").is_file()
    assert '"my-lab": "0.1.0"' in (tmp_path / "my-lab/run/lock.json").read_text()
    assert time.perf_counter() - begun < 15 * 60


def test_the_tutorial_counts_its_lines():
    """The number that is told is that of the lines of Python in the two files of a plugin."""
    code = [text for language, text in BLOCKS if language == "python" and "src/my_lab" in (named(text) or "")]
    lines = sum(bool(line.strip()) and not line.startswith("# my-lab") for text in code for line in text.splitlines())
    assert f"{lines} lines of Python, two classes, three lines of `pyproject.toml`" in PAGE
