"""Promises of the README: short enough to be read, and what it shows is what its commands print, on 80 columns."""

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from commands import quick

from msdk.report.studies import result_grids
from msdk.studies.collecting import read_result

README = Path("README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)


def shown():
    """(Command, what the README says it prints)."""
    for block in CONSOLE:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield command, printed


def pattern(printed):
    """What an output must look like: `...` stands for anything, at the end of a line or for whole lines."""
    return re.escape(printed).replace(r"\.\.\.", r"[\s\S]*")


def test_it_is_short():
    """At most 150 lines, and no line of a command's output is wider than 80 columns."""
    assert len(README.splitlines()) <= 150
    printed = [line for _, text in shown() for line in text.splitlines()]
    assert max(map(len, printed)) <= 80


def test_commands_print_what_it_shows(capsys, monkeypatch):
    """Each `msdk` command in it, run here."""
    found = list(shown())
    assert len(found) >= 2
    for command, printed in found:
        program, *words = command.split()
        assert program == "msdk"
        _, out, err = quick(capsys, monkeypatch, *words, columns=80)
        assert re.fullmatch(pattern(printed), out or err), f"{command}\n{out}{err}"


def test_the_demo_is_shown_as_it_was():
    """Its table is what the study's result prints on 80 columns; the Makefile runs that study."""
    found = read_result(Path("docs/studies/demo.json"))
    (grid,) = (each for each in result_grids(found) if "end of training" in each.title)
    (shown_there,) = re.findall(r"```text\n(.*?)```", README, flags=re.DOTALL)
    assert shown_there == grid.text(80) + "\n"
    assert f"msdk study {found.study}" in Path("Makefile").read_text(encoding="utf-8")
    assert any(each.name == "FD-digits" and each.difference.low > 0 for each in found.scores if each.difference)


def test_its_recipe_is_a_shipped_one():
    """What is shown of it is what the file has, up to the decoders that are left out."""
    (snippet,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    shown_there = tomllib.loads(snippet)
    whole = tomllib.loads(Path("recipes/cifar10/dpm-multistage.toml").read_text(encoding="utf-8"))
    assert shown_there.pop("decoders") == whole["decoders"][:1]
    assert shown_there == {key: whole[key] for key in shown_there}
    assert [each["channels"] for each in whole["decoders"][1:]] == [128, 16]  # as its last comment says


def test_its_plugins_are_those_of_the_clone():
    """Each has a row, and none is promised that is not there."""
    named = re.findall(r"^\| `(msdk-\w+)`", README, flags=re.MULTILINE)
    assert sorted(named) == sorted(
        path.name for path in Path("plugins").iterdir() if (path / "pyproject.toml").exists()
    )


def test_its_picture_can_be_read_on_a_phone():
    """On 343 of a phone's 375 pixels no letter is smaller than 10 pixels, and dark themes have colours of their own."""
    picture = ElementTree.parse("docs/stages.svg").getroot()
    width = float(picture.attrib["viewBox"].split()[2])
    sizes = [float(each.attrib["font-size"]) for each in picture.iter() if "font-size" in each.attrib]
    assert min(sizes) * 343 / width >= 10
    assert "prefers-color-scheme: dark" in "".join(picture.itertext())


PAGES = [*map(Path, ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(Path("docs").rglob("*.md"))]


def anchors(page):
    """What a heading may be linked by, as GitHub makes it of its text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    """Files and headings that a page links to are there."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link
