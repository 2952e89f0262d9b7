"""How a recipe gets its stage edges, decided once: by the recipe, the run, a like recipe, or a clustering now."""

import functools
import json

import pytest
from commands import quick

import msdk
from msdk.budgeting import measuring
from msdk.clustering import finding, with_edges
from msdk.errors import PartError, RunError
from msdk.partition import Partition
from msdk.recipe import to_toml
from recipes import latent, tiny

SNR = 'stages={clustering={name="snr"}}'


@pytest.fixture
def devices(monkeypatch):
    """The devices that clusterings are asked to run on; all run on the CPU."""
    asked = []
    real = finding.pick_device

    def picked(name):
        asked.append(name)
        return real("cpu")

    monkeypatch.setattr(finding, "pick_device", picked)
    return asked


@pytest.fixture
def clustered(tmp_path):
    """A recipe file whose stages are to be found."""
    path = tmp_path / "clustered.toml"
    path.write_text(to_toml(tiny(SNR, "training.iterations=1", "sampling.images=1")))
    return path


@pytest.mark.parametrize("command", ["train", "run"])
def test_a_command_clusters_where_it_trains(clustered, tmp_path, devices, capsys, monkeypatch, command):
    """`--device cpu` is for the clustering too, so that a machine with CUDA finds the edges of one without."""
    code, _, err = quick(capsys, monkeypatch, command, clustered, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 0, err
    assert devices == ["cpu"]


def test_a_budget_clusters_where_it_measures(clustered, devices, capsys, monkeypatch):
    """Recipes side by side whose clusterings look at the same are clustered once."""
    monkeypatch.setattr(measuring, "measure", functools.partial(measuring.measure, seconds=0.001))
    words = ("budget", clustered, clustered, "--measure", "--device", "cpu", "--batch", "2", "--json")
    code, out, err = quick(capsys, monkeypatch, *words)
    assert code == 0, err
    assert devices == ["cpu"]
    assert json.loads(out)[0]["stages"] == json.loads(out)[1]["stages"]


def test_edges_that_are_known_are_not_looked_for(devices):
    """A recipe with edges stays what it is, whatever else is given."""
    recipe = tiny()
    assert with_edges(recipe, run="nowhere", like=[(tiny(SNR), recipe)]) == (recipe, None)
    assert devices == []


def test_a_run_keeps_its_edges(tmp_path, devices):
    """Going on takes the edges of the run folder, though a clustering would find others."""
    recipe = tiny(SNR, "training.iterations=1")
    own = Partition((0.3, 2.5))
    msdk.train(recipe.with_partition(own), tmp_path / "run")
    ready, clusters = with_edges(recipe, run=tmp_path / "run")
    assert (ready, clusters, devices) == (recipe.with_partition(own), None, [])
    found, clusters = with_edges(recipe)
    assert clusters is not None
    assert found.partition() == clusters.partition() != own


def like(one, other):
    """Whether edges of a recipe hold for another one, too."""
    own = Partition((0.7, 1.7))
    found, clusters = with_edges(other, like=[(one, one.with_partition(own))], device="cpu")
    assert (clusters is None) == (found.partition() == own)
    return clusters is None


@pytest.mark.parametrize(
    ("clustering", "override", "same"),
    [
        ('name="snr"', "encoder.channels=16", True),
        ('name="snr"', 'sampler.name="heun"', True),
        ('name="snr"', "schedule.beta_max=15.0", False),
        ('name="snr"', "stages.clustering.points=500", False),
        ('name="equal-cost"', "encoder.channels=16", True),
        ('name="equal-cost"', 'sampler.grid="quadratic-t"', False),
        ('name="equal-cost"', "sampling.steps=9", False),
        ('name="optimal-denoiser", draws=50', "encoder.channels=16", True),
        ('name="optimal-denoiser", draws=50', "stages.clustering.draws=60", False),
        ('name="gradient", points=6, batch=4, iterations=1, checkpoints=1', "encoder.channels=12", False),
    ],
)
def test_like_clusterings_share_edges(clustering, override, same):
    """They do where they look at the same: of data, calls and networks, what the strategy says it needs."""
    stages = f"stages={{clustering={{{clustering}}}}}"
    assert like(tiny(stages), tiny(stages, 'title="another"')) is True
    assert like(tiny(stages), tiny(stages, override)) is same


def test_latents_and_images_do_not_share_edges(tmp_path):
    """The data of a recipe with an autoencoder are its latents, though the data set is the same."""
    stages = 'stages={clustering={name="optimal-denoiser", draws=50, t_first=0.01}}'
    assert like(tiny(stages), latent(tmp_path, stages)) is False


def test_a_recipe_to_compare_with_is_told_before_work(tmp_path, devices):
    """`budget.compare` is read when it is used, and first of all: a file that is gone costs no clustering."""
    recipe = tiny(SNR, f'budget.compare=["{tmp_path / "gone.toml"}"]')
    with pytest.raises(PartError, match=r"budget\.compare names a recipe that cannot be compared with: .*gone\.toml"):
        msdk.run(recipe, tmp_path / "run")
    assert devices == []
    assert not (tmp_path / "run").exists()


def test_verbs_take_the_name_of_a_recipe(clustered, tmp_path):
    """cluster, train and run take a file where they take a recipe."""
    assert msdk.cluster(clustered).partition() == msdk.cluster(msdk.load_recipe(clustered)).partition()
    assert msdk.run(str(clustered), tmp_path / "run", device="cpu").last.iteration == 1
    own = tmp_path / "run/recipe.toml"
    assert msdk.train(own, tmp_path / "again", device="cpu").last.iteration == 1


def test_building_and_training_a_file_find_its_edges(clustered, tmp_path, devices):
    """As budgets do; what was found lies in the run folder, and going on takes it. A recipe itself is as it says."""
    edges = msdk.build(clustered, "meta").partition
    assert msdk.build(clustered, "meta", Partition((0.7, 1.7))).partition.edges == (0.7, 1.7)
    msdk.train(clustered, tmp_path / "run", device="cpu")
    assert msdk.load_run(tmp_path / "run").partition == edges
    assert (tmp_path / "run/clustering.json").is_file()
    assert devices == [None, "cpu"]
    msdk.train(clustered, tmp_path / "run", device="cpu", resume=True)
    assert devices == [None, "cpu"]
    clustered.write_text(clustered.read_text().replace('"snr"', '"timestep"'))
    msdk.train(clustered, tmp_path / "run", device="cpu", force=True)  # begins anew, with edges of its own
    assert msdk.load_run(tmp_path / "run").partition == msdk.build(clustered, "meta").partition != edges
    with pytest.raises(RunError, match="exists"):
        msdk.train(clustered, tmp_path / "run", device="cpu")
    for verb in (msdk.build, lambda recipe: msdk.train(recipe, tmp_path / "none")):
        with pytest.raises(PartError, match="still to be found"):
            verb(msdk.load_recipe(clustered))
