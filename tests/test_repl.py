"""What a REPL and a notebook show of recipes, denoisers and results: a few lines, whatever they hold."""

import attrs
import pytest

import msdk
from msdk.budgeting.ledger import ledger
from msdk.budgeting.questions import Question
from msdk.budgeting.solving import solve
from recipes import tiny


@pytest.fixture(scope="module")
def shown():
    """One of each, of a recipe with a hostile title."""
    recipe = attrs.evolve(tiny(), title="<b>x\x1b[31m\n" + "y" * 5000)
    budget = msdk.budget(recipe, name="<b>tiny")
    clusters = msdk.cluster(recipe, strategy="optimal-denoiser")
    return {
        "recipe": recipe,
        "denoiser": msdk.build(recipe),
        "budget": budget,
        "ledger": ledger(budget, (10, 20, 2), 4, recipe),
        "clusters": clusters,
        "strategy": clusters.strategies[0],
        "solution": solve(recipe, Question(target=600e3, what="macs", convention="exact"), name="tiny"),
    }


WORDS = {
    "recipe": [
        "x 8 x 8",
        "encoder ddpmpp, shared",
        "3 decoders: ddpmpp, ddpmpp, ddpmpp",
        "edges in ratio 0.3, 2.5",
        "4 iterations",
    ],
    "denoiser": ["Denoiser of 1 x 8 x 8", "float32 on cpu", "stage 2: ratio 2.5 .. inf"],
    "budget": ["Budget of <b>tiny", "MMACs", "of training"],
    "ledger": ["Ledger", "images seen"],
    "clusters": ["optimal-denoiser", "edges t"],
    "strategy": ["edges_t=(", "<t, to_clean"],
    "solution": ["Widths of tiny for", "distance"],
}


@pytest.mark.parametrize("name", WORDS)
def test_each_is_shown_in_a_few_lines(shown, name, monkeypatch):
    """No arrays, no modules, no control characters."""
    monkeypatch.setenv("COLUMNS", "100")
    text = repr(shown[name])
    assert all(words in text for words in WORDS[name]), text
    assert len(text) < 4000
    assert len(text.splitlines()) <= 16
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}


@pytest.mark.parametrize("name", ["budget", "ledger", "clusters", "solution"])
def test_notebooks_show_a_table(shown, name):
    """As HTML, in which a title is text."""
    text = shown[name]._repr_html_()
    assert text.startswith("<table>")
    assert text.count("<tr>") >= 2
    assert "<b>" not in text


def test_a_recipe_of_classes_that_nobody_registered_is_shown(shown):
    """A part is called by its class then."""

    @attrs.frozen
    class Mine(type(shown["recipe"].sampler)):
        pass

    assert "sampler Mine" in repr(attrs.evolve(shown["recipe"], sampler=Mine()))
