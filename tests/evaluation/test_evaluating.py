"""Promises of `msdk evaluate`: one protocol, one number, whoever computes it and however often it was stopped."""

import json
import shutil
import zipfile

import attrs
import pytest
import torch
from commands import quick
from PIL import Image
from processes import processes

import msdk
from msdk.browsing import compare
from msdk.clustering import with_edges
from msdk.datasets.digits import Digits
from msdk.datasets.zip import Zip
from msdk.evaluation import Asked, extracting, read_scores, reference, swap
from msdk.evaluation.scores import unlike
from msdk.evaluation.swapping import swapped
from msdk.extractors.base import Extracted, Extractor, Opened
from msdk.metrics.base import Evidence
from msdk.metrics.fid import FID
from msdk.recipe.results import from_json
from msdk.runs import checkpoints
from msdk.sampling.drawing import write_samples
from recipes import tiny

FEW = msdk.metrics.get("denoising-loss")(images=50)

FEW_BY_FID = Asked(images=12, metrics=["fid"])

METRICS = ("fid", "precision-recall", "is", "diversity", "denoising-loss")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with four checkpoints."""
    place = tmp_path_factory.mktemp("trained") / "run"
    msdk.train(
        tiny(
            *("training.iterations=60", "training.batch_size=24", "training.checkpoint_every=15", "training.keep=4"),
            *("training.lr=3e-3", "training.warmup=5", "training.ema_decay=0.8", "sampling.steps=10"),
        ),
        place,
    )
    return place


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it that a test may write to."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def values(scores):
    return [score.value for score in scores.scores]


def test_a_score_has_its_protocol(run, capsys, monkeypatch):
    """The command writes what the function gives: numbers by their names, and all that made them."""
    code, out, err = quick(
        capsys, monkeypatch, "evaluate", run, "--images", "40", "--metrics", ",".join(METRICS), "--json"
    )
    assert (code, err) == (0, "")
    file = run / "evaluations" / "00000060.json"
    assert json.loads(out) == json.loads(file.read_text())
    scores = read_scores(file)
    assert from_json(scores.as_json(), type(scores)) == scores
    assert [score.name for score in scores.scores] == [
        *("FD-digits", "precision-digits", "recall-digits", "f-score-digits", "IS-digits"),
        *("novelty-digits", "copies-digits", "duplicates-digits"),
        *("denoising-loss", "denoising-loss stage 0", "denoising-loss stage 1", "denoising-loss stage 2"),
    ]
    assert (scores.images.checkpoint, scores.images.weights, scores.images.count) == (60, "ema", 40)
    assert scores.images.drawn["seeds"] == [0, 39]
    assert scores.images.drawn["samplers"][0]["name"] == "dpmpp-2m"
    assert scores.reference.sha256 == Digits().open().digest
    assert (scores.reference.images, scores.reference.split, scores.reference.jpeg) == (1797, "all", None)
    by_extractor = [score for score in scores.scores if score.extractor is not None]
    assert {each.extractor.sha256 for each in by_extractor} == {msdk.extractors.get("digits")().open().digest}
    assert set(scores.versions) == {"msdk", "torch", "numpy"}
    assert "40 generated images have a covariance of rank 39 at most" in scores.scores[0].notes[0]
    spent = json.loads((run / "ledger.json").read_text())["evaluations"]["00000060"]
    assert spent["flops"] == scores.cost.flops == 2 * scores.cost.macs > 0
    assert (spent["images"], spent["nfe"]) == (40, 11)
    assert not list((run / "evaluations").glob("*.partial"))


def test_it_is_read_in_80_columns(run, capsys, monkeypatch):
    """A table with the protocol below it; shown again without drawing anything."""
    asked = ("evaluate", run, "--images", "12", "--metrics", "fid,is")
    code, out, _ = quick(capsys, monkeypatch, *asked, columns=80)
    assert code == 0
    assert all(len(line) <= 80 for line in out.splitlines()[:-1])
    assert "FD-digits" in out
    assert "seeds 0 to 11" in out
    monkeypatch.setattr("msdk.evaluation.evaluating.draw", None)
    assert quick(capsys, monkeypatch, *asked, columns=80)[1] == out


def test_any_number_of_processes_finds_the_same(run, tmp_path):
    """Bit for bit: pieces are dealt out whole."""
    asked = {"images": 300, "metrics": ["fid", "precision-recall", FEW], "steps": 2}
    alone = msdk.evaluate(run, **asked, name="alone")
    for count in (2,):
        found = processes(count, lambda: values(msdk.evaluate(run, **asked, name=f"by-{count}")), tmp_path)  # noqa: B023
        assert found == [values(alone)] * count
        assert read_scores(run / "evaluations" / f"by-{count}.json").processes == count


def test_a_killed_evaluation_goes_on(run, monkeypatch):
    """What was looked at is kept, only the rest is drawn, and the numbers are those of one that was left alone."""
    whole = msdk.evaluate(run, images=600, metrics=["fid"], steps=2, name="whole")
    drawn, real = [], extracting.looked_at

    def dying(opened, images):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(len(images))
        return real(opened, images)

    monkeypatch.setattr(extracting, "looked_at", dying)
    with pytest.raises(KeyboardInterrupt):
        msdk.evaluate(run, images=600, metrics=["fid"], steps=2, name="again")
    assert drawn == [256, 256]
    assert not (run / "evaluations" / "again.json").exists()
    drawn.clear()
    found = msdk.evaluate(run, images=600, metrics=["fid"], steps=2, name="again")
    assert drawn == [88]
    assert values(found) == values(whole)


def test_names_never_hide_scores(run):
    """Another protocol gets another file, also half done; a name that is taken is refused, or replaced when asked."""
    first = msdk.evaluate(run, images=12, metrics=["is"])
    other = msdk.evaluate(run, images=14, metrics=["is"])
    again = msdk.evaluate(run, images=12, metrics=["is"])
    assert [first.name, other.name, again.name] == ["00000060", "00000060-2", "00000060"]
    assert again == first
    with pytest.raises(msdk.RunError, match="of another protocol: replace them with --force"):
        msdk.evaluate(run, images=14, metrics=["is"], name="00000060")
    assert msdk.evaluate(run, images=14, metrics=["is"], name="00000060", force=True).images.count == 14
    with pytest.raises(msdk.RunError, match="no name of a file"):
        msdk.evaluate(run, images=14, metrics=["is"], name="../up")


def test_ranges_of_seeds_have_a_spread(run):
    """Three ranges are three evaluations, one behind the other."""
    three = msdk.evaluate(run, images=20, repeats=3, metrics=["fid"], steps=2)
    single = [msdk.evaluate(run, images=20, seed=20 * index, metrics=["fid"], steps=2) for index in range(3)]
    assert three.scores[0].ranges == pytest.approx([each["FD-digits"] for each in single], rel=1e-9)
    assert three["FD-digits"] == pytest.approx(sum(three.scores[0].ranges) / 3)
    assert three.images.drawn["seeds"] == [0, 59]
    assert "± " in repr(three)


def test_samples_that_were_drawn_elsewhere(run, tmp_path, monkeypatch):
    """The run's own images from a zip have the run's numbers, in any order, however many are looked at at a time."""
    drawn = msdk.evaluate(run, images=40, metrics=["fid", "precision-recall"])
    recipe = msdk.load_recipe(run / "recipe.toml", ["sampling.images=40"])
    file = write_samples(run, recipe, out=tmp_path / "images.zip")
    found = msdk.evaluate(run, samples=file, metrics=["fid", "precision-recall"])
    assert values(found) == pytest.approx(values(drawn), rel=1e-9)
    assert found.images.files["sha256"] == Zip(path=file).look().digest
    assert found.cost.images == 0
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(tmp_path / "turned.zip", "w") as new:
        images = sorted(name for name in old.namelist() if name.endswith(".png"))
        for place, name in enumerate(reversed(images)):
            new.writestr(f"{place:03d}.png", old.read(name))
    monkeypatch.setattr(extracting, "AT_A_TIME", 7)
    turned = msdk.evaluate(run, samples=tmp_path / "turned.zip", metrics=["fid", "precision-recall"])
    assert values(turned) == pytest.approx(values(drawn), rel=1e-9)
    with pytest.raises(msdk.PartError, match="samples have none"):
        msdk.evaluate(run, samples=file, metrics=["denoising-loss"])
    with pytest.raises(msdk.PartError, match="40 images, fewer than 50"):
        msdk.evaluate(run, samples=file, metrics=["fid"], images=50)


def test_other_sizes_and_too_few_are_refused(run, tmp_path, monkeypatch):
    """In words, before anything is drawn."""
    monkeypatch.delenv("MSDK_WEIGHTS", raising=False)
    monkeypatch.setattr("msdk.evaluation.evaluating.draw", None)
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    folder = tmp_path / "other"
    folder.mkdir()
    for name in "ab":
        Image.new("L", (9, 9)).save(folder / f"{name}.png")
    for wrong, words in (
        ({"metrics": ["kid"], "images": 40}, "subset_size"),
        ({"metrics": ["fid"], "extractor": "inception"}, "MSDK_WEIGHTS"),
        ({"metrics": ["fd-dinov2"]}, "dinov2_vitl14_pretrain.pth"),
        ({"metrics": ["fdi"]}, "Did you mean 'fid'"),
        ({"samples": folder, "metrics": ["fid"]}, "9x9 pixels"),
        ({"checkpoint": 44, "metrics": ["fid"]}, "keeps no checkpoint of iteration 44: it has 15, 30, 45, 60"),
        ({"weights": "best", "metrics": ["fid"]}, "'ema' or 'raw'"),
        ({"split": "held-out", "metrics": ["fid"]}, "no images are held out"),
        ({"images": 1, "metrics": ["fid"]}, "images"),
    ):
        with pytest.raises(msdk.MsdkError, match=words):
            msdk.evaluate(run, **wrong)
    assert not list(run.glob("evaluations/*"))


@msdk.extractors.add("sick")
@attrs.frozen(kw_only=True)
class Sick(Extractor):
    """Gives what is not a number."""

    @property
    def label(self):
        return "sick"

    def open(self, device="cpu"):
        opened = Opened.__new__(
            type("Nan", (Opened,), {"__call__": lambda _, images: Extracted(torch.full((len(images), 2), torch.nan))})
        )
        opened.digest, opened.width = "0" * 64, 2
        return opened


def test_features_that_are_not_finite_are_refused(run):
    """Whose they are is said, and no score is written."""
    with pytest.raises(msdk.PartError, match="the extractor 'sick' gives features that are not finite for image 0"):
        msdk.evaluate(run, images=12, metrics=["fid"], extractor="sick")
    assert not list(run.glob("evaluations/*.json"))


def test_jpeg_is_seen(run, tmp_path):
    """A reference of re-encoded images is another one, whose scores say so."""
    folder = tmp_path / "jpeg"
    folder.mkdir()
    for index, image in enumerate(Digits().open().batch(range(30)).images):
        Image.fromarray(image[0].numpy()).save(folder / f"{index}.jpg", quality=60)
    found = msdk.evaluate(run, images=12, metrics=["fid"], reference=folder)
    assert (found.reference.jpeg, found.reference.images) == (1.0, 30)
    assert "100 % of the real images were JPEG" in found.notes[0]
    plain = msdk.evaluate(run, images=12, metrics=["fid"])
    differs = {field for field, *_ in unlike(found, plain, "FD-digits")}
    assert {"reference.sha256", "reference.jpeg"} <= differs
    judged = msdk.evaluate(run, samples=folder, metrics=["fid"])
    assert "100 % of the samples were JPEG" in judged.notes[0]
    assert judged.images.files["jpeg"] == 1.0
    for what in ("samples", "reference"):
        with pytest.raises(msdk.PartError, match=f"{what} nowhere: there is nothing there"):
            msdk.evaluate(run, metrics=["fid"], images=12, **{what: "nowhere"})


def test_unlike_stamps_name_their_fields(run):
    """Whose weights they are may differ, nothing else may."""
    one = msdk.evaluate(run, images=12, metrics=["fid"], checkpoint=30)
    assert unlike(one, msdk.evaluate(run, images=12, metrics=["fid"]), "FD-digits") == []
    longer = msdk.evaluate(run, images=12, metrics=["fid"], steps=9)
    assert [field for field, *_ in unlike(one, longer, "FD-digits")] == ["images.drawn.steps", "images.drawn.nfe"]
    more = msdk.evaluate(run, images=14, metrics=["fid"])
    assert ("images", 12, 14) in unlike(one, more, "FD-digits")


def test_its_other_commands(run, tmp_path, capsys, monkeypatch):
    """A reference ahead of time, and a swap, in a terminal and for machines."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path))
    told = [quick(capsys, monkeypatch, "evaluate", "reference", run)[1] for _ in range(2)]
    assert [text.partition(":")[0] for text in told] == ["made", "was there"]
    asked = ("evaluate", "swap", run, run, "--stage", "2", "--images", "12", "--metrics", "is")
    code, out, _ = quick(capsys, monkeypatch, *asked)
    assert code == 0
    assert "IS-digits" in out
    (scores,) = json.loads(quick(capsys, monkeypatch, *asked, "--json")[1])
    assert scores["images"]["drawn"]["mixed"]["inside"][0] == 2.5
    assert quick(capsys, monkeypatch, *asked[:4])[0] == 2


def test_a_reference_is_made_once(tmp_path, monkeypatch):
    """The second time it is read; another digest, shape or extractor is another file; a damaged one is made anew."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path))
    digits = msdk.extractors.get("digits")()
    first, second = reference(Digits(), digits), reference(Digits(), digits)
    assert (first.found, second.found, first.file) == (False, True, second.file)
    assert (first.moments.covariance == second.moments.covariance).all()
    assert torch.equal(first.extracted.features, second.extracted.features)
    held = reference(Digits(held_out=0.2), digits, split="held-out")
    assert held.file != first.file
    assert held.moments.count + reference(Digits(held_out=0.2), digits, split="trained").moments.count == 1797
    first.file.write_bytes(first.file.read_bytes()[:100])
    assert not reference(Digits(), digits).found


def test_fd_digits_ascends(tmp_path):
    """Held-out digits, the demo's run at checkpoints from late to early, noise: by their distance to what was learned.

    The recipe is the demo's, with a fifth of the digits held out and fewer, smaller steps; edges are found as it says.
    """
    short = (
        *("data.held_out=0.2", "training.iterations=48", "training.batch_size=32", "training.warmup=8"),
        *("training.ema_decay=0.9", "training.checkpoint_every=12", "training.keep=all", "sampling.steps=10"),
    )
    recipe, _ = with_edges(msdk.load_recipe("recipes/digits/multistage.toml", short))
    assert len(recipe.partition()) == 3
    msdk.train(recipe, tmp_path / "run")
    digits = msdk.extractors.get("digits")()
    learned = reference(recipe.data, digits, split="trained").extracted

    def distance(extracted):
        return FID().score(Evidence(generated=extracted, reference=learned)).numbers[0].value

    real = distance(reference(recipe.data, digits, split="held-out").extracted)
    chance = torch.Generator().manual_seed(0)
    noise = distance(digits.open()(torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8, generator=chance)))
    drawn = [
        msdk.evaluate(tmp_path / "run", images=300, metrics=["fid"], split="trained", checkpoint=at)["FD-digits"]
        for at in (48, 24, 12)
    ]
    found = [real, *drawn, noise]
    assert found == sorted(found)
    assert real < drawn[0] / 5


# --- in training ------------------------------------------------------------------------------------------------------

JUDGED = (
    *("training.evaluate_every=2", "training.keep=all", "training.iterations=4", "sampling.steps=2"),
    'evaluation={metrics=["fid", { name = "denoising-loss", images = 30 }], images=20}',
)


def test_in_training_is_afterwards(tmp_path):
    """`evaluate_every` finds the float that `msdk evaluate` finds of its checkpoint, and changes no training."""
    msdk.train(tiny(*JUDGED), tmp_path / "run")
    msdk.train(tiny("training.iterations=4", "sampling.steps=2"), tmp_path / "plain")
    inside = [read_scores(tmp_path / "run" / "evaluations" / f"0000000{at}.json") for at in (2, 4)]
    for at, scores in zip((2, 4), inside, strict=True):
        assert values(msdk.evaluate(tmp_path / "run", checkpoint=at, name=f"after-{at}")) == values(scores)
    assert values(inside[0]) != values(inside[1])
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert {"00000002", "00000004"} <= set(ledger["evaluations"])
    one, other = (msdk.load_run(tmp_path / name).network.state_dict() for name in ("run", "plain"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_is_that_of_training_on_held_out_images(tmp_path):
    """`denoising-loss` is `held_out_loss` of the same weights, by stage and in all, up to the rounding of networks."""
    held = ("data.held_out=0.1", "training.validate_every=4", "training.log_every=4")
    msdk.train(tiny(*held), tmp_path / "run")
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    found = msdk.evaluate(tmp_path / "run", metrics=["denoising-loss"])
    assert values(found) == pytest.approx([line["held_out_loss"], *line["held_out_loss_by_stage"]], rel=1e-5)
    assert found.scores[0].images < 300


def test_a_resumed_run_is_judged_as_one_that_was_not(tmp_path):
    """Training that goes on evaluates what is still to come."""
    msdk.train(tiny(*JUDGED, "training.iterations=2"), tmp_path / "run")
    msdk.train(tiny(*JUDGED), tmp_path / "run", resume=True)
    msdk.train(tiny(*JUDGED), tmp_path / "whole")
    for name in ("00000002.json", "00000004.json"):
        one, other = (read_scores(tmp_path / run / "evaluations" / name) for run in ("run", "whole"))
        assert values(one) == values(other)


def test_what_would_fail_later_is_told_before_training(tmp_path, monkeypatch):
    """Weights that are not there, and too few images; no folder is made."""
    monkeypatch.delenv("MSDK_WEIGHTS", raising=False)
    for wrong, words in (
        (("evaluation.extractor=inception",), "MSDK_WEIGHTS"),
        (("evaluation.images=20", 'evaluation.metrics=["kid"]'), "subset_size"),
    ):
        with pytest.raises(msdk.MsdkError, match=words):
            msdk.train(tiny("training.evaluate_every=2", *wrong), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(msdk.RecipeError, match=r"evaluates as \[evaluation\] says, which is not there"):
        tiny("training.evaluate_every=2")
    with pytest.raises(msdk.RecipeError, match="no image is held out"):
        tiny("evaluation.split=held-out")


@pytest.mark.parametrize(
    ("keep", "left"), [("all", [1, 2, 3, 4, 5]), ("{ every = 2, newest = 1 }", [2, 4, 5]), ("1", [5])]
)
def test_checkpoints_are_kept_to_look_at(tmp_path, keep, left):
    """All of them, those of every so many steps beside the newest, or the newest alone."""
    recipe = tiny("training.iterations=5", "training.checkpoint_every=1", f"training.keep={keep}")
    msdk.train(recipe, tmp_path / "run")
    assert [int(path.name) for path in checkpoints(tmp_path / "run")] == left
    assert msdk.load_recipe(tmp_path / "run" / "recipe.toml").training.keep == recipe.training.keep


def test_a_run_ends_with_its_evaluation(tmp_path):
    """`msdk run` evaluates where the recipe says so, and its report has the scores with their protocol."""
    msdk.run(tiny("sampling.steps=2", 'evaluation={metrics=["is"], images=12}'), tmp_path / "run")
    run, pictures = tmp_path / "run", ("samples/grid.png", "losses.png")
    report, page = ((run / name).read_text() for name in ("report.md", "report.html"))
    for text, heads in (
        (report, ("## Losses", "## Scores", "## Budget", "## Ledger", "## Settings")),
        (page, ("Losses</h2>", "Scores of ", "Ledger of ", "Settings</h2>")),
    ):
        places = [text.index("IS-digits is "), *map(text.index, heads)]  # the verdict first
        assert places == sorted(places)
        for words in ("(higher is better) of 12 images of iteration 4, of one range of seeds", "seeds 0 to 11"):
            assert words in text
        assert "lr = 0.003" in text
    assert all(f"]({name})" in report and (run / name).is_file() for name in pictures)
    assert page.count("data:image/png;base64,") == 2


def test_a_run_without_an_evaluation_says_so(tmp_path):
    """The verdict of a run that nobody judged."""
    msdk.run(tiny("sampling.steps=2", "training.iterations=2"), tmp_path / "run")
    report = (tmp_path / "run" / "report.md").read_text()
    assert "2 iterations on 16 images spent" in report
    assert "was not measured" in report
    assert "## Scores" not in report


# --- several runs -----------------------------------------------------------------------------------------------------


def test_compare_puts_like_stamps_side_by_side(run, tmp_path, capsys, monkeypatch):
    """The newest scores of one protocol in a row; of another the field that differs is named, and nothing is shown."""
    other = tmp_path / "other"
    shutil.copytree(run, other)
    ours = msdk.evaluate(run, images=12, metrics=["fid"], checkpoint=30)
    theirs = msdk.evaluate(other, images=12, metrics=["fid"])
    (row,) = compare([run, other]).scores
    assert (row.name, row.values, row.checkpoints) == (
        "FD-digits",
        (ours["FD-digits"], theirs["FD-digits"]),
        (30, 60),
    )
    shutil.rmtree(other / "evaluations")
    msdk.evaluate(other, images=12, metrics=["fid"], steps=4)
    found = compare([run, other])
    assert found.scores[0].values == (ours["FD-digits"], None)
    assert any("another stamp than that of run: images.drawn.steps is [4], not [10]" in note for note in found.notes)
    code, out, _ = quick(capsys, monkeypatch, "compare", run, other)
    assert code == 0
    assert "Scores side by side" in out
    assert "images.drawn.steps is [4], not [10]" in out


def test_quality_over_training(run, tmp_path, capsys, monkeypatch):
    """Every checkpoint that is kept, by iterations and by FLOPs of the ledger; a plot and a page of it."""
    asked = ("evaluate", run, "--over", "iterations", "--images", "12", "--metrics", "fid")
    code, out, _ = quick(capsys, monkeypatch, *asked, "--json")
    (curve,) = json.loads(out)
    assert code == 0
    assert [point["iteration"] for point in curve["points"]] == [15, 30, 45, 60]
    assert curve["points"][0]["value"] == msdk.evaluate(run, images=12, metrics=["fid"], checkpoint=15)["FD-digits"]
    ledger = json.loads((run / "ledger.json").read_text())
    assert curve["points"][-1]["flops"] == pytest.approx(ledger["total_flops"])
    fewer = quick(capsys, monkeypatch, *asked, "--steps", "3", "--json")[1]  # what else is asked is heeded
    assert json.loads(fewer)[0]["points"][0]["value"] != curve["points"][0]["value"]
    assert fewer == quick(capsys, monkeypatch, *asked, "--set", "sampling.steps=3", "--json")[1]
    for wrong in (("--samples", "a.zip"), ("--checkpoint", "15"), ("--name", "mine")):
        code, _, err = quick(capsys, monkeypatch, *asked, *wrong)
        assert (code, wrong[0] in err) == (2, True)
    for suffix, start in ((".svg", b"<?xml"), (".html", b"<!doctype html>"), (".md", b"**Scores")):
        file = tmp_path / f"curve{suffix}"
        assert quick(capsys, monkeypatch, *asked, "--out", file)[0] == 0
        assert file.read_bytes().lower().startswith(start.lower())
    assert quick(capsys, monkeypatch, *asked, "--out", tmp_path / "curve.gif")[0] == 2


def test_a_swap_is_the_candidate_inside_alone(run, tmp_path):
    """Of a run with itself it is that run; in no stage the reference; across parameterisations it is drawn as well."""
    plain = msdk.evaluate(run, images=12, metrics=["fid"])
    (itself,) = swap(run, run, FEW_BY_FID, stage=1)
    assert values(itself) == values(plain)
    assert itself.images.drawn["mixed"]["inside"] == [0.3, 2.5]
    other = tmp_path / "other"
    msdk.train(tiny("parameterization={name='eps'}", "weighting={name='uniform'}", "sampling.steps=10"), other)
    inside = swap(run, other, FEW_BY_FID, stage=1, all_checkpoints=True)
    assert [each.images.checkpoint for each in inside] == [15, 30, 45, 60]
    assert len({each["FD-digits"] for each in inside}) == 4
    (nowhere,) = swap(run, other, FEW_BY_FID, interval=(1e8, 1e9))
    assert values(nowhere) == values(msdk.evaluate(other, images=12, metrics=["fid"]))
    for wrong, words in (
        ({}, "a stage .* or an interval"),
        ({"stage": 3}, "there is no stage 3: there are 3"),
        ({"interval": (0.3, 0.1)}, "0 <= low < high"),
    ):
        with pytest.raises(msdk.PartError, match=words):
            swap(run, other, **wrong)


def test_estimates_of_a_swap_are_those_of_the_stage(run):
    """One time or many: inside (low, high] of ratio the candidate's, outside the reference's."""
    inside, outside = msdk.load_run(run), msdk.load_run(run, checkpoint=15)
    both = swapped(inside, outside, (0.3, 2.5))
    x, schedule = torch.randn(3, 1, 8, 8), inside.schedule
    times = [schedule.t_of_ratio(ratio) for ratio in (0.1, 1.0, 5.0)]
    for t, whose in zip(times, (outside, inside, outside), strict=True):
        torch.testing.assert_close(both(x, t), whose(x, t))
    mixed = both(x, torch.tensor(times, dtype=torch.float64))
    for place, (t, whose) in enumerate(zip(times, (outside, inside, outside), strict=True)):
        torch.testing.assert_close(mixed[place], whose(x, t)[place], rtol=1e-4, atol=1e-5)
    with pytest.raises(msdk.PartError, match="another schedule"):
        swapped(inside, msdk.build(tiny("schedule={name='edm'}", "sampler={name='heun'}")), (0.3, 2.5))
