import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import timm
import torch

import msdk
from msdk import testing
from msdk.decoders.score_sde import DDPMpp
from msdk.denoiser import StagedNetwork
from msdk.errors import PartError
from msdk_timm.encoder import Timm

RECIPE = Path(__file__).parents[3] / "recipes" / "cifar10" / "timm-resnet18.toml"

BACKBONES = [
    ("resnet18", (3, 32, 32)),
    ("resnet18", (3, 32, 16)),
    ("convnext_atto", (3, 32, 32)),  # starts at a quarter of the side
    ("efficientnet_b0", (3, 32, 32)),
    ("swin_tiny_patch4_window7_224", (3, 32, 32)),  # channels last inside, and a size to be told
    ("test_vit", (3, 64, 64)),  # only a sixteenth of the side
    ("vgg11", (1, 28, 28)),  # has a map of the image's own size, which the stem replaces
]


def shaken(module, seed=0):
    """The module with noise on every weight, so that nothing is zero at first and each weight matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return module


def decoder_of(encoder, shape, channels=8):
    info = encoder.info(shape)
    decoder = DDPMpp(channels=channels, channel_mult=(1,) * len(info.levels), groups=1, dropout=0.0)
    return decoder.build(info, shape)


def denoiser_of(backbone):
    """The recipe's three stages with small decoders behind another backbone, built by msdk."""
    overrides = [f"encoder.backbone={backbone}", "encoder.channels=16"]
    for index, channels in enumerate((16, 12, 8)):
        own = {"channels": channels, "channel_mult": [1, 1, 1, 1], "groups": 1, "dropout": 0.0}
        overrides += [f"decoders.{index}.{key}={value}" for key, value in own.items()]
    return shaken(msdk.build(msdk.load_recipe(RECIPE, overrides))).eval()


def test_entry_point():
    """The installed package makes the encoder known under the name timm, with itself as the owner."""
    assert msdk.encoders.get("timm") is Timm
    assert msdk.encoders.origin("timm").owner == "msdk-timm"


def test_spec_without_torch():
    """Naming the encoder imports neither torch nor timm; only asking it about images does."""
    program = (
        "import sys, msdk; spec = msdk.encoders.get('timm')(backbone='resnet18'); "
        "sys.exit(bool({'torch', 'timm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("backbone", "shape"), BACKBONES)
def test_features_are_as_announced(backbone, shape):
    """Skips, bottom and embedding have exactly the channels and sizes of `info`, for one noise level or many."""
    encoder = Timm(backbone=backbone, channels=16)
    info, network = encoder.info(shape), encoder.build(shape).eval()
    decoder_of(encoder, shape)  # a decoder of msdk accepts them
    x = torch.randn(2, *shape)
    for rows in (1, 2):
        with torch.no_grad():
            features = network(x, torch.full((rows,), 300.0))
        want = [
            (2, channels, shape[1] // level.reduction, shape[2] // level.reduction)
            for level in info.levels
            for channels in level.skips
        ]
        assert [tuple(skip.shape) for skip in features.skips] == want
        assert tuple(features.bottom.shape) == (2, info.bottom, *want[-1][2:])
        assert tuple(features.embedding.shape) == (rows, info.embedding)


@pytest.mark.parametrize(
    ("shape", "levels", "reductions"),
    [
        ((3, 32, 32), None, [1, 2, 4, 8]),
        ((3, 8, 8), None, [1, 2]),
        ((3, 28, 28), None, [1, 2, 4]),
        ((3, 32, 32), 1, [1, 2]),
        ((3, 32, 32), 5, [1, 2, 4, 8, 16, 32]),
    ],
)
def test_levels(shape, levels, reductions):
    """Without `levels` the coarsest side has at least 4 pixels and all sides are whole; `levels` decides otherwise."""
    info = Timm(backbone="resnet18", levels=levels).info(shape)
    assert [level.reduction for level in info.levels] == reductions


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "efficientnet_b0"])
def test_gradients_reach_everything(backbone):
    """No parameter of encoder or decoder is idle: timm's net is cut after its last map, and every level is told."""
    shape = (3, 32, 32)
    encoder = Timm(backbone=backbone, channels=16)
    network = shaken(StagedNetwork([encoder.build(shape)], [decoder_of(encoder, shape)]))
    network(torch.randn(4, *shape), torch.rand(4) * 999, 0).square().mean().backward()
    idle = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert idle == []


def test_starts_as_the_backbone():
    """At first the noise level changes no skip; once the weights have moved it changes each."""
    encoder, x = Timm(backbone="convnext_atto", channels=16).build((3, 32, 32)).eval(), torch.randn(1, 3, 32, 32)

    def changed():
        with torch.no_grad():
            low, high = encoder(x, torch.tensor([1.0])), encoder(x, torch.tensor([900.0]))
        return [not torch.equal(a, b) for a, b in zip(low.skips, high.skips, strict=True)]

    assert changed() == [False] * 4
    shaken(encoder)
    assert changed() == [True] * 4


def test_meta_build_has_the_same_weights():
    """On the meta device nothing is allocated and nothing loaded, and names and shapes are those of the real one."""
    encoder, shape = Timm(backbone="resnet18", pretrained=True), (3, 32, 32)
    with torch.device("meta"):
        meta = encoder.build(shape)
    assert {tensor.device.type for tensor in meta.state_dict().values()} == {"meta"}
    real = attrs.evolve(encoder, pretrained=False).build(shape)
    assert {name: tensor.shape for name, tensor in meta.state_dict().items()} == {
        name: tensor.shape for name, tensor in real.state_dict().items()
    }


def test_state_dict_round_trip():
    """A state dict holds all that a prediction depends on, running statistics of batch norm included."""
    encoder, shape = Timm(backbone="resnet18", channels=16), (3, 16, 16)
    x, c_noise = torch.randn(4, *shape), torch.rand(4) * 999
    first = shaken(encoder.build(shape))
    with torch.no_grad():
        first(x, c_noise)  # in training mode: moves the running statistics
        second = encoder.build(shape)
        second.load_state_dict(first.state_dict())
        assert torch.equal(first.eval()(x, c_noise).bottom, second.eval()(x, c_noise).bottom)


def test_same_seed_same_weights():
    """The initial weights come from torch's seed alone, whether or not timm was asked about the backbone before."""
    encoder, shape = Timm(backbone="efficientnet_b0", channels=12), (3, 24, 24)
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(encoder.build(shape).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_b0", "convnext_atto"])
def test_mixed_batch_equals_stages(backbone):
    """In eval mode a batch of mixed stages gives each image what it gets alone at its own time, twice the same."""
    denoiser = denoiser_of(backbone)
    x, times = torch.randn(6, 3, 32, 32), torch.tensor([0.9, 0.1, 0.5, 0.05, 0.7, 0.6])
    assert denoiser.partition.of(denoiser.schedule.ratio(times.double())).unique().tolist() == [0, 1, 2]
    with torch.no_grad():
        mixed = denoiser(x, times)
        alone = torch.cat([denoiser(image[None], float(t)) for image, t in zip(x, times, strict=True)])
        assert torch.equal(mixed, denoiser(x, times))
    torch.testing.assert_close(mixed, alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto"])
def test_exports(backbone):
    """A stage is one graph without data-dependent control flow, for counting, compiling and export."""
    stage = denoiser_of(backbone).stage(1)
    x, c_noise = torch.randn(2, 3, 32, 32), torch.tensor([400.0])
    exported = torch.export.export(stage, (x, c_noise)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x, c_noise), stage(x, c_noise))


def test_recipe():
    """The recipe of the repository loads, names the plugin again when written out, and builds on the meta device."""
    recipe = msdk.load_recipe(RECIPE)
    assert recipe.encoder == Timm(backbone="resnet18")
    assert msdk.recipe.to_data(recipe)["encoder"]["name"] == "timm"
    denoiser = msdk.build(recipe, device="meta")
    assert len(denoiser.network.decoders) == len(denoiser.partition) == 3
    with torch.device("meta"):
        assert denoiser.network(torch.empty(2, 3, 32, 32), torch.empty(1), 2).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("fields", "shape", "words"),
    [
        ({"backbone": "resnet81"}, (3, 32, 32), "no model named 'resnet81'. Did you mean 'resnet18' or"),
        ({"backbone": "hf-hub:a/b"}, (3, 32, 32), "no model named 'hf-hub:a/b'"),
        ({"backbone": "hardcorenas_a"}, (3, 32, 32), "gives no feature maps .timm's features_only."),
        ({"backbone": "crossvit_9_240"}, (3, 32, 32), "1/12, 1/17 of the image's side, .* powers of 2"),
        ({"backbone": "legacy_xception"}, (3, 32, 32), "feature map 0 is 64x13x13 and would have to be 64x16x16"),
        ({"backbone": "resnet18"}, (3, 6, 6), "6x6 does not suit .* 1/2 of the side: .* at least 8"),
        ({"backbone": "resnet18", "levels": 6}, (3, 32, 32), "levels = 6, but .* has 5 feature maps"),
        ({"backbone": "resnet18", "levels": 4}, (3, 24, 24), "divided by 16 for feature map 3 .* at most levels = 3"),
        ({"backbone": "dpn48b", "pretrained": True}, (3, 32, 32), "no weights of the backbone 'dpn48b'"),
    ],
)
def test_errors_read(fields, shape, words):
    """What does not fit is refused before anything is built, with the name, the level and the way out."""
    with pytest.raises(PartError, match=words):
        Timm(**fields).info(shape)


def test_labels_are_refused():
    """Class labels are an error and not silently unused."""
    with pytest.raises(PartError, match="takes no class"):
        Timm(backbone="resnet18").build((3, 16, 16))(torch.randn(1, 3, 16, 16), torch.ones(1), torch.zeros(1))


def test_recipe_errors_stand_at_the_encoder(tmp_path):
    """A bad backbone in a recipe is told at `encoder`, along with other mistakes."""
    text = RECIPE.read_text(encoding="utf-8").replace('"resnet18"', '"resnet81"').replace("steps = 19", "steps = 0")
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(msdk.RecipeError) as caught:
        msdk.load_recipe(path)
    assert "sampling.steps" in [problem.path for problem in caught.value.problems]
    path.write_text(text.replace("steps = 0", "steps = 19"), encoding="utf-8")
    with pytest.raises(msdk.RecipeError) as caught:
        msdk.load_recipe(path)
    assert [problem.path for problem in caught.value.problems] == ["encoder"]


def test_pretrained_weights_that_cannot_be_had(monkeypatch):
    """`pretrained` asks timm for weights, and a failure says where weights come from and how to do without."""
    encoder, make = Timm(backbone="resnet18", pretrained=True), timm.create_model

    def offline(name, **options):
        if options.get("pretrained"):
            raise OSError("we are offline.\nTry again.")
        return make(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(PartError, match=r"cannot be had: we are offline\. They come from the Hugging Face hub"):
        encoder.build((3, 32, 32))


def table():
    """Rows of the README: backbone, image, levels, and four figures."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [(name.strip("`"), int(size), int(levels), *rest) for name, size, levels, *rest in rows]


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_the_readmes_budgets(row):
    """Every figure of the table is what msdk counts, and nothing is left uncounted."""
    name, size, levels, params, macs, total, stages = row
    settings = [f"encoder.backbone={name}", f"data.size={size}"]
    for index, channels in enumerate((64, 48, 32)):
        own = {"channels": channels, "channel_mult": [1] * levels, "groups": 1}
        settings += [f"decoders.{index}.{key}={value}" for key, value in own.items()]
    found = msdk.budget(msdk.load_recipe(RECIPE, settings)).as_json()
    assert found["uncounted"] == {}
    assert len(Timm(backbone=name).info((3, size, size)).levels) == levels
    assert f"{found['params']['encoder'] / 1e6:.2f}" == params
    assert f"{found['stages'][0]['macs']['encoder'] / 1e6:.1f}" == macs
    assert f"{found['params']['total'] / 1e6:.2f}" == total
    assert " / ".join(f"{stage['macs']['total'] / 1e9:.3f}" for stage in found["stages"]) == stages


@pytest.mark.slow
@pytest.mark.parametrize("law", testing.laws("encoder"))
@pytest.mark.parametrize(
    "backbone", ["resnet18", "convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224", "regnety_004"]
)
def test_backbones_keep_the_laws(backbone, law):
    """The kit's laws for encoders, for one backbone of each sort."""
    info = Timm(backbone=backbone, channels=16).info((3, 32, 32))
    decoder = DDPMpp(channels=8, channel_mult=(1,) * len(info.levels), groups=1, dropout=0.0)
    law(Timm(backbone=backbone, channels=16), shape=(3, 32, 32), decoder=decoder)
