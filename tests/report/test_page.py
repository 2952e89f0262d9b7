"""Promises of the page: it holds every figure, all text is escaped, and it loads nothing."""

import re
from html.parser import HTMLParser

import attrs
import pytest

import msdk
from msdk.budgeting.cards import card_named
from msdk.budgeting.planning import estimate
from msdk.report.page import budgets_page
from recipes import tiny

VOID = {"meta", "link", "br"}
LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background", "formaction"}


class Reader(HTMLParser):
    """Fails on unbalanced tags; keeps attributes, text, exact figures and ids."""

    def __init__(self, page):
        super().__init__()
        self.open, self.loads, self.text, self.values, self.ids, self.tags = [], [], [], set(), [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in LOADING:
                self.loads.append(value)
            elif name == "value":
                self.values.add(value)
            elif name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(budgets, diffs, ledger):
    return budgets_page(budgets, diffs=diffs, ledger=ledger)


def numbers(value):
    """Every number of plain data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if type(value) in (int, float) else []


def test_well_formed_and_loads_nothing(page):
    """Tags balance, ids are unique, links stay on the page, and its policy forbids everything else."""
    read = Reader(page)
    assert len(read.ids) == len(set(read.ids))
    assert {load for load in read.loads if not load.startswith("#")} == {"data:,"}
    assert {load[1:] for load in read.loads if load.startswith("#")} <= set(read.ids)
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_the_page_is_small(page):
    """A page of two recipes is below 200 kB, so that it can be attached to anything."""
    assert len(page.encode()) < 200_000


def test_text_is_escaped(page, budgets):
    """A title with markup comes out as text: there is one script, one style, and no element of the notes'."""
    read = Reader(page)
    assert (read.tags.count("script"), read.tags.count("style"), read.tags.count("i")) == (1, 1, 0)
    assert budgets[1].title in "".join(read.text)
    assert "A note <i>to readers</i>." in "".join(read.text)


@pytest.mark.parametrize("part", ["params", "equivalent_macs", "autoencoder", "memory", "audit"])
def test_every_figure_of_a_recipe_is_there(page, budgets, part):
    """Each count stands in the page in full, beside its rounded form."""
    read = Reader(page)
    text = " ".join(" ".join(read.text).split())
    for one in budgets:
        for number in numbers(one.as_json()[part]):
            assert str(number) in read.values or str(number) in text, number


def test_tooltips_are_in_full(page):
    """What a rounded figure stands for is shown to its last digit; shares to twelve."""
    figures = re.findall(r'<data value="([^"]+)" title="([^"]+)"', page)
    assert len(figures) > 100
    for value, title in figures:
        number = float(title.removesuffix(" %").replace(",", ""))
        if title.endswith("%"):
            assert number == pytest.approx(100 * float(value), rel=1e-11)
        else:
            assert number == float(value)
    shares = re.findall(r'title="([^"]+)"[^>]*>[^<]* <span class="unit">%</span>', page)
    assert len(shares) > 10
    assert all(title.endswith(" %") for title in shares)


def test_plans_for_a_card(budgets):
    """Hours and money stand among the figures, with the card, its rate and where that is stated."""
    plan = [
        attrs.evolve(one, estimate=estimate(one, card_named("l4"), "bf16", utilisation=0.5, price=0.8))
        for one in budgets
    ]
    text = " ".join(" ".join(Reader(budgets_page(plan)).text).split())
    assert "on NVIDIA L4 at 50.0 % of 121.0 TFLOP/s (bf16)" in text
    assert "Training time, planned" in text
    assert "NVIDIA L4, data sheet, 2023" in text
    assert str(plan[1].estimate.cost) in Reader(budgets_page(plan)).values


def test_every_figure_of_a_stage_is_there(page, budgets):
    """Parameters, MACs, operators and calls in full; shares, times and ratios in words."""
    read = Reader(page)
    text = " ".join(" ".join(read.text).split())
    for one in (budget.as_json() for budget in budgets):
        for stage in one["stages"]:
            assert {str(number) for part in ("params", "macs") for number in numbers(stage[part])} <= read.values
            if len(one["stages"]) > 1:
                assert all(f"{100 * share:.1f} %" in text for share in stage["weights"].values())
                assert f"{stage['calls']} calls" in text
            assert f"t {stage['t'][0]:.4g} .. {stage['t'][1]:.4g}" in text
        for key in ("iterations", "images", "total_flops"):
            number = one["training"][key]
            assert str(number) in read.values or f"{number:,}" in text, key
        assert f"{one['nfe']}" in text


def test_every_call_is_there(page, budgets):
    """Each call says its step, time, ratio, stage and evaluations; a guided one has two."""
    for one in budgets:
        for number, call in enumerate(one.trace, 1):
            times = "2 evaluations" if call.evaluations == 2 else "1 evaluation"
            words = f"call {number}: step {call.step}, t {call.t:.5g}, ratio {call.ratio:.5g}"
            assert f"{words}, stage {call.stage}, {times}, " in page


def test_long_samplers_are_drawn_in_runs(budgets):
    """A thousand calls become a few cells that say which calls they are."""
    call = budgets[1].trace[0]
    trace = tuple(attrs.evolve(call, step=step, stage=2 - step // 400) for step in range(1000))
    page = budgets_page([attrs.evolve(budgets[1], trace=trace)])
    assert page.count('class="call"') == 3
    assert "calls 401 .. 800: step 400 .. 799" in page


def test_ledger_and_differences(page, ledger, diffs):
    """What was spent stands beside what was predicted, and every key that differs is listed."""
    text = " ".join(" ".join(Reader(page).text).split())
    assert "Ledger of digits/three" in text
    assert all(f"{images:,}" in text for images in ledger.images_by_stage)
    assert all(one["path"] in text for one in diffs[0])
    assert len(diffs[0]) > 5


def test_where_accounts_differ(page, budgets):
    """One sentence for each recipe; a budget that brings its own is quoted."""
    assert page.count('class="differ"') == 2
    training = attrs.evolve(budgets[0].training, explanation="They differ by a sentence.")
    own = attrs.evolve(budgets[0], training=training)
    assert "digits/unified: They differ by a sentence." in budgets_page([own])


def test_limits(page, budgets):
    """What exceeds is said first, and beside its limit; what was not asked for is told."""
    assert "Over its limits:" in page
    assert "over by" in page
    assert "not asked for" not in page
    assert "not asked for" in budgets_page([attrs.evolve(budgets[1], memory=None)])


def test_a_denoiser_without_a_recipe():
    """Its budget has no sampler and no training: those parts are left out, nothing is invented."""
    bare = msdk.budget(msdk.build(tiny()))
    page = budgets_page([bare])
    Reader(page)
    assert "Cost by time" not in page  # the tile is for comparing; the weighting says it
    assert "of the time of the schedule" in page
    assert 'class="strip"' not in page


def test_flops_are_offered_where_a_mac_is_two(budgets):
    """Only the exact convention counts multiply-accumulates alone, so only it can be shown in FLOPs."""
    assert 'data-set-unit="flops"' in budgets_page(budgets)
    paper = [budgets[0], attrs.evolve(budgets[1], convention="paper")]
    assert 'data-set-unit="flops"' not in budgets_page(paper)


def test_like_names_stay_apart(budgets):
    """The same file twice, under two conventions say, gets two names."""
    page = budgets_page([budgets[0], budgets[0]])
    assert "digits/unified (1)" in page
    assert "digits/unified (2)" in page
