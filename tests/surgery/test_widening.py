"""Promises of wider decoders: the outputs of the run that they come from, or a word on why that cannot be."""

import json

import pytest
import torch
from commands import quick

import msdk
from msdk.denoiser.building import build
from msdk.errors import RunError
from msdk.recipe import load_recipe
from msdk.runs import latest, load_checkpoint, run_recipe
from msdk.runs.starting import carry
from recipes import tiny

WIDE = "channels=32, channel_mult=[1, 1], blocks=1, attention=[4]"
UNET = ("channels=8", "channel_mult=[1, 2]", "blocks=1", "attention=[4]")
"""Of the encoder."""


def family(name, encoder, decoder, *more):
    """A recipe of one stage with the parts of a family."""
    inner = ", ".join((f'name="{encoder or name}"', *(UNET if encoder is None else more[:1])))
    return load_recipe(
        "recipes/digits/base.toml",
        [
            *("parameterization={name='eps'}", "weighting={name='uniform'}", "sharing=shared"),
            f"encoder={{{inner}}}",
            f'decoders=[{{name="{name}", {decoder}}}, {{name="{name}", {decoder}}}]',
            *("stages.edges_ratio=[0.5]", "adapter={channels=[8, 16]}" if "adapter" in more else "title=''"),
        ],
    )


CASES = {
    "ddpmpp": ("channels=8, attention=[2], dropout=0.0", "channels=12"),
    "ncsnpp": ("channels=4, sum_outputs=true, dropout=0.0", "channels=20"),
    "song-ddpmpp": ("channels=8, dropout=0.0", "channels=20"),
    "song-ncsnpp": ("channels=8, dropout=0.0", "channels=8, channel_mult=[3, 5]"),
    "adm": ("channels=8, head_width=4, dropout=0.0", "channels=20"),
}
"""Decoder -> its settings, and wider ones."""


def carried(narrow, wide):
    """Two denoisers: with weights of all sizes, and with those carried into wider parts; and what was told."""
    torch.manual_seed(5)
    old, new = build(narrow), build(wide)
    with torch.no_grad():
        for weight in old.network.parameters():
            weight.add_(torch.randn(weight.shape) * 0.2)
    parts = {f"{kind}.{k}": f"{kind}.{k}" for kind in ("encoders", "decoders") for k in range(2)}
    parts = {part: each for part, each in parts.items() if part != "encoders.1"}
    found = carry(wide, narrow, new.network, build(narrow, "meta").network, parts, (old.network.state_dict(),))
    state = {**new.network.state_dict(), **found.states[0]}
    new.network.load_state_dict(state)
    return old.eval(), new.eval(), found


def differ(old, new, labels=None):
    """How far outputs differ, over how large they are, at noise levels of both stages; and how large gradients are."""
    x = torch.randn(4, *old.shape, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.02, 0.1, 0.5, 0.9], dtype=torch.float64)
    one, other = old(x, t), new(x, t)
    other.square().mean().backward()
    return float((one - other).detach().abs().max() / one.detach().abs().max())


@pytest.mark.parametrize("name", CASES)
def test_unets_with_small_groups_are_widened(name):
    """New channels in groups of their own, attention heads among them; and they learn at once."""
    settings, wider = CASES[name]
    kept = ", ".join(each for each in settings.split(", ") if "channels" not in each)
    narrow = family(name, None, settings)
    wide = family(name, None, f"{wider}, {kept}" if kept else wider)
    old, new, found = carried(narrow, wide)
    assert found.told == []
    assert found.widened == {"decoders.0", "decoders.1"}
    assert differ(old, new) < 1e-5
    head = new.network.decoders[0].levels[-1].head
    assert float(head.conv.weight.grad[:, old.network.decoders[0].levels[-1].head.conv.in_channels :].abs().max()) > 0


TRANSFORMERS = {
    "dit": ("width=16, heads=2, depth=2", "width=48, heads=6, depth=2"),
    "dit, wider heads": ("width=16, heads=2, depth=2", "width=32, heads=2, depth=3, mlp_ratio=3.0"),
    "dit behind its own width": ("width=12, heads=2, depth=1", "width=24, heads=4, depth=1"),
    "uvit": ("width=16, heads=2", "width=32, heads=4"),
    "uvit, wider heads": ("width=16, heads=4", "width=48, heads=4"),
}


@pytest.mark.parametrize("case", TRANSFORMERS)
def test_transformers_are_widened_by_whole_factors(case):
    """Copies of all channels, with weights that are unequal, so that they are told apart."""
    name = case.split(",")[0].split()[0]
    trunk = "width=12, heads=2, patch=2, depth=2"
    narrow, wide = (family(name, name, settings, trunk) for settings in TRANSFORMERS[case])
    old, new, found = carried(narrow, wide)
    assert found.widened == {"decoders.0", "decoders.1"}
    assert differ(old, new) < 1e-5
    head = new.network.decoders[1].head
    weight = (head.linear if name == "dit" else head).weight.grad
    width = (old.network.decoders[1].width,) if name == "dit" else old.network.decoders[1].norm.normalized_shape
    weights = new.network.decoders[1].state_dict()
    split = weights["head.linear.weight" if name == "dit" else "head.weight"]
    assert not torch.allclose(split[:, : width[0]], split[:, width[0] : 2 * width[0]], rtol=1e-2)
    assert weight is not None


@pytest.mark.parametrize(
    ("narrow", "wide", "words"),
    [
        (
            ("ddpmpp", "ddpmpp", "channels=64", WIDE),
            ("ddpmpp", "ddpmpp", "channels=128", WIDE),
            r"24 groups of 4 channels would be 32 groups of 5, .* \(groups = 40 keeps them\)",
        ),
        (
            ("ldm", "ldm", "channels=32", WIDE),
            ("ldm", "ldm", "channels=64", WIDE),
            "32 groups of 1 channels would be 32 groups of 2, whose means and variances are others; decoders.1",
        ),
        (("ddpmpp", None, "channels=8"), ("ddpmpp", None, "channels=16"), "as wide as its input has no map"),
        (("ddpmpp", None, "channels=12"), ("ddpmpp", None, "channels=8"), "channels are fewer than"),
        (("ddpmpp", None, "channels=8"), ("ddpmpp", None, "channels=12, rescale=false"), "other settings .rescale."),
        (("ddpmpp", None, "channels=8"), ("ddpmpp", None, "channels=12, attention=[]"), "other settings .attention."),
        (
            ("dit", "dit", "width=16, heads=2, depth=1", "width=12, heads=2, patch=2, depth=2"),
            ("dit", "dit", "width=24, heads=2, depth=1", "width=12, heads=2, patch=2, depth=2"),
            "24 is no whole multiple of 16",
        ),
        (
            ("dit", "dit", "width=16, heads=4, depth=1", "width=12, heads=2, patch=2, depth=2"),
            ("dit", "dit", "width=32, heads=2, depth=1", "width=12, heads=2, patch=2, depth=2"),
            "4 attention heads of 4 channels would be 2 of 16",
        ),
        (
            ("dit", "dit", "width=16, heads=2, depth=1", "width=12, heads=2, patch=2, depth=2"),
            ("dit", "dit", "width=16, heads=2, depth=1", "width=24, heads=2, patch=2, depth=2"),
            "encoders.0 begins anew: .* only decoders can",
        ),
    ],
    ids=["groups", "ldm", "beyond", "narrower", "settings", "attention", "multiple", "heads", "encoder"],
)
def test_what_cannot_be_is_said(narrow, wide, words):
    """With the reason, and what would do where something would."""
    *_, found = carried(family(*narrow), family(*wide))
    assert "decoders.0" not in found.parts
    with pytest.raises(RunError, match=words):
        raise RunError("; ".join(found.told))


def test_groups_that_are_named_keep_them():
    """What the message says does it."""
    still = "dropout=0.0"
    for names, old, new in (
        (("ddpmpp", "ddpmpp", WIDE), "channels=64", "channels=128, groups=40"),
        (("ddpm", None), "channels=8", "channels=20, groups=64"),
    ):
        name, encoder, *trunk = names
        narrow, wide = (family(name, encoder, f"{each}, {still}", *trunk) for each in (old, new))
        old, new, found = carried(narrow, wide)
        assert found.widened, found.told
        assert differ(old, new) < 1e-5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    averages = "training.averages=[{name='power', length=0.1}, {name='ramped'}]"
    msdk.train(tiny("training.iterations=3", "training.lr=0.01", averages), folder)
    return folder


def test_the_command_widens_weights_and_averages(tmp_path, run, capsys, monkeypatch):
    """A run at the same iteration with the same outputs, which goes on with the optimiser of all else."""
    out = tmp_path / "out"
    code, told, _ = quick(
        capsys,
        monkeypatch,
        "stage",
        "widen",
        run,
        "--out",
        out,
        "--set",
        "decoders.2.channels=12",
        "--set",
        "decoders.1.channels=20",
    )
    assert code == 0, told
    x = torch.randn(3, 1, 8, 8)
    t = torch.tensor([0.01, 0.3, 0.9], dtype=torch.float64)
    for weights in ("raw", "ema"):
        one, other = (msdk.load_run(each, weights=weights) for each in (run, out))
        with torch.no_grad():
            torch.testing.assert_close(one(x, t), other(x, t), rtol=0, atol=1e-5)
    old, new = load_checkpoint(latest(run)), load_checkpoint(latest(out))
    assert (new.iteration, new.images_by_stage) == (old.iteration, old.images_by_stage)
    assert {name.split("/", 1)[1] for name in new.averages} == new.model.keys()
    widened = ("decoders.1.", "decoders.2.")
    assert not any(name.partition("/")[2].startswith(widened) for name in new.optimizer)
    kept = [name for name in old.optimizer if not name.partition("/")[2].startswith(widened)]
    assert sorted(new.optimizer) == sorted(kept)
    forked = json.loads((out / "lock.json").read_text())["forked_from"][0]
    assert (forked["run"], forked["widened"]) == (str(run), "decoders.1, decoders.2")
    assert run_recipe(out).decoders[2].channels == 12
    code, _, err = quick(capsys, monkeypatch, "train", out, "--resume", "--set", "training.iterations=5")
    assert code == 0, err
    assert latest(out).name == "00000005"


def test_init_widens_what_is_wider(tmp_path, run):
    """Training that starts from a run has its outputs where all decoders are as wide or wider."""
    still = ("training.iterations=1", "training.warmup=1", f'init={{run="{run}"}}', "decoders.0.channels=24")
    told = []
    msdk.train(tiny(*still), tmp_path / "out", warn=told.append)
    assert told == []
    parts = json.loads((tmp_path / "out" / "lock.json").read_text())["started_from"]["parts"]
    assert (parts["decoders.0"], parts["decoders.1"]) == ("decoders.0, widened", "decoders.1")
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.01, 0.02], dtype=torch.float64)
    with torch.no_grad():
        one, other = (msdk.load_run(each)(x, t) for each in (run, tmp_path / "out"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_mistakes_are_told(tmp_path, run, capsys, monkeypatch):
    """Other keys, none, decoders that are narrower: exit code 2, and no folder."""
    for words, told in (
        (("training.lr=1.0",), "not training.lr"),
        ((), "nothing changed"),
        (("decoders.0.channels=4",), "begins anew"),
        (("decoders.0.fir=true",), "cannot be widened"),
    ):
        flags = [each for word in words for each in ("--set", word)]
        code, _, err = quick(capsys, monkeypatch, "stage", "widen", run, "--out", tmp_path / "out", *flags)
        assert code == 2
        assert told in err
        assert not (tmp_path / "out").exists()
