"""Every registered part keeps the laws that plugins are asked to keep, drawn from the registry's own listing."""

import math
import zipfile

import attrs
import pytest
import torch
from PIL import Image

import msdk
from msdk import testing
from msdk.datasets.digits import Digits
from msdk.datasets.folder import Folder
from msdk.datasets.shards import Shards
from msdk.datasets.zip import Zip
from msdk.registry import KINDS, registries
from msdk.schedules.cld import CLD
from msdk.schedules.pfgm import PFGM
from msdk.schedules.rectified_flow import RectifiedFlow
from msdk.schedules.vp import VPLinear
from msdk.testing import clusterings, networks

SHAPE = (3, 16, 16)
SCHEDULES = {
    "gddim": CLD(),
    "pfgm": PFGM(),
    "pfgm-euler": PFGM(),
    "flow-euler": RectifiedFlow(),
    "flow-heun": RectifiedFlow(),
}
"""What a sampler runs on that does not run on VP."""


VELOCITIES = "its state has velocities beside the image; the published samples hold it"
EXEMPT = {
    ("gddim", "order_is_the_declared_one"): VELOCITIES,
    ("gddim", "noise_becomes_data"): VELOCITIES,
    ("gddim", "a_seed_decides"): VELOCITIES,
    ("consistency", "noise_becomes_data"): "it takes a network that jumps to the sample, not to the mean of samples",
}
"""What does not suit a part, and why."""


class Fixed:
    """A network whose gradient turns from one axis to the other as time goes on."""

    def gradient(self, t):
        return torch.tensor([math.cos(t), math.sin(t), 0.0])


def with_models():
    """A subject that has networks in training as well."""
    return attrs.evolve(clusterings.some(), models=lambda run, **settings: iter([Fixed()] * settings["checkpoints"]))


UNFILED = ("dinov2", "inception")
"""Extractors that need a file of weights, which nobody may ship; tests/extractors makes one of random weights."""


def cases():
    for kind in KINDS:
        if kind != "datasets":
            owned = [name for name in registries()[kind].names() if registries()[kind].origin(name).owner == "msdk"]
            for name in owned:
                for law in testing.laws(kind):
                    if kind == "extractors" and name in UNFILED and law not in testing.laws("weightings")[:2]:
                        continue
                    if (name, law.__name__) in EXEMPT or law is testing.decoders.trains_saves_and_goes_on:
                        continue
                    yield pytest.param(kind, name, law, id=f"{kind}-{name}-{law.__name__}")


@pytest.mark.parametrize(("kind", "name", "law"), list(cases()))
def test_built_ins_keep_the_laws(kind, name, law):
    """All kinds, all names, all laws."""
    options = {}
    if kind in ("encoders", "decoders", "autoencoders"):
        options["shape"] = SHAPE
    if kind == "extractors" and law not in testing.laws("weightings")[:2]:
        options["shape"] = (1, 8, 8)
    if kind == "samplers" and name in SCHEDULES:
        options["schedule"] = SCHEDULES[name]
    if name == "gradient":
        options["subject"] = with_models()
    if name == "tensorboard":
        pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    if law is testing.encoders.trains_saves_and_goes_on:  # the decoder of the same name with it
        options["decoder"] = networks.small("decoders", name)
    law(networks.small(kind, name), **options)


def test_exemptions_are_needed():
    """A part that keeps a law is not exempt from it."""
    laws = {law.__name__: law for law in testing.laws("samplers")}
    for name, law in EXEMPT:
        with pytest.raises((AssertionError, RuntimeError)):
            laws[law](msdk.samplers.get(name)(), schedule=SCHEDULES.get(name, VPLinear()))


@pytest.mark.parametrize("law", testing.laws("dataset"))
def test_data_sets_keep_the_laws(law, tmp_path):
    """On data that are there: the embedded digits, and a few images as folder, zip and shards."""
    law(Digits())
    folder, shards = tmp_path / "images", tmp_path / "shards"
    shards.mkdir()
    for label in range(3):
        (folder / str(label)).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (40 * label, number, 7)).save(folder / str(label) / f"{number}.png")
    law(Folder(path=folder, size=8))
    for file in (tmp_path / "all.zip", shards / "1.zip", shards / "2.zip"):
        with zipfile.ZipFile(file, "w") as archive:
            for image in sorted(folder.rglob("*.png")):
                archive.write(image, image.relative_to(folder).as_posix())
    law(Zip(path=tmp_path / "all.zip", size=8))
    law(Shards(path=shards, size=8))
