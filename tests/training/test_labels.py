"""Promises of training with classes: checked before it starts, withheld as often as asked, resumed exactly."""

import attrs
import pytest
import torch
from PIL import Image

import msdk
from msdk.batch import Condition, Text
from msdk.errors import DataError
from msdk.runs import latest, load_checkpoint
from msdk.training import step
from msdk.training.drawing import Feed
from msdk.training.labels import training_labels, withheld
from recipes import tiny


def folder_recipe(tmp_path, *places):
    """A recipe of two classes on a folder with an image in each of the places."""
    for index, place in enumerate(places):
        (tmp_path / "data" / place).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 60 * index).save(tmp_path / "data" / place / f"{index}.png")
    return tiny(f'data={{name="folder", path="{tmp_path / "data"}", size=8, channels=1}}', "encoder.classes=2")


def test_the_datas_own_labels_are_read():
    """A conditional model reads the labels of its data; an unconditional one needs none and uses none."""
    recipe = tiny("encoder.classes=10")
    source = recipe.data.open()
    assert training_labels(recipe, source).tolist() == list(source.labels)
    assert training_labels(tiny(), source) is None


def test_data_without_labels_is_refused_before_training(tmp_path):
    """The message names the data and the fix, and no run folder is made."""
    recipe = folder_recipe(tmp_path, "", "a")
    with pytest.raises(DataError, match=r"data set folder .*data has no class labels.*classes is 2.*sub-folder"):
        msdk.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    unconditional = attrs.evolve(recipe, encoder=attrs.evolve(recipe.encoder, classes=0))
    assert msdk.train(unconditional, tmp_path / "run").last.iteration == 4


def test_an_unknown_class_is_refused_before_training(tmp_path):
    """A label beyond the classes names the image, its class and how many classes it takes."""
    recipe = folder_recipe(tmp_path, "a", "b", "c", "c")
    with pytest.raises(
        DataError, match=r"image 2 .* has class 2.* 0 \.\. 1 \(2 such images\): set encoder.classes to 3"
    ):
        msdk.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    source = recipe.data.open()
    source.labels = [0, -2, 1, 1]
    with pytest.raises(DataError, match="correct the labels"):
        training_labels(recipe, source)


def test_labels_are_withheld_as_often_as_asked():
    """A share p of the labels becomes -1, the others stay; 0 keeps all, 1 none; the seed and the step decide which."""

    def fed(probability, seed=0, step=0):
        recipe = tiny("encoder.classes=10", "training.batch_size=4000", f"training.label_dropout={probability}")
        recipe = attrs.evolve(recipe, training=attrs.evolve(recipe.training, seed=seed))
        return Feed(recipe, denoiser, source)(step).batch.condition.label

    denoiser = msdk.build(tiny("encoder.classes=10"))
    source = denoiser.recipe.data.open()
    labels, some = fed(0.0), fed(0.3)
    assert (labels >= 0).all()
    assert (some == -1).double().mean() == pytest.approx(0.3, abs=0.04)
    assert torch.equal(some[some != -1], labels[some != -1])
    assert (fed(1.0) == -1).all()
    assert torch.equal(some, fed(0.3))
    assert not torch.equal(some == -1, fed(0.3, seed=1) == -1)
    assert not torch.equal(some == -1, fed(0.3, step=1) == -1)


def test_the_network_is_fed_the_labels_of_its_images(tmp_path, monkeypatch):
    """Each image comes with its own class, or -1; a wholly withheld run feeds -1 alone."""
    recipe = tiny("encoder.classes=10", "training.label_dropout=0.5")
    source, seen = recipe.data.open(), []
    images = source.read(range(len(source))).images.float() / 127.5 - 1

    def record(objective, recipe, denoiser, batch, draw):
        seen.extend(zip(batch.images, batch.condition.label.tolist(), strict=True))
        return real(objective, recipe, denoiser, batch, draw)

    real = step.image_losses
    monkeypatch.setattr(step, "image_losses", record)
    msdk.train(recipe, tmp_path / "run", device="cpu")
    assert -1 in {label for _, label in seen}
    assert len({label for _, label in seen}) > 3
    for x, label in seen:
        if label != -1:
            twins = (images == x).all((1, 2, 3)).nonzero().squeeze(1).tolist()
            assert label in {source.labels[twin] for twin in twins}


def test_conditional_training_resumes_exactly(tmp_path):
    """With labels, dropout, augmentation, decay and half-life, 2N steps equal N and N more, bit for bit."""
    recipe = tiny(
        "encoder.classes=10",
        "encoder.augment=9",
        "training.label_dropout=0.3",
        "training.augment=0.5",
        "training.weight_decay=0.1",
        "training.sanitize=true",
        "training.ema_half_life=100",
    )

    def steps(count):
        return attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=count))

    msdk.train(steps(6), tmp_path / "whole")
    msdk.train(steps(3), tmp_path / "halves")
    msdk.train(steps(6), tmp_path / "halves", resume=True)
    whole, halves = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    for part in ("model", "ema", "optimizer"):
        ours, theirs = getattr(whole, part), getattr(halves, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part
    initial = msdk.build(recipe).network.state_dict()
    for name in ("label", "augment"):  # both were fed, so both have learned
        (key,) = (key for key in initial if key.endswith(f"embedding.{name}.weight"))
        assert not torch.equal(whole.model[key], initial[key])


def test_text_is_withheld_with_its_label():
    """Class and text of an image are withheld together; a text of which nothing counts has the shape of any other."""
    text = Text(torch.rand(1000, 3, 2) + 1, torch.ones(1000, 3, dtype=torch.bool))
    drawn = torch.rand(1000, generator=torch.Generator().manual_seed(0)) < 0.3
    found = withheld(Condition(torch.zeros(1000, dtype=torch.int64), text=text), drawn)
    gone = found.label == -1
    assert torch.equal(gone, drawn)
    assert torch.equal(gone, ~found.text.mask.any(1))
    assert torch.equal(gone, (found.text.embeddings == 0).all((1, 2)))


def test_a_network_is_fed_no_text_that_it_does_not_take():
    """Data with texts train an encoder without them, as data with labels train one without classes."""
    recipe = tiny()
    source = recipe.data.open()
    real, text = source.read, Text(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))

    def read(indices):
        many = Text(*(part.expand(len(indices), *part.shape[1:]) for part in text))
        return real(indices)._replace(condition=Condition(text=many))

    source.read = read
    batch, *_ = Feed(recipe, msdk.build(recipe), source)(0)
    assert batch.condition == Condition()
