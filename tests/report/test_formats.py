"""Promises of files with budgets: by suffix, complete, the same for the same budgets."""

import csv
import io
import json
import sys
import xml.etree.ElementTree as ElementTree

import attrs
import pytest

from msdk.errors import MsdkError
from msdk.report import rendered
from msdk.report.formats import SUFFIXES


def rows_of(budgets):
    return list(csv.DictReader(io.StringIO(rendered(".csv", budgets).decode())))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix(suffix, budgets, diffs, ledger):
    """What is listed can be written, in capital letters too, and comes out the same twice."""
    content = rendered(suffix, budgets, diffs=diffs, ledger=ledger)
    assert content == rendered(suffix.upper(), budgets, diffs=diffs, ledger=ledger)
    assert len(content) > 500


def test_unknown_suffix():
    """The message names what is known, and the nearest."""
    with pytest.raises(
        MsdkError, match=r"cannot be written as '\.htm' files\. Did you mean '\.html'\?.*\.csv \(one row"
    ):
        rendered(".htm", [])


def test_json_is_what_the_command_prints(budgets):
    """The list itself."""
    assert json.loads(rendered(".json", budgets)) == [one.as_json() for one in budgets]


def test_csv_has_a_row_per_recipe_and_stage(budgets):
    """Every integer of the stages stands in its row; what is not there is empty."""
    rows = rows_of(budgets)
    stages = [(one, stage) for one in budgets for stage in one.stages]
    assert len(rows) == len(stages) == 4
    for row, (one, stage) in zip(rows, stages, strict=True):
        assert (row["recipe"], row["title"]) == (one.recipe, one.title)
        assert int(row["total_macs"]) == stage.macs
        assert int(row["active_params"]) == stage.parameters.active
        assert float(row["training_share"]) == stage.weights["training"]
        operators = {name: int(value) for name, value in row.items() if name.startswith("operator_")}
        assert sum(operators.values()) == stage.macs
    assert (rows[0]["training_peak_bytes"], rows[1]["training_peak_bytes"]) == ("", "9000001")


def test_csv_gives_the_totals(budgets):
    """Totals of the recipe follow from its rows, as the documentation says."""
    for one in budgets:
        rows = [row for row in rows_of(budgets) if row["recipe"] == one.recipe]
        decoders = sum(int(row["decoder_params"]) for row in rows)
        first = rows[0]
        total = int(first["recipe_encoder_params"]) + decoders + int(first["recipe_other_params"])
        assert total == one.params
        mean = sum(float(row["training_share"]) * int(row["total_macs"]) for row in rows)
        assert mean == pytest.approx(one.equivalent_macs("training"))
        calls = sum(int(row["calls_per_image"]) for row in rows)
        assert calls == one.nfe


def test_csv_columns_stay(budgets):
    """One recipe or two, with memory or without: the same columns in the same order."""
    assert list(rows_of(budgets)[0]) == list(rows_of(budgets[:1])[0])


def test_svg_is_well_formed_and_says_the_numbers(budgets):
    """The plot has the recipes' names and the parameters of each stage as text."""
    text = "".join(ElementTree.fromstring(rendered(".svg", budgets)).itertext())
    assert all(words in text for words in ("digits/unified", "digits/three", "encoder", "stage 2"))


def test_plots_of_a_budget_without_calls(budgets):
    """A budget without a sampler's trace still has its bars."""
    bare = attrs.evolve(budgets[0], trace=())
    assert rendered(".png", [bare]).startswith(b"\x89PNG")


def test_plots_without_matplotlib(monkeypatch, budgets):
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MsdkError, match=r'pip install "msdk-diffusion\[plot\]"'):
        rendered(".png", budgets)
