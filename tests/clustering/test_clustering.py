"""Promises of msdk.cluster: reproducible artefacts that recipes point to."""

import json

import attrs
import pytest
import torch
from commands import command, torchrun

import msdk
from msdk.clustering import clusters as clusters_module
from msdk.clustering import finding, write_clusters, write_edges
from msdk.clustering import points as points_module
from msdk.clustering.points import DataPoints
from msdk.datasets.base import Source
from msdk.errors import DataError, PartError, RunError
from msdk.recipe import structure
from msdk.recipe.structuring import to_data
from msdk.training.step import encoded
from recipes import latent, tiny


def stages(clustering):
    """The stages of a recipe that are found by this clustering."""
    return tiny(f"stages={{clustering={{{clustering}}}}}").stages


@pytest.fixture(scope="module")
def digits():
    return msdk.load_recipe("recipes/digits/multistage.toml", ["stages.clustering.draws=400"])


def test_the_same_seed_finds_the_same_edges(digits):
    """A clustering is a function of recipe and seed; edges in t and ratio say the same."""
    first, again, other = (msdk.cluster(digits, seed=seed) for seed in (1, 1, 2))
    assert first.strategies[0].edges_t == again.strategies[0].edges_t != other.strategies[0].edges_t
    strategy = first.strategies[0]
    assert strategy.edges_ratio == tuple(digits.schedule.ratio(t) for t in strategy.edges_t)
    assert strategy.settings["draws"] == 400
    assert first.data["images"] == 1797


def test_compare_runs_every_strategy(digits):
    """--compare has every registered strategy, the recipe's own settings among them, or says why one did not run."""
    found = msdk.cluster(digits, compare=True)
    by_name = {one.name: one for one in found.strategies}
    assert {*by_name, *found.skipped} == set(msdk.clusterings.names())
    assert found.skipped == {"gradient": "it would train a network: give the run folder of one with --run"}
    assert by_name["timestep"].edges_t == pytest.approx((0.334, 0.667))
    assert by_name["snr"].edges_t == pytest.approx((0.348, 0.709))
    assert by_name["optimal-denoiser"].settings["draws"] == 400
    for one in found.strategies:
        assert one.source
        assert sum(one.images_by_stage) == pytest.approx(1)
        assert sum(one.calls_by_stage) == 20


def test_compare_lists_what_cannot_run(tmp_path):
    """Without the images the strategies that look at none are compared, with the recipe's number of stages."""
    two = 'decoders=[{name="ddpmpp", channels=8}, {name="ddpmpp", channels=4}]'
    recipe = tiny(
        f'data={{name="zip", path="{tmp_path / "none.zip"}", size=8, channels=1}}', two, "stages.edges_ratio=[1]"
    )
    found = msdk.cluster(recipe, compare=True)
    assert {len(one.edges_t) for one in found.strategies} == {1}
    assert {"timestep", "snr", "snr-share", "speed", "curriculum", "uniform-lambda"} <= {
        one.name for one in found.strategies
    }
    assert "none.zip" in found.skipped["dirichlet"]
    assert "sha256" not in found.data


def test_compare_with_a_run_has_gradients(tmp_path):
    """`gradient` looks at a run folder of a network for all times, `dirichlet` at it and at the data alone."""
    recipe = tiny("stages.edges_ratio=[]", 'decoders=[{name="ddpmpp", channels=8}]', 'sharing="unified"')
    msdk.train(recipe, tmp_path / "run")
    found = msdk.cluster(
        tiny('stages={clustering={name="gradient", points=12, batch=16}}'), compare=True, run=tmp_path / "run"
    )
    assert found.skipped == {}
    (gradient,) = [one for one in found.strategies if one.name == "gradient"]
    assert gradient.settings["run"] == str(tmp_path / "run")
    assert len(gradient.matrices["affinity"]) == 12
    ways = [one.settings.get("run") for one in found.strategies if one.name == "dirichlet"]
    assert ways == [None, str(tmp_path / "run")]


def test_a_run_says_how_complex_it_is(tmp_path):
    """`run` looks at its denoiser, with its stages and classes; its settings name the run."""
    recipe = tiny("encoder.classes=10", "training.iterations=2")
    msdk.train(recipe, tmp_path / "run")
    for name in ("dirichlet", "acceleration"):
        own, run = (
            msdk.cluster(
                attrs.evolve(recipe, stages=stages(f'name="{name}", draws=64, bins=8')), run=folder
            ).strategies[0]
            for folder in (None, tmp_path / "run")
        )
        assert "run" not in own.settings
        assert run.settings["run"] == str(tmp_path / "run")
        assert run.edges_t != own.edges_t
        assert len(run.curves["monitor"]) == 64


def test_a_run_of_other_images_is_refused(tmp_path):
    """Its networks would see what they were never trained on."""
    recipe = tiny("training.iterations=1")
    msdk.train(recipe, tmp_path / "run")
    other = latent(tmp_path, 'stages={clustering={name="dirichlet"}}')
    with pytest.raises(PartError, match="see images of 1 x 8 x 8, but those of this recipe latents of 2 x 4 x 4"):
        msdk.cluster(other, run=tmp_path / "run")


def test_gradient_trains_where_there_is_no_run():
    """Without a run, the recipe's own network is trained for a few iterations."""
    recipe = tiny('stages={clustering={name="gradient", points=12, batch=16, iterations=3, checkpoints=2}}')
    told = []
    found = msdk.cluster(recipe, progress=lambda *counts: told.append(counts))
    assert len(found.strategies[0].edges_t) == 2
    assert found.strategies[0].notes == ("Affinities are means over 2 checkpoints; gradients were whole.",)
    assert ("gradient", 3, 3) in told
    assert told[-1] == ("gradient", 24, 24)


@pytest.mark.parametrize("strategy", ["optimal-denoiser", "similarity-matrix", "equal-error"])
def test_latents_are_clustered_where_networks_see_them(tmp_path, strategy):
    """With an autoencoder the points are its scaled latents, whose range is told."""
    recipe = latent(tmp_path)
    settings = "draws=100, points=10" if strategy == "similarity-matrix" else "draws=100"
    found = msdk.cluster(attrs.evolve(recipe, stages=stages(f'name="{strategy}", {settings}, t_first=0.01')))
    assert found.data["autoencoder"] == "vq-f4"
    (_,) = [each for each in found.strategies[0].warnings if each.startswith("The data are latents from ")]


def test_latents_are_those_of_training(tmp_path):
    """A point is the encoding of its image, in the same scale as networks are trained on."""
    recipe = latent(tmp_path)
    source = recipe.data.open()
    points = finding._points(recipe, source, "cpu")
    denoiser = msdk.build(recipe).eval()
    pixels = source.read(range(40)).images.float() / 127.5 - 1
    expected = encoded(recipe, denoiser, pixels).flatten(1)
    assert points.size == expected.shape[1]
    torch.testing.assert_close(points.take(range(40)), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(next(points.blocks())[:40], expected, rtol=1e-4, atol=1e-5)


class Counting(Source):
    """Images whose every pixel is their number, with a count of those read; `kind` is their type."""

    digest, labels = "none", None

    def __init__(self, count, kind=torch.uint8):
        self.count, self.kind, self.reads = count, kind, 0

    def __len__(self):
        return self.count

    def read(self, indices):
        self.reads += len(indices)
        return torch.tensor(list(indices)).to(self.kind)[:, None, None, None].expand(-1, 1, 4, 4)


@pytest.mark.parametrize(("cache", "reads"), [(10**6, 250), (0, 750), (16 * 100, 250 + 2 * 150)])
def test_data_larger_than_the_cache_are_read_again(monkeypatch, cache, reads):
    """Blocks are all points once, in order; what the cache cannot hold is read each time and never kept."""
    monkeypatch.setattr(points_module, "BLOCK", 16 * 50)
    monkeypatch.setattr(points_module, "CACHE", cache)
    source = Counting(250)
    points = DataPoints(source, (1, 4, 4))
    for _ in range(3):
        assert torch.cat(list(points.blocks()))[:, 0].tolist() == list(range(250))
    assert source.reads == reads
    assert points.take([7, 249, 7])[:, 3].tolist() == [7, 249, 7]
    assert sum(len(block) for first in range(3) for block in points.blocks(first, 3)) == 250


def test_images_that_are_not_8_bits_are_refused():
    """A data set's contract is uint8; float images would be scaled wrongly in silence."""
    with pytest.raises(DataError, match=r"images are to be uint8, 0 \.\. 255, but this data set gives torch\.float32"):
        DataPoints(Counting(5, torch.float32), (1, 4, 4)).take([0])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["optimal-denoiser", "similarity-matrix"])
def test_processes_share_the_data(tmp_path, strategy):
    """Two processes, each with half of the blocks, find the edges of one to 1e-6, and one of them writes and prints."""
    settings = ("cluster", "recipes/digits/multistage.toml", "--strategy", strategy)
    command(*settings, "--out", tmp_path / "one.json")
    done = torchrun(*settings, "--out", tmp_path / "two.json", "--json")
    assert json.loads(done.stdout)["strategies"][0]["name"] == strategy
    one, two = (json.loads((tmp_path / f"{name}.json").read_text())["strategies"][0] for name in ("one", "two"))
    assert two["edges_t"] == pytest.approx(one["edges_t"], abs=1e-6)
    assert (tmp_path / "two.png").is_file()


def test_strategies_that_look_at_no_data_open_none(tmp_path):
    """SNR needs no images, so a recipe whose data is elsewhere can still be cut."""
    recipe = msdk.load_recipe("recipes/cifar10/dpm-multistage.toml")
    assert msdk.cluster(recipe, strategy="snr").strategies[0].edges_t == pytest.approx((0.348, 0.709))


def test_an_artefact_is_what_a_recipe_points_to(digits, tmp_path):
    """`stages.from` gives the very edges that were found, and an artefact is not overwritten unasked."""
    found = msdk.cluster(digits, strategy="snr")
    path = tmp_path / "edges.json"
    write_clusters(path, found)
    with pytest.raises(RunError, match="exists: replace it with --force"):
        write_clusters(path, found)
    document = json.loads(path.read_text())
    assert set(document["versions"]) == {"msdk", "torch"}
    picture = tmp_path / "edges.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    path.unlink()
    with pytest.raises(RunError, match=r"edges\.png exists: replace it with --force"):
        write_clusters(path, found)
    assert write_clusters(path, found, force=True) == picture
    with pytest.raises(RunError, match=r"is to be a JSON file, with a plot of that name beside it"):
        write_clusters(picture, found, force=True)
    assert document["schedule"] == "vp-linear"
    assert {"name", "edges_t", "edges_ratio", "settings", "seconds", "curves"} <= set(document["strategies"][0])
    data = to_data(tiny())
    data["stages"] = {"from": str(path)}
    assert structure(data, "test").partition() == found.partition()


@pytest.mark.parametrize("before", ["", "edges.png", "edges.json"])
def test_what_was_there_stays_if_writing_fails(tmp_path, monkeypatch, before):
    """A plot that was drawn for an artefact that could not be written goes, one that is somebody's does not."""

    def full(*given):
        raise OSError("no space left")

    monkeypatch.setattr(clusters_module, "write_json", full)
    if before:
        (tmp_path / before).write_bytes(b"mine")
    with pytest.raises(OSError, match="no space left"):
        write_clusters(tmp_path / "edges.json", msdk.cluster(tiny(), strategy="timestep"), force=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({before, "edges.png"} if before else set())


def test_writing_edges_keeps_comments(digits, tmp_path):
    """--write changes the stages of a recipe file and nothing else of it."""
    path = tmp_path / "mine.toml"
    text = (
        "# my notes\n" + msdk.recipe.to_toml(attrs.evolve(digits, budget=msdk.recipe.BudgetOptions())) + "# the end\n"
    )
    path.write_text(text)
    found = msdk.cluster(digits)
    write_edges(path, found)
    written = path.read_text()
    assert written.startswith("# my notes")
    assert "# found by optimal-denoiser" in written
    loaded = msdk.load_recipe(path)
    assert loaded.partition() == found.partition()
    assert loaded.encoder == digits.encoder


def test_edges_carry_to_another_schedule():
    """A recipe on the EDM schedule can cluster the time of another one: the ratio of the edges is what carries over."""
    recipe = msdk.load_recipe(
        "recipes/digits/multistage.toml",
        ['schedule={name="edm"}', 'stages.schedule={name="vp-linear"}', "sampler.name=heun", "budget.compare=[]"],
    )
    found = msdk.cluster(recipe)
    assert found.schedule == "vp-linear"
    assert found.partition() == msdk.cluster(msdk.load_recipe("recipes/digits/multistage.toml")).partition()
    assert recipe.with_partition(found.partition()).partition() == found.partition()
