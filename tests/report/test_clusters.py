"""Promises of clusterings as tables and plots: complete, the same for the same artefact, also for unknown curves."""

import sys

import attrs
import pytest

from msdk.clustering.clusters import Clusters
from msdk.errors import PlotError
from msdk.recipe.results import from_json
from msdk.report import clusters_grid, clusters_lines, clusters_plot


@pytest.fixture
def clusters():
    times = [0.1, 0.2, 0.3, 0.4, 0.5]
    curves = {"to_clean": [1.0, 0.9, 0.2, 0.1, 0.0], "from_clean": [1.0, 0.95, 0.7, 0.6, 0.5]}
    common = {"seconds": 1.25, "notes": ["A note."], "warnings": [], "edges_ratio": [0.5, 2.0]}
    data = {
        "schedule": "vp-linear",
        "schedule_settings": {},
        "data": {"name": "zip", "path": "/data/cifar.zip", "images": 50000, "sha256": "0123456789abcdef0123"},
        "seed": 7,
        "strategies": [
            {
                "name": "first",
                "edges_t": [0.2, 0.4],
                "intervals_t": [[0.15, 0.25], [0.35, 0.45]],
                "settings": {"alpha": 0.9, "draws": 5},
                "curves": {"t": times, **curves},
                "matrices": {},
                "source": "Go et al. 2023, arXiv 2306.00354, section 4.",
                "images_by_stage": [0.2, 0.5, 0.3],
                "calls_by_stage": [12, 2, 6],
                **common,
            },
            {
                "name": "second",
                "edges_t": [0.3],
                "intervals_t": None,
                "settings": {},
                "curves": {"t": times, "strange": times},
                "matrices": {"similarity": [[abs(t - u) for u in times] for t in times]},
                **common,
                "edges_ratio": [1.0],
                "source": "ours, after arXiv 2306.04990",
            },
        ],
        "skipped": {"third": "it would train a network"},
        "versions": {"msdk": "1", "torch": "2"},
    }
    return from_json(data, Clusters)


def test_the_table_has_edges_intervals_and_what_did_not_run(clusters):
    """Of one strategy a row, with intervals where there are any."""
    for number, row in enumerate(
        (
            ("first", "0.2000 / 0.4000", "0.150-0.250 / 0.350-0.450", "0.5000 / 2.0000", "1.2"),
            ("second", "0.3000", "-", "1.0000", "1.2"),
        )
    ):
        grid = clusters_grid(attrs.evolve(clusters, strategies=clusters.strategies[number : number + 1]))
        assert grid.rows == (row,)
        assert "50,000 images" in grid.title
        assert "third did not run: it would train a network." in grid.notes


def test_strategies_side_by_side(clusters):
    """A row per stage with its end on each clock and what training and sampling give it; papers under the names."""
    why = clusters.skipped["third"]
    grid = clusters_grid(attrs.evolve(clusters, skipped={"third": why, "fourth": why}))
    assert grid.rows == (
        ("first", "0", "0.2", "0.15-0.25", "0.5", "1.39", "20.0 %", "12"),
        ("arXiv 2306.00354", "1", "0.4", "0.35-0.45", "2", "-1.39", "50.0 %", "2"),
        ("", "2", "end", "-", "-", "-", "30.0 %", "6"),
        ("second", "0", "0.3", "-", "1", "0.00", "-", "-"),
        ("ours", "1", "end", "-", "-", "-", "-", "-"),
    )
    assert "third, fourth did not run: it would train a network." in grid.notes
    assert (
        "first: alpha = 0.9, draws = 5; 1.2 s. A note. Source: Go et al. 2023, arXiv 2306.00354, section 4."
        in grid.notes
    )
    assert max(len(line) for line, _ in grid.lines(80)) <= 80


def test_runs_stand_beside_the_data(clusters):
    """A strategy that looked at a run is told from itself."""
    first = clusters.strategies[0]
    run = attrs.evolve(first, settings={**first.settings, "run": "RUN"})
    rows = clusters_grid(attrs.evolve(clusters, strategies=(first, run))).rows
    assert [row[0] for row in rows if row[1] == "0"] == ["first", "first, run"]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_plot_is_the_same_twice(clusters, kind):
    """Curves, matrix and edges of a strategy, papers and stages of several; the same artefact gives the same bytes."""
    first, second = (attrs.evolve(clusters, strategies=(one,)) for one in clusters.strategies)
    told = [
        (first, ("first: t = 0.2000 / 0.4000", "stage 2", "alpha = 0.9")),
        (second, ("second: t = 0.3000", "similarity of t and")),
        (clusters, ("first", "arXiv 2306.00354", "second", "ours", "stage 2", "t of vp-linear", "ratio sigma / alpha")),
    ]
    for each, words in told:
        content = clusters_plot(each, kind)
        assert content == clusters_plot(each, kind)
        if kind == "svg":
            assert all(word in content.decode() for word in words)


def test_a_monitor_has_its_band(clusters):
    """Draws on a logarithmic axis, their mean and its interval."""
    times = [0.1, 0.2, 0.3, 0.4, 0.5]
    names = ("monitor", "monitor_mean", "monitor_low", "monitor_high")
    curves = {"t": times, **{name: [10.0**-k for k in range(5)] for name in names}}
    one = attrs.evolve(clusters.strategies[0], curves=curves)
    text = clusters_plot(attrs.evolve(clusters, strategies=(one,)), "svg").decode()
    assert all(words in text for words in ("monitor of the velocity (dots: draws)", "95 % of other draws"))


def test_the_plot_of_one_strategy(clusters):
    """Without a matrix there is no column for it."""
    clusters = attrs.evolve(clusters, strategies=clusters.strategies[:1])
    assert clusters_plot(clusters).startswith(b"\x89PNG")


def test_no_plot_without_matplotlib(clusters, monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match=r'pip install "msdk-diffusion\[plot\]"'):
        clusters_plot(clusters)


def test_the_plot_follows_the_draws(clusters):
    """Curves of draws have a line through them and a dashed mean of their own name; the line is of local means."""
    from msdk.report.clusters import _local

    one = attrs.evolve(clusters, strategies=clusters.strategies[:1])
    text = clusters_plot(one, "svg").decode()
    assert all(words in text for words in ("S to clean data at t (dots: draws)", "over all draws at smaller t"))
    times, values = [0.1 * number for number in range(200)], [float(number % 2) for number in range(200)]
    middle, mean = _local(times, values, points=50)
    assert mean == [0.5] * 50
    assert middle[:2] == pytest.approx([0.15, 0.55])


def test_an_artefact_is_explained(clusters):
    """Strategy, settings, seed, edges, intervals, data and versions."""
    clusters = attrs.evolve(clusters, strategies=clusters.strategies[:1])
    assert clusters_lines(clusters, "c.json") == [
        "The stages are those of c.json, found by first (alpha = 0.9, draws = 5), seed 7:",
        "t = 0.2000 / 0.4000 of vp-linear, that is a ratio of 0.5000 / 2.0000.",
        "95 % of other draws lie in 0.1500 to 0.2500 and 0.3500 to 0.4500.",
        "Data: zip data/cifar.zip, 50,000 images, SHA-256 0123456789abcdef...; msdk 1, torch 2.",
    ]
