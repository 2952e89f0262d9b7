"""Promises of the README: short enough to be read, and what it shows is what its commands print, on 80 columns."""

import re
from pathlib import Path

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
