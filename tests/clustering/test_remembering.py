"""Edges that were found for the same data and settings are not looked for again, and nothing else is taken for them."""

import json
import shutil

import attrs
import numpy as np
import pytest
from commands import quick
from PIL import Image

import msdk
from msdk.clustering import with_edges
from msdk.clustering.remembering import key_of
from msdk.clusterings.optimal_denoiser import OptimalDenoiser
from msdk.recipe import to_toml
from recipes import latent, tiny

STAGES = 'stages={clustering={name="optimal-denoiser", draws=20, t_first=0.01}}'


@pytest.fixture(autouse=True)
def searches(tmp_path, monkeypatch):
    """A cache of its own for each test, and a list that grows with each clustering that really runs."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path / "cache"))
    ran, find = [], OptimalDenoiser.find

    def counted(self, subject):
        ran.append(self)
        return find(self, subject)

    monkeypatch.setattr(OptimalDenoiser, "find", counted)
    return ran


def test_it_runs_once(searches):
    """The second time the same is found, to the last number, and said to be from before; on request it runs."""
    first, again = (with_edges(tiny(STAGES), device="cpu") for _ in range(2))
    assert len(searches) == 1
    assert first[0] == again[0]
    assert first[1].as_json() == again[1].as_json()
    assert [found.strategies[0].cached for _, found in (first, again)] == [False, True]
    anew = with_edges(tiny(STAGES), device="cpu", cache=False)[0]
    assert (anew, len(searches)) == (first[0], 2)
    msdk.cluster(tiny(STAGES), device="cpu")  # who asks for a clustering in Python gets one
    assert len(searches) == 3


def test_a_cache_that_is_damaged_is_not_believed(searches, tmp_path):
    """Nor one whose numbers somebody changed."""
    first, _ = with_edges(tiny(STAGES), device="cpu")
    (file,) = (tmp_path / "cache" / "counts").iterdir()
    whole = file.read_text()
    changed = json.loads(whole)
    changed["value"]["edges_ratio"] = [1.0, 2.0]
    for content in (whole[:-50], "", json.dumps(changed)):
        file.write_text(content)
        assert with_edges(tiny(STAGES), device="cpu")[0] == first
    assert len(searches) == 4
    assert with_edges(tiny(STAGES), device="cpu")[1].strategies[0].cached


def key(recipe, seed=0, device="cpu", digest="d"):
    return key_of(recipe, recipe.stages.clustering, digest, seed, device)


def test_the_key_has_all_that_edges_depend_on(tmp_path):
    """Another seed, device, digest, setting or schedule is another key; what does not matter is none."""
    one = tiny(STAGES)
    others = [
        key(one, seed=1),
        key(one, device="cuda:0"),
        key(one, digest="e"),
        key(tiny(STAGES, "stages.clustering.draws=21")),
        key(tiny(STAGES, "schedule.beta_max=15.0")),
        key(tiny(STAGES, "encoder.unit_range=true")),
    ]
    assert len({json.dumps(each) for each in (key(one), *others)}) == 7
    assert key(one) == key(tiny(STAGES, "encoder.channels=16", "training.lr=0.5", "sampling.steps=9", 'title="x"'))
    assert key(one, device="cuda:0") == key(one, device="cuda:1")
    places = [tiny(STAGES, f'data={{name="folder", path="{place}", size=8, channels=1}}') for place in ("a", "b")]
    assert key(places[0]) == key(places[1]) != key(tiny(STAGES, 'data={name="folder", path="a", size=8}'))
    assert key(tiny('stages={clustering={name="gradient", run="x"}}')) is None
    gradient = 'stages={clustering={name="gradient"}}'
    assert key(tiny(gradient)) == key(tiny(gradient, 'title="x"')) != key(tiny(gradient, "training.lr=0.5"))


def test_weights_of_a_run_are_in_the_key(tmp_path):
    """Of a strategy that looks at a run's denoiser: its last weights, wherever it lies; trained on, it is another."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    recipe = tiny("training.iterations=2", "training.checkpoint_every=1", "training.ema_decay=0.5")
    msdk.train(recipe, run)

    def keyed(place):
        return key(tiny(f'stages={{clustering={{name="dirichlet", draws=20, run="{place}"}}}}'))

    first = keyed(run)
    shutil.copytree(run, moved)
    assert keyed(moved) == first != key(tiny('stages={clustering={name="dirichlet", draws=20}}'))
    shutil.rmtree(moved / "checkpoints" / "00000002")
    assert keyed(moved) not in (None, first)
    assert keyed(tmp_path / "none") is None


@pytest.mark.parametrize("name", msdk.clusterings.names())
def test_weights_of_an_autoencoder_are_data(name, tmp_path):
    """Other weights under the same name make other latents, for strategies that look at latents, and for no others."""
    recipe, spec = latent(tmp_path, STAGES), msdk.clusterings.get(name)()
    before = key_of(recipe, spec, "d", 0, "cpu")
    weights = tmp_path / "vq.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    looks = not {"data", "models"}.isdisjoint(spec.needs)
    assert (key_of(recipe, spec, "d", 0, "cpu") != before) == looks


def test_other_data_are_looked_at(searches, tmp_path):
    """One pixel of one image suffices, and the data may be elsewhere; the first data's edges are not forgotten."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)

    def placed(name):
        (tmp_path / name).mkdir()
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
        return tiny(STAGES, f'data={{name="folder", path="{tmp_path / name}", size=8, channels=1}}')

    one, same = placed("one"), placed("same")
    pixels[0, 0, 0] ^= 255
    other = placed("other")
    for recipe in (one, same, other, one):
        with_edges(recipe, device="cpu")
    assert len(searches) == 2


def test_commands_share_what_they_found(searches, tmp_path, capsys, monkeypatch):
    """Budget finds, and cluster, train and budget take it and say so; --no-cache finds it anew."""
    recipe = tmp_path / "r.toml"
    recipe.write_text(to_toml(tiny(STAGES, "training.iterations=1")))
    words = {
        ("budget", recipe): "msdk cluster keeps them",
        ("budget", recipe, "--json"): "found before; --no-cache finds them anew",
        ("train", recipe, "--out", tmp_path / "run", "--device", "cpu"): "found before; --no-cache finds them anew",
    }
    for command, said in words.items():
        code, _, err = quick(capsys, monkeypatch, *command)
        assert (code, said in err) == (0, True), err
    code, out, _ = quick(capsys, monkeypatch, "cluster", recipe, "--out", tmp_path / "c.json")
    assert "Found before, for the same data and settings: optimal-denoiser" in " ".join(out.split())
    assert len(searches) == 1
    assert json.loads((tmp_path / "c.json").read_text()) == json.loads((tmp_path / "run/clustering.json").read_text())
    quick(capsys, monkeypatch, "cluster", recipe, "--no-cache", "--json", "--out", tmp_path / "d.json")
    assert len(searches) == 2


def test_parts_without_a_name_are_not_kept(searches):
    """A strategy of one's own that nobody registered is found each time."""

    @attrs.frozen(kw_only=True)
    class Mine(OptimalDenoiser):
        pass

    recipe = tiny(STAGES)
    own = attrs.evolve(recipe, stages=attrs.evolve(recipe.stages, clustering=Mine(draws=20, t_first=0.01)))
    assert key_of(own, own.stages.clustering, "", 0, "cpu") is None
