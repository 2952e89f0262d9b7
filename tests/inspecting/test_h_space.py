"""Promises of `msdk inspect h-space`: what is compared, what is told, and what is refused."""

import json

import pytest
import torch
from commands import quick

import msdk
from msdk.inspecting import h_space
from msdk.report import h_space_grids, h_space_plot
from recipes import tiny

SEPARATE = ('sharing="separate"', "data.held_out=0.1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with a shared encoder and one with separate ones, each of four steps."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {"shared": ("data.held_out=0.1",), "separate": SEPARATE}
    for name, more in kinds.items():
        msdk.train(tiny(*more), folder / name, device="cpu")
    return folder


def test_levels_are_those_that_stages_train(runs):
    """As many in each stage, inside it; the matrix has 1 on its diagonal, both halves alike, and depends on the run."""
    found = h_space(runs / "shared", images=24, levels=7, device="cpu")
    (space,) = found.spaces
    assert (found.images, found.held_out, found.across) == (24, True, ())
    assert [level.stage for level in space.levels] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    ratios = [level.ratio for level in space.levels]
    assert ratios == sorted(ratios)
    assert ratios[2] < 0.3 < ratios[3] < ratios[5] < 2.5 < ratios[6]
    matrix = torch.tensor(space.similarity)
    torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(9))
    assert matrix[0, 1] > matrix[0, 8] + 0.1  # nearer levels are more alike
    inner = [matrix[0, 1], matrix[0, 2], matrix[1, 2]]
    assert space.stages[0][0] == pytest.approx(float(sum(inner)) / 3)
    assert space.stages[0][2] == pytest.approx(float(matrix[:3, 6:].mean()))
    assert space.encoder == "shared"


def test_it_is_the_same_each_time(runs):
    """Images and noise follow from the images' content: whatever torch's own generator has drawn before."""
    torch.manual_seed(1)
    first = h_space(runs / "shared", images=8, levels=3, device="cpu")
    torch.manual_seed(2)
    assert h_space(runs / "shared", images=8, levels=3, device="cpu") == first


def test_separate_encoders_are_asked_each_for_its_own_stage(runs, monkeypatch):
    """A level's features are those of its stage's encoder; beside itself a run is the same at every level."""
    found = h_space(runs / "separate", beside=runs / "separate", images=16, levels=3, device="cpu")
    assert found.across == pytest.approx([1.0, 1.0, 1.0])
    assert [space.encoder for space in found.spaces] == ["separate", "separate"]
    other = h_space(runs / "shared", beside=runs / "separate", images=16, levels=3, device="cpu")
    assert all(value < 0.999 for value in other.across)
    denoiser, asked = msdk.load_run(runs / "separate"), []
    for stage, encoder in enumerate(denoiser.network.encoders):
        encoder.register_forward_hook(lambda *_, stage=stage: asked.append(stage))
    monkeypatch.setattr("msdk.inspecting.comparing.load_run", lambda *_, **__: denoiser)
    h_space(runs / "separate", images=16, levels=3, device="cpu")
    assert asked == [0, 1, 2]


def test_tables_fit_a_terminal_and_pictures_are_the_same_bytes(runs):
    """Two runs side by side in 80 columns; the picture of a finding is always the same one."""
    found = h_space(runs / "shared", beside=runs / "separate", images=8, levels=6, device="cpu")
    lines = [line for grid in h_space_grids(found) for line, _ in grid.lines(80)]
    assert max(map(len, lines)) <= 80
    told = " ".join(lines)
    assert "between the two runs" in told
    assert "8 held-out images" in told
    assert h_space_plot(found, "svg") == h_space_plot(found, "svg")


def test_the_command_writes_a_picture_and_prints_numbers(runs, capsys, monkeypatch):
    """A table and a picture in the run, or JSON alone; a picture of another kind is refused before anything is done."""
    words = ("inspect", "h-space", runs / "shared", "--images", "8", "--levels", "3", "--device", "cpu")
    code, out, _ = quick(capsys, monkeypatch, *words, columns=80)
    assert code == 0
    assert "ratio" in out
    assert (runs / "shared" / "h-space.png").read_bytes().startswith(b"\x89PNG")
    place = runs / "picture.svg"
    code, out, _ = quick(capsys, monkeypatch, *words, "--json", "--checkpoint", "4", "--out", place)
    found = json.loads(out)
    assert (found["images"], len(found["spaces"][0]["similarity"])) == (8, 3)
    assert found["spaces"][0]["stages"][0][0] is None  # one level in each stage: no pair
    assert place.read_text().lstrip().startswith("<?xml")
    code, _, err = quick(capsys, monkeypatch, *words, "--out", runs / "picture.pdf")
    assert (code, "pictures are .png or .svg" in err) == (2, True)


def test_what_cannot_be_compared_is_told(runs, tmp_path):
    """Too few images, unlike shapes, noise that is not Gaussian, a folder that is no run."""
    with pytest.raises(msdk.PartError, match="images = 3 are too few"):
        h_space(runs / "shared", images=3, device="cpu")
    other = tiny('data={name="digits", held_out=0.0006}')
    msdk.train(other, tmp_path / "few", device="cpu")
    with pytest.raises(msdk.PartError, match=r"images are held out.*raise data\.held_out"):
        h_space(tmp_path / "few", device="cpu")
    unlike = tiny('parameterization="eps"', 'training.objective="cld"', 'schedule={name="cld"}', 'sampler="gddim"')
    msdk.train(unlike, tmp_path / "cld", device="cpu")
    with pytest.raises(msdk.PartError, match="whose noise is not Gaussian noise"):
        h_space(tmp_path / "cld", device="cpu")
    with pytest.raises(msdk.MsdkError):
        h_space(tmp_path / "nothing", device="cpu")
