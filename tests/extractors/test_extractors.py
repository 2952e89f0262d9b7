"""Promises of extractors: what they look at, where weights come from, and that torch-fidelity's numbers are ours."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import msdk
from msdk import testing
from msdk.datasets.digits import Digits
from msdk.evaluation.extracting import looked_at
from msdk.metrics.base import Evidence
from msdk.metrics.fid import FID
from msdk.metrics.inception_score import InceptionScore
from msdk.metrics.kid import KID
from msdk.metrics.precision_recall import PrecisionRecall

HOME = Path(os.environ.get("MSDK_TEST_DATA", "")) / "golden" / "more" / "metrics"
RECIPE = json.loads((HOME / "end_to_end.json").read_text()) if (HOME / "end_to_end.json").is_file() else None


def test_the_digits_extractor_tells_digits_apart():
    """More than 98 % of those that its training never saw (benchmarks/train_digits_extractor.py), from 200 kB."""
    source = Digits().open()
    held_out = range(0, len(source), 5)
    images, condition = source.batch(held_out)
    found = msdk.extractors.get("digits")().open()(images)
    assert (found.logits.argmax(1) == condition.label).double().mean() > 0.98
    assert Path("msdk/extractors/digits.safetensors").stat().st_size <= 200_000
    assert found.features.dtype == torch.float64
    together = msdk.extractors.get("digits")().open()(images[:7]).features
    torch.testing.assert_close(together, found.features[:7], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["inception", "dinov2"])
def test_without_a_file_a_message_says_all(name, tmp_path, monkeypatch):
    """What the file is, where it is usually had, its digest as far as it is known, and what there is without it."""
    monkeypatch.delenv("MSDK_WEIGHTS", raising=False)
    for place in (None, tmp_path / "nowhere.pth", tmp_path):
        with pytest.raises(msdk.PartError) as caught:
            msdk.extractors.get(name)(weights=place).open()
        told = str(caught.value)
        for words in ("https://", ".pth", "SHA-256", "MSDK_WEIGHTS", "downloads nothing", "denoising-loss"):
            assert words in told
        assert str(place or "not given") in told
    monkeypatch.setenv("MSDK_WEIGHTS", str(tmp_path))
    with pytest.raises(msdk.PartError, match="where no such file lies"):
        msdk.extractors.get(name)().open()


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("digits", (3, 32, 32), "grey images of 8x8"),
        ("inception", (4, 8, 8), "pictures"),
        ("dinov2", (2, 8), "pictures"),
    ],
)
def test_other_images_are_refused(name, shape, words):
    """Each says what it is for."""
    with pytest.raises(msdk.PartError, match=words):
        msdk.extractors.get(name)().check(shape)


class Harm:
    """What a hostile file would run."""

    def __reduce__(self):
        return os.system, ("echo harm",)


def test_no_code_of_a_file_is_run(tmp_path):
    """A pickle that needs code, and a file that is no weights at all, are refused in words."""
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    torch.save({"a": Harm()}, tmp_path / "harm.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    for file in tmp_path.iterdir():
        with pytest.raises(
            msdk.PartError, match=r"without running code|no tensors by name|has no weights of Inception"
        ):
            msdk.extractors.get("inception")(weights=file).open()


def random_weights(seed):
    """As the vectors' recipe has it: torch's own initial weights, and convolutions that keep activations alive."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is missing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(seed)
        net = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    with torch.no_grad():
        for each in net.modules():
            if isinstance(each, torch.nn.Conv2d):
                each.weight.mul_(6**0.5)
    return net.state_dict()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of Inception's weights, random."""
    state = random_weights(5201 if RECIPE is None else RECIPE["seed"])
    file = tmp_path_factory.mktemp("weights") / "weights-inception-2015-12-05-6726825d.pth"
    torch.save(state, file)
    return file


@pytest.mark.slow
def test_inception_keeps_the_laws(weights, monkeypatch):
    """With a file of random weights, named by its folder in the environment; its digest is the file's."""
    monkeypatch.setenv("MSDK_WEIGHTS", str(weights.parent))
    testing.check("extractor", msdk.extractors.get("inception")(layer="192"), shape=(1, 16, 16))
    opened = msdk.extractors.get("inception")().open()
    assert opened.digest == hashlib.sha256(weights.read_bytes()).hexdigest()


LAYERS = ("64", "2048")
"""Each is a pass through the network; 192 and 768 were compared by hand."""


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.skipif(RECIPE is None, reason="MSDK_TEST_DATA has no golden/more/metrics")
def test_numbers_are_those_of_torch_fidelity_end_to_end(weights):
    """From pixels to features, FID of three layers, KID, precision, recall and IS: within the vectors' tolerances."""
    state = torch.load(weights, weights_only=True)
    digest = hashlib.sha256()
    for tensor in state.values():
        digest.update(tensor.contiguous().numpy().tobytes())
    if digest.hexdigest() != RECIPE["state_sha256"]:
        pytest.skip("this torch draws other initial weights than the vectors'")
    data = np.load(HOME / "end_to_end.npz")
    images = [
        torch.from_numpy(data[f"base{which}"]).repeat_interleave(8, 2).repeat_interleave(8, 3) for which in (1, 2)
    ]
    assert [hashlib.sha256(each.numpy().tobytes()).hexdigest() for each in images] == RECIPE["images_sha256"]
    found = {}
    for layer in LAYERS:
        opened = msdk.extractors.get("inception")(weights=weights, layer=layer).open()
        one, other = (looked_at(opened, each) for each in images)
        shown = Evidence(generated=one, reference=other)
        found[f"fid_{layer}"] = FID().score(shown).numbers[0].value
        if f"features_{layer}_set1" in data:
            np.testing.assert_allclose(one.features, data[f"features_{layer}_set1"], rtol=1e-4, atol=1e-5)
    settings = RECIPE["settings"]
    kid = KID(subsets=settings["kid_subsets"], subset_size=settings["kid_subset_size"], seed=settings["rng_seed"])
    (number,) = kid.score(shown).numbers
    found |= {"kid_2048_mean": number.value, "kid_2048_std": number.std}
    near = PrecisionRecall(neighbours=settings["prc_neighborhood"]).score(shown).numbers
    found |= {f"{each.name.replace('-', '_')}_2048": each.value for each in near}
    score = InceptionScore(splits=settings["isc_splits"], seed=settings["rng_seed"])
    (number,) = score.score(shown).numbers
    found |= {"isc_mean": number.value, "isc_std": number.std}
    assert set(found) == set(RECIPE["abs_tol"]) - {"fid_192", "fid_768"}
    for name, value in found.items():
        assert value == pytest.approx(RECIPE["results_internal_f32"][name], abs=RECIPE["abs_tol"][name], rel=0), name


@pytest.mark.slow
def test_dinov2_keeps_the_laws(tmp_path):
    """With random weights under the names of the published file, of images of 518 pixels; another size is refused."""
    import timm

    torch.manual_seed(0)
    state = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0, img_size=518).state_dict()
    file = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save({**state, "mask_token": torch.zeros(1, 384)}, file)
    extractor = msdk.extractors.get("dinov2")(weights=tmp_path, size="s")
    testing.check("extractor", extractor, shape=(1, 16, 16))
    assert msdk.metrics.get("fd-dinov2")(weights=file, size="s").own_extractor.label == "DINOv2-s"
    with pytest.raises(msdk.PartError, match=r"has no weights of DINOv2's ViT-B/14"):
        msdk.extractors.get("dinov2")(weights=file, size="b").open()
