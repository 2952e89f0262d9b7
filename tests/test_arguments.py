"""Python: what is given of a wrong type, or out of its range, is told in words, with what is meant."""

import contextlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

import msdk
from msdk.arguments import as_annotated
from msdk.runs import fork
from recipes import tiny

WRONG = [None, 3, -1, 2.5, "foo", "", b"x", [], [1], ["clip"], [None], [-1], [2**70], {}, {"a": 1}, object(), int, True]
WRONG += [(1, 2), "0-3", Path("nowhere"), torch.zeros(2), 0, range(0), np.array(["a"]), float("nan")]


FEW = {
    **dict.fromkeys(("train", "run"), ("recipe", "device", "resume")),
    "evaluate": ("metrics", "extractor", "images", "checkpoint", "weights", "samples", "reference", "split", "name"),
}
"""Arguments of functions that work for long where they take something."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run."""
    place = tmp_path_factory.mktemp("run") / "run"
    msdk.train(tiny("training.iterations=1", "evaluation.images=10"), place)
    return place


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("budget", {"model": "recipes/digits/unified.toml"}),
        ("sample", {"sampler": "heun", "steps": 1, "seeds": [0]}),
        ("load_recipe", {"path": "recipes/digits/unified.toml"}),
        ("cluster", {"recipe": "recipes/digits/unified.toml", "strategy": "timestep"}),
        ("build", {"recipe": "recipes/digits/unified.toml"}),
        ("load_run", {}),
        ("load_pretrained", {"family": "edm", "state_dict": None, "config": {}}),
        ("train", {"recipe": "recipes/digits/unified.toml", "run_dir": "/dev/null/run"}),
        ("run", {"recipe": "recipes/digits/unified.toml", "run_dir": "/dev/null/run"}),
        ("evaluate", {"metrics": ["is"], "images": 10, "steps": 2}),
    ],
)
def test_no_argument_ends_in_a_raw_error(name, given, run):
    """Each argument of each public function is given all kinds of things: it works, or a MsdkError says why not."""
    function = getattr(msdk, name)
    extra = {
        "sample": {"denoiser": msdk.load_run(run)},
        "load_run": {"run_dir": run},
        "evaluate": {"run_dir": run},
    }.get(name, {})
    for argument, hint in function.__annotations__.items():
        if argument == "return" or argument not in FEW.get(name, (argument,)):
            continue
        for wrong in WRONG:
            if "Callable" in str(hint) and callable(wrong):
                continue  # what somebody's function does is theirs
            with contextlib.suppress(msdk.MsdkError):
                function(**{**given, **extra, argument: wrong})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda denoiser: msdk.sample(denoiser, wrap=["clip"]), r"msdk.wrappers.get\('clip'\)\(\)"),
        (lambda denoiser: msdk.sample(denoiser, wrap="clip"), "wrap must be a list whose entries are each a Wrapper"),
        (lambda denoiser: msdk.sample(denoiser, seeds=[]), "seeds is empty"),
        (lambda denoiser: msdk.sample(denoiser, seeds="0-3"), "each a whole number or None, got '0-3'"),
        (lambda denoiser: msdk.sample(denoiser, seeds=[2**70]), "64 bits"),
        (lambda denoiser: msdk.sample(denoiser, steps="18"), "sample: steps must be a whole number or None, got '18'"),
        (lambda denoiser: msdk.sample(denoiser, step=18), "unexpected keyword argument 'step'. It takes denoiser, "),
        (
            lambda _: msdk.budget(tiny(), convention="papr"),
            "'fvcore' or None, got 'papr'. Did you mean 'paper'",
        ),
        (lambda _: msdk.budget(3), "model must be a Recipe, a Denoiser or a path, got 3"),
        (lambda _: msdk.load_recipe("a.toml", "lr=1"), "overrides must be a list whose entries are each a text"),
        (lambda _: msdk.train("a.toml", "b", resume="no"), "resume must be True or False, got 'no'"),
        (lambda _: msdk.build(tiny(), "gpu"), "there is no device 'gpu'"),
        (lambda _: msdk.Partition("0.3"), "stage edges are a list of ratios, got '0.3'"),
    ],
)
def test_the_message_says_what_is_meant(call, words, run):
    """Function, argument, what it takes and what was given; parts by their names."""
    with pytest.raises(msdk.MsdkError, match=words):
        call(msdk.load_run(run))


def test_a_fork_takes_lists_of_names(run, tmp_path):
    """A text would be read letter by letter."""
    for wrong in ("decoders", None, 3):
        with pytest.raises(msdk.RunError, match=r"rename gives a list of names for each weight, but for .* it gave"):
            fork(run, tiny(), lambda name, wrong=wrong: wrong, tmp_path / "new")
    with pytest.raises(msdk.RunError, match="images gives a list of counts"):
        fork(run, tiny(), lambda name: [name], tmp_path / "new", images=lambda seen: 3)
    with pytest.raises(msdk.MsdkError, match="rename must be a function, got 'decoders'"):
        fork(run, tiny(), "decoders", tmp_path / "new")


def test_what_fits_passes(run):
    """Numbers of NumPy and torch, lists of any kind, paths as texts: nothing that works is refused."""

    @as_annotated
    def take(*, n: int = 0, x: float = 0, kind: Literal["a"] = "a", other: Any = 0):
        return n, x

    for n in (np.int64(3), torch.tensor(3), 3):
        assert take(n=n, x=np.float32(2.5), other=object()) == (n, 2.5)
    denoiser = msdk.load_run(str(run))
    for seeds in (range(2), (0, 1), np.arange(2), [np.int64(0), 1]):
        images = msdk.sample(denoiser, "ddim", np.int64(1), seeds, guidance=1)
        assert images.shape == (2, 1, 8, 8)
