"""Studies from file to verdict: priced first, trained once, shared, resumed, and told."""

import errno
import json
import os
import signal
from pathlib import Path

import attrs
import pytest
from commands import quick
from processes import processes

import msdk
from msdk.budgeting import budget
from msdk.distributed import this_rank
from msdk.metrics.denoising_loss import DenoisingLoss
from msdk.noise_levels.uniform import Uniform as UniformTimes
from msdk.report.studies import tuning_sentences
from msdk.runs.files import not_written
from msdk.runs.writer import one_writer
from msdk.studies import collecting, load_study, running
from msdk.studies.addresses import address
from msdk.studies.collecting import FAILED, RUNS, collect, read_result, state_of
from msdk.studies.planning import plan
from msdk.studies.quality import held_out_losses
from msdk.studies.running import Watcher, make
from msdk.studies.searching import Searching
from msdk.weightings.uniform import Uniform

SMALL = """
[study]
title = "Tiny"
seeds = [0, 1, 2]
checkpoints = 2
held_out = 0.05
set = { "training.iterations" = 4, "training.batch_size" = 8, "training.validate_images" = 8, "encoder.channels" = 8 }

[arms.unified]
recipe = "ROOT/recipes/digits/unified.toml"
set = { "decoders.0.channels" = 8 }

[arms.multistage]
recipe = "ROOT/recipes/digits/multistage.toml"
set = { "decoders.0.channels" = 12, "stages" = { edges_ratio = [0.3, 2.5] } }
paper = { FID = 2.71 }
"""


@pytest.fixture
def file(tmp_path):
    """A study of two arms and three seeds, which is trained in a few seconds."""
    path = tmp_path / "tiny.toml"
    path.write_text(SMALL.replace("ROOT", str(Path.cwd())))
    return path


def counted():
    """A watcher, and the names of the trials that began."""
    began = []
    return Watcher(began=lambda trial, resumed: began.append((trial.variant.name, trial.seed))), began


def test_a_study_is_trained_once(file, tmp_path, capsys, monkeypatch):
    """Six trials, then none; a changed arm retrains only itself; the result is read back; its table has the paper's."""
    watcher, began = counted()
    found = msdk.study(file, tmp_path / "out", watcher=watcher)
    assert began == [(name, seed) for seed in (0, 1, 2) for name in ("unified", "multistage")]
    assert read_result(tmp_path / "out") == found
    assert {trial.state for arm in found.arms for trial in arm.trials} == {"done"}
    again, began = counted()
    assert msdk.study(file, tmp_path / "out", watcher=again).as_json() == found.as_json()
    assert began == []

    file.write_text(file.read_text().replace('"decoders.0.channels" = 12', '"decoders.0.channels" = 16'))
    changed, began = counted()
    other = msdk.study(file, tmp_path / "out", watcher=changed)
    assert began == [("multistage", seed) for seed in (0, 1, 2)]
    assert other.arms[0] == found.arms[0]

    code, out, _ = quick(capsys, monkeypatch, "study", file, "--out", tmp_path / "out")
    assert code == 0
    assert "paper: FID" in out
    assert other.verdict.split(";")[0] in out
    page = (tmp_path / "out" / "study.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert (tmp_path / "out" / "stages.svg").stat().st_size > 1000

    # What was spent is what the ledger of each run says, whoever prices it.
    for arm in other.arms:
        for trial in arm.trials:
            ledger = json.loads((tmp_path / "out" / trial.folder / "ledger.json").read_text())
            assert trial.points[-1].flops == pytest.approx(ledger["total_flops"], rel=1e-12)
            assert [point.iteration for point in trial.points] == [2, 4]


def test_all_is_priced_first(file, tmp_path, capsys, monkeypatch):
    """The plan has the price that a budget has, and what exceeds the study's own is left out; nothing is made by it."""
    study = load_study(file)
    whole = plan(study)
    for each in whole.variants:
        exact = budget(each.recipe, convention="exact").training
        paper = budget(each.recipe, convention="paper").training
        assert (each.price.flops, each.price.paper_macs) == (exact.total_flops, paper.paper_pflops * 1e15)
    first, second = (each.price.flops for each in whole.variants)
    assert whole.flops == 3 * (first + second)
    short = plan(load_study(file, budget=f"{3 * first + 2.9 * second:.0f}"))
    assert [each.kept for each in short.variants] == [True, False]
    with pytest.raises(msdk.MsdkError, match=r"less than the .* that unified takes alone"):
        plan(load_study(file, budget=f"{2.9 * first:.0f}"))
    code, out, _ = quick(capsys, monkeypatch, "study", file, "--plan", "--gpu", "h100", "--out", tmp_path / "out")
    assert code == 0
    assert "hours of all seeds" in out
    assert not (tmp_path / "out").exists()


def test_arms_that_are_asked_for(file, tmp_path, capsys, monkeypatch):
    """`--arm` leaves the others out, but for the baseline; what is left has the addresses that it has among all."""
    text = file.read_text()
    third = text[text.index("[arms.multistage]") :].replace("[arms.multistage]", '[arms."wide, wider"]')
    file.write_text(text + third.replace("= 12", "= 16"))
    whole, chosen = plan(load_study(file)), plan(load_study(file, only=["wide, wider"]))
    assert [each.name for each in whole.variants] == ["unified", "multistage", "wide, wider"]
    assert [each.name for each in chosen.variants] == ["unified", "wide, wider"]
    assert {each.name for each in chosen.trials()} < {each.name for each in whole.trials()}
    words = ("study", file, "--out", tmp_path / "out", "--print", "--arm", "multistage")
    code, out, _ = quick(capsys, monkeypatch, *words)
    assert (code, out.count("msdk train"), "wide" in out) == (0, 6, False)
    code, _, err = quick(capsys, monkeypatch, *words[:-1], "multistag")
    assert code == 2
    told = " ".join(err.split())
    assert (
        "--arm multistag: no such arm. Did you mean 'multistage'? Known: 'unified', 'multistage', 'wide, wider'" in told
    )
    code, _, err = quick(capsys, monkeypatch, *words[:-1], "unified")
    assert (code, "that is the baseline" in err) == (2, True)


def test_the_same_flops_for_all(file):
    """With `equal = "flops"` each arm is trained for what the baseline costs, up to a look; grids are crossed."""
    file.write_text(file.read_text().replace('title = "Tiny"', 'title = "Tiny"\nequal = "flops"'))
    whole = plan(load_study(file, overrides=["training.iterations=1000"], over=["multistage:training.lr=[1e-3, 3e-3]"]))
    assert [each.name for each in whole.variants] == [
        "unified",
        "multistage: training.lr = 0.001",
        "multistage: training.lr = 0.003",
    ]
    assert [each.recipe.training.lr for each in whole.variants[1:]] == [1e-3, 3e-3]
    wanted = whole.variants[0].price.flops
    for each in whole.variants[1:]:
        assert each.recipe.training.iterations != 1000
        half = each.price.flops / each.price.iterations  # of the two iterations between looks
        assert each.price.flops == pytest.approx(wanted, abs=1.001 * half)
        assert f"training.iterations={each.recipe.training.iterations}" in each.changes


def test_a_printed_command_makes_its_trial(file, tmp_path, capsys, monkeypatch):
    """`--print` lists a command for each trial; it and `--trial K` make the run that the study takes."""
    out = tmp_path / "out"
    _, printed, _ = quick(capsys, monkeypatch, "study", file, "--out", out, "--print")
    lines = printed.splitlines()
    assert len(lines) == 6
    import shlex

    words = shlex.split(lines[1])
    assert words[0] == "msdk"
    code, _, _ = quick(capsys, monkeypatch, *words[1:])
    assert code == 0
    code, _, _ = quick(capsys, monkeypatch, "study", file, "--out", out, "--trial", 3)
    assert code == 0
    trials = plan(load_study(file)).trials()
    assert [state_of(out, trial)[0] for trial in trials] == ["new", "done", "new", "done", "new", "new"]
    code, _, err = quick(capsys, monkeypatch, "study", file, "--out", out, "--trial", 6)
    assert (code, "trials 0 to 5" in err) == (2, True)


def test_nothing_is_trained_twice_under_another_name(file, tmp_path, capsys, monkeypatch):
    """A trial is found by its address: arms that are alike share it, as do studies with the same `--runs`."""
    same = file.with_name("same.toml")
    again = SMALL.replace("ROOT", str(Path.cwd())).replace("[arms.unified]", "[arms.base]")
    alike = again + again[again.index("[arms.base]") :].split("[arms.multistage]")[0].replace("base", "twin")
    same.write_text(alike)
    runs, watched = tmp_path / "all", counted()
    msdk.study(file, tmp_path / "first", runs=runs, watcher=watched[0])
    assert len(watched[1]) == len(list(runs.iterdir())) == 6
    quick(capsys, monkeypatch, "study", same, "--out", tmp_path / "second", "--runs", runs)
    assert len(list(runs.iterdir())) == 6
    first, second = (read_result(tmp_path / each) for each in ("first", "second"))
    unified, multistage = ([trial.folder for trial in arm.trials] for arm in first.arms)
    assert [[trial.folder for trial in arm.trials] for arm in second.arms] == [unified, multistage, unified]
    trial = plan(load_study(same)).trials()[2]
    assert (trial.variant.name, trial.run(tmp_path / "second").name.split("-")[0]) == ("twin", "unified")
    other = tmp_path / "other"
    (other / RUNS).mkdir(parents=True)
    code, _, err = quick(capsys, monkeypatch, "study", same, "--out", other, "--runs", runs)
    assert (code, "has the runs of this study" in err) == (2, True)


def test_a_failing_trial_does_not_stop_the_others(file, tmp_path):
    """It is told, is not tried again unless asked to, and the rest is trained."""
    trials = plan(load_study(file)).trials()[:2]
    wild = attrs.evolve(trials[0].variant.recipe.training, lr=1e30, clip_norm=0.0, warmup=0)
    broken = attrs.evolve(trials[0].variant, recipe=attrs.evolve(trials[0].variant.recipe, training=wild))
    trials = (attrs.evolve(trials[0], variant=broken), trials[1])
    failed, (watcher, began) = [], counted()
    watcher = attrs.evolve(watcher, failed=lambda trial, problem: failed.append(problem))
    assert make(trials, tmp_path, watcher=watcher) == 0
    assert len(began) == 2
    assert "not finite" in failed[0] or "is nan" in failed[0] or "is inf" in failed[0]
    assert state_of(tmp_path, trials[0])[0] == "failed"
    assert state_of(tmp_path, trials[1])[0] == "done"
    assert make(trials, tmp_path, watcher=watcher) == 0
    assert len(began) == 2
    assert make(trials, tmp_path, watcher=watcher, retry=True) == 0
    assert len(began) == 3
    assert (tmp_path / RUNS / f"{trials[0].name}{FAILED}").is_file()


def test_what_is_no_trials_fault_ends_a_study(file, tmp_path, monkeypatch):
    """A full disk, or a helper whose reader was killed: the next trials would fail as well, and none wants --retry."""
    trials, (watcher, began) = plan(load_study(file)).trials(), counted()

    def full(recipe, run, **_):
        raise not_written(run / "checkpoints", OSError(errno.ENOSPC, "No space left on device"))

    def unread(recipe, run, **_):
        raise BrokenPipeError

    for count, (fault, error) in enumerate(((full, msdk.MsdkError), (unread, BrokenPipeError))):
        monkeypatch.setattr(running, "train_here", fault)
        with pytest.raises(error, match="the disk is full" if fault is full else None):
            make(trials, tmp_path, watcher=watcher)
        assert len(began) == count + 1
        assert state_of(tmp_path, trials[0]) == ("new", "")


def test_what_was_stopped_goes_on(file, tmp_path):
    """A signal ends a study with a checkpoint; the same study goes on there, as if nothing had been."""
    trials = plan(load_study(file)).trials()[:1]

    def stop(trial, step):
        if step.iteration == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    assert make(trials, tmp_path / "stopped", watcher=Watcher(trained=stop)) == signal.SIGTERM
    assert state_of(tmp_path / "stopped", trials[0])[0] == "stopped"
    resumed = []
    watcher = Watcher(began=lambda trial, going: resumed.append(going))
    for folder in ("stopped", "whole"):
        assert make(trials, tmp_path / folder, watcher=watcher) == 0
    assert resumed == [True, False]
    looks = [
        [json.loads(line)["held_out_loss"] for line in lines if "held_out_loss" in line]
        for folder in ("stopped", "whole")
        for lines in [(tmp_path / folder / RUNS / trials[0].name / "metrics.jsonl").read_text().splitlines()]
    ]
    assert looks[0] == looks[1]
    assert len(looks[0]) == 2


def test_two_processes_share_the_trials(file, tmp_path):
    """While another process has a trial it is left to it; when that one is gone, it is made here."""
    trials = plan(load_study(file)).trials()[:2]
    run = tmp_path / RUNS / trials[0].name
    watcher, began = counted()
    child = os.fork()
    if not child:  # holds the first trial, and trains nothing
        with one_writer(run):
            (tmp_path / "held").touch()
            while not (tmp_path / "enough").exists():
                pass
            os._exit(0)
    try:
        while not (tmp_path / "held").exists():
            pass
        assert make(trials, tmp_path, watcher=watcher, wait=False) == 0
        assert began == [("multistage", 0)]
        waited = attrs.evolve(watcher, waiting=lambda others: (tmp_path / "enough").touch())
        assert make(trials, tmp_path, watcher=waited) == 0
        assert began == [("multistage", 0), ("unified", 0)]
    finally:
        (tmp_path / "enough").touch()
        os.waitpid(child, 0)


def test_a_run_is_believed_by_its_content(file, tmp_path):
    """A folder whose recipe, data or version are not those of its name is told, not counted."""
    trials = plan(load_study(file)).trials()[:1]
    make(trials, tmp_path)
    lock = tmp_path / RUNS / trials[0].name / "lock.json"
    lock.write_text(lock.read_text().replace('"msdk": "', '"msdk": "9.'))
    state, problem = state_of(tmp_path, trials[0])
    assert state == "failed"
    assert "another version" in problem
    recipe = trials[0].recipe
    assert address(recipe, "a") == address(attrs.evolve(recipe, title="other"), "a")
    assert len({address(recipe, "a"), address(recipe, "b"), address(recipe, "a", "9")}) == 3
    assert address(recipe, "a") != address(attrs.evolve(recipe, training=attrs.evolve(recipe.training, lr=1.0)), "a")


@pytest.mark.parametrize("damage", ["no looks", "a folder", "a file", "its lock", "its failure"])
def test_one_damaged_trial_ends_no_study(file, tmp_path, monkeypatch, damage):
    """Whatever is wrong with its files, it is told as failed, with what to do, and the others are told as they are."""
    whole = plan(load_study(file))
    trials = whole.trials()
    for trial in trials:
        run = tmp_path / RUNS / trial.name
        run.mkdir(parents=True)
        seen = [8] * len(trial.recipe.decoders)
        line = {"iteration": 4, "held_out_loss": 0.5 + 0.01 * trial.seed, "held_out_loss_by_stage": [], "seconds": 1.0}
        (run / "metrics.jsonl").write_text(json.dumps({**line, "images_by_stage": seen}) + "\n")
    first = tmp_path / RUNS / trials[0].name
    looks, real = first / "metrics.jsonl", state_of
    if damage == "no looks":
        looks.write_bytes(b"\xff\xfe junk")
    elif damage == "a folder":
        looks.unlink()
        looks.mkdir()
    elif damage == "a file":
        looks.unlink()
        first.rmdir()
        first.write_text("")
    elif damage == "its lock":
        (first / "lock.json").write_bytes(b"\xff\xfe")
    else:
        first.with_name(first.name + FAILED).write_bytes(b"\xff gone")

    def state(folder, trial):
        return real(folder, trial) if damage == "its failure" and not trial.number else ("done", "")

    monkeypatch.setattr(collecting, "state_of", state)
    found = collect(whole, trials, tmp_path, file)
    states = [trial.state for arm in found.arms for trial in arm.trials]
    assert states.count("done") == (6 if damage == "its lock" else 5)
    if damage != "its lock":
        assert found.arms[0].trials[0].problem
        assert found.verdict.endswith("1 trial failed.")
        assert found.comparisons[0].seeds == (1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds = [0, 1, 2]", "seeds = [0, 1]"), "at least 3"),
        (("seeds = [0, 1, 2]", "seeds = [0, 1, 1]"), "same seed twice"),
        (('title = "Tiny"', 'titel = "Tiny"'), "Did you mean 'title'"),
        (('title = "Tiny"', 'baseline = "unifeid"'), "Did you mean 'unified'"),
        (
            ('title = "Tiny"', 'metrics = ["fid"]'),
            r"evaluates as \[evaluation\] says, which is not there",
        ),
        (('title = "Tiny"', 'metrics = ["fdd"]'), "no metric 'fdd' of a study. Known: denoising-loss, "),
        (('title = "Tiny"', "evaluate_every = 3"), "a multiple of `checkpoints`, which is 2, got 3"),
        (('title = "Tiny"', 'budget = "2 GMACs"'), "MACs"),
        (("paper = { FID = 2.71 }", 'paper = { FID = "low" }'), "number"),
        (("paper = { FID = 2.71 }", 'over = { "training.lr" = [1e-3, 0.001] }'), "has 0.001 twice"),
        (("paper = { FID = 2.71 }", 'over = { "training.seed" = [5, 6] }'), "the study's own.*: `seeds`"),
        (('set = { "decoders.0.channels" = 8 }', 'set = { "data.held_out" = 0.3 }'), "the study's own.*: `held_out`"),
        (('title = "Tiny"', 'equal = "flops"\nover = { "training.iterations" = [4, 8] }'), "decided by equal"),
        (("[arms.unified]", "[arms.unified"), "not valid TOML"),
    ],
)
def test_mistakes_of_a_study_are_told(file, change, message):
    """Each is told with its key, before anything is counted."""
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(msdk.MsdkError, match=message):
        plan(load_study(file))


def test_a_recipe_that_is_not_there_is_told_alone(file):
    """What is set in it is no mistake besides."""
    file.write_text(file.read_text().replace("digits/unified.toml", "digits/unifeid.toml"))
    with pytest.raises(msdk.MsdkError, match=r"1 problem\n.*cannot be read") as told:
        plan(load_study(file))
    assert "decoders" not in str(told.value)


def test_arms_of_other_data_are_refused(file, tmp_path):
    """Before anything is trained: their qualities are of different images."""
    from PIL import Image

    (tmp_path / "images").mkdir()
    for number in range(20):
        Image.new("L", (8, 8), number * 10).save(tmp_path / "images" / f"{number}.png")
    data = f'data = {{ name = "folder", path = "{tmp_path / "images"}", size = 8, channels = 1 }}'
    file.write_text(file.read_text().replace('"decoders.0.channels" = 12', f'"decoders.0.channels" = 12, {data}'))
    with pytest.raises(msdk.MsdkError, match="unified and multistage have different data"):
        plan(load_study(file)).trials()


def test_a_folder_of_another_study_is_left_alone(file, tmp_path, capsys, monkeypatch):
    """Its result would be replaced; the study's own, and a damaged one, are."""
    whole = plan(load_study(file))
    monkeypatch.setattr(collecting, "state_of", lambda folder, trial: ("new", ""))
    collecting.write_result(tmp_path / "out", collect(whole, whole.trials(), tmp_path / "out", Path("else/other.toml")))
    before = (tmp_path / "out" / "study.json").read_bytes()
    code, _, err = quick(capsys, monkeypatch, "study", file, "--out", tmp_path / "out")
    assert (code, "another study, else/other.toml" in err) == (2, True)
    assert (tmp_path / "out" / "study.json").read_bytes() == before
    collecting.refuse_another(tmp_path / "out", Path("here/other.toml"))
    # A study of the same name from another folder is another study, where that is still there.
    twin = tmp_path / "else" / file.name
    twin.parent.mkdir()
    twin.write_text(file.read_text())
    collecting.write_result(tmp_path / "twin", collect(whole, whole.trials(), tmp_path / "twin", twin))
    with pytest.raises(msdk.RunError, match="has the result of another study"):
        collecting.refuse_another(tmp_path / "twin", file)
    twin.unlink()
    collecting.refuse_another(tmp_path / "twin", file)
    (tmp_path / "out" / "study.json").write_bytes(b"\xff{")
    collecting.refuse_another(tmp_path / "out", file)


def test_what_compares_nothing_is_refused(file, tmp_path, capsys, monkeypatch):
    """A budget for the baseline alone, and looks that never come, which equal FLOPs would make ever more iterations."""
    first, second = (each.price.flops for each in plan(load_study(file)).variants)
    budget = f"{3 * first + second:.0f}"
    code, _, err = quick(capsys, monkeypatch, "study", file, "--budget", budget, "--out", tmp_path / "out")
    assert (code, "leaves out all arms but unified, so nothing would be compared" in " ".join(err.split())) == (2, True)
    with pytest.raises(msdk.MsdkError, match="leaves out all arms"):
        msdk.study(file, tmp_path / "out", budget=float(budget))
    file.write_text(file.read_text().replace("checkpoints = 2", 'checkpoints = 400\nequal = "flops"'))
    with pytest.raises(msdk.MsdkError, match="trained for 4 iterations, and looked at every 400: lower `checkpoints`"):
        plan(load_study(file))


def test_mistakes_say_whose_they_are(file, tmp_path, capsys, monkeypatch):
    """What should be a table, and the arm whose recipe is wrong or missing."""
    text = file.read_text()
    file.write_text(text.replace("paper = { FID = 2.71 }", "over = 3"))
    code, _, err = quick(capsys, monkeypatch, "study", file, "--plan")
    assert (code, "arms.multistage.over  expected a table, { key = value }, got '3'" in err) == (2, True), err
    file.write_text(text.replace("digits/multistage.toml", "digits/missing.toml"))
    code, _, err = quick(capsys, monkeypatch, "study", file, "--plan")
    assert (code, "arm 'multistage': " in err, "missing.toml" in err) == (2, True, True)


def test_who_may_only_look_is_told(file, tmp_path, capsys, monkeypatch):
    """`--collect` on a folder of others writes nothing there."""
    msdk.study(file, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("study.*")}
    monkeypatch.setattr("os.access", lambda path, mode: False)
    words = ("study", file, "--out", tmp_path / "out", "--seeds", "0-2", "--collect")
    code, out, err = quick(capsys, monkeypatch, *words)
    assert (code, "3 / 3" in out, "study.html" in out) == (0, True, False), err
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("study.*")} == before


def test_an_interruption_is_an_error_in_python(file, tmp_path):
    """A script does not go on with half a study as if it were whole; the same call goes on."""
    watcher = Watcher(trained=lambda trial, step: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(msdk.RunError, match="interrupted: what was trained is kept in"):
        msdk.study(file, tmp_path / "out", watcher=watcher)
    assert not (tmp_path / "out" / "study.json").exists()
    assert not msdk.study(file, tmp_path / "out").failed


def test_what_fails_elsewhere_is_not_tried_again_here(file, tmp_path, monkeypatch):
    """Another process fails a trial between this one's look at it and its lock: that is told once, and kept."""
    trials = plan(load_study(file)).trials()[:1]
    run = trials[0].run(tmp_path)
    run.parent.mkdir(parents=True)
    failed = run.with_name(run.name + FAILED)
    real, began = state_of, []

    def looked(folder, trial):
        found = real(folder, trial)
        if not failed.exists():
            failed.write_text("nan\n")
        return found

    monkeypatch.setattr(running, "state_of", looked)
    watcher = Watcher(began=lambda trial, resumed: began.append(trial.number))
    assert make(trials, tmp_path, watcher=watcher) == 0
    assert (began, failed.read_text()) == ([], "nan\n")
    assert make(trials, tmp_path, watcher=watcher, retry=True) == 0
    assert (began, failed.exists()) == ([0], False)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("digits/unified", "e12f1b2804b4"), ("cifar16/multistage", "0928b6eece47"), ("cifar10/iddpm", "c9c6adb803d1")],
)
def test_addresses_stay(recipe, expected):
    """A new key at its default changes no address: every team would train again what it has."""
    assert address(msdk.load_recipe(f"recipes/{recipe}.toml"), "0" * 64, "0") == expected


def test_arms_are_tuned_over_the_same_grid(file, tmp_path, monkeypatch):
    """Of each arm the learning rate with the best mean over seeds is compared, the baseline's too; all are told."""
    with pytest.raises(msdk.MsdkError, match="the baseline unified has a grid itself"):
        plan(load_study(file, over=["training.lr=[1e-3, 1e-2]"]))
    file.write_text(file.read_text().replace('title = "Tiny"', 'best_of = ["training.lr"]'))
    with pytest.raises(msdk.MsdkError, match=r"'training\.lr' is no key of"):
        load_study(file)
    whole = plan(load_study(file, over=["training.lr=[1e-3, 1e-2]"]))
    trials = whole.trials()
    told = {("u", 1e-3): 0.5, ("u", 1e-2): 0.4, ("m", 1e-3): 0.3, ("m", 1e-2): 0.6}
    for trial in trials:
        run = tmp_path / RUNS / trial.name
        run.mkdir(parents=True)
        value = told[trial.variant.arm[0], trial.recipe.training.lr] + 0.01 * trial.seed
        line = {"iteration": 4, "held_out_loss": value, "held_out_loss_by_stage": [], "seconds": 1.0}
        stages = len(trial.recipe.decoders)
        (run / "metrics.jsonl").write_text(json.dumps({**line, "images_by_stage": [8] * stages}) + "\n")
    monkeypatch.setattr(collecting, "state_of", lambda folder, trial: ("done", ""))
    found = collect(whole, trials, tmp_path, file)
    assert len(found.arms) == 4
    assert found.baseline == "unified: training.lr = 0.01"
    assert {each.name for each in found.comparisons} == {"multistage: training.lr = 0.001"}
    assert [(each.arm, each.chosen, each.by, each.settings) for each in found.tuning] == [
        ("unified", "unified: training.lr = 0.01", "grid", 2),
        ("multistage", "multistage: training.lr = 0.001", "grid", 2),
    ]
    told = tuning_sentences(found)
    assert told[0].startswith("All arms were tuned alike by a grid: training.lr from 0.001, 0.01.")
    assert "training.lr = 0.01 of unified is at an end of what was tried (0.001, 0.01)" in " ".join(told)
    by_line = load_study(file, over=["training.lr=[1e-3, 1e-2]"], best_of=["training.lr"])
    assert by_line == whole.study

    # A setting one of whose trials failed counts only where there is no other.
    broken = [trial for trial in trials if trial.variant.name == found.baseline][:1]

    def failing(folder, trial):
        return ("failed", "nan") if trial in broken else ("done", "")

    monkeypatch.setattr(collecting, "state_of", failing)
    assert collect(whole, trials, tmp_path, file).baseline == "unified: training.lr = 0.001"


def test_arms_of_other_laws_are_judged_by_a_common_one(file, tmp_path):
    """A metric of evaluations on the way: each look has its number, under the law that the study says, and by stage."""
    law = '{ name = "denoising-loss", images = 8, weighting = { name = "uniform" }, noise = { name = "uniform" } }'
    text = file.read_text().replace('title = "Tiny"', 'metrics = ["common-loss"]')
    text = text.replace('"training.iterations" = 4', f'"training.iterations" = 4, "evaluation.metrics" = [{law}]')
    file.write_text(text.replace('"stages" =', '"weighting" = { name = "min-snr" }, "stages" ='))
    study = load_study(file)
    whole = plan(study)
    trials = whole.trials()
    assert make(trials[:2], tmp_path / "out") == 0
    found = collect(whole, trials, tmp_path / "out", file)
    for arm, stages in zip(found.arms, (1, 3), strict=True):
        points = arm.trials[0].points
        assert [point.iteration for point in points] == [2, 4]
        assert [len(point.by_stage) for point in points] == [stages, stages]
    run = tmp_path / "out" / RUNS / trials[0].name
    own = found.arms[0].trials[0].points[-1].value
    assert own != held_out_losses(run)[-1].value
    common = DenoisingLoss(images=8, weighting=Uniform(), noise=UniformTimes())
    as_said = msdk.evaluate(run, metrics=[common], name="again")
    assert as_said["denoising-loss"] == own
    file.write_text(file.read_text().replace("common-loss", "kid"))
    with pytest.raises(msdk.MsdkError, match="kid is of evaluations, and unified has none of it"):
        plan(load_study(file))
    other = attrs.evolve(trials[0].recipe, sampling=attrs.evolve(trials[0].recipe.sampling, steps=3))
    assert address(other, "a") != address(trials[0].recipe, "a")


def looks_of(found):
    """What every trial of a study found, by arm and seed."""
    return {
        (arm.name, trial.seed): [(point.iteration, point.value) for point in trial.points]
        for arm in found.arms
        for trial in arm.trials
    }


def test_processes_of_torchrun_train_each_trial_together(file, tmp_path, capfd):
    """Its looks are those of one process; when one is killed the other says so and ends; then all goes on.

    The settings are proposed by a search, which the first process asks.
    """
    text = file.read_text().replace('"training.iterations" = 4', '"training.iterations" = 2')
    space = 'search = { name = "random", trials = 1, space = { "training.lr" = { low = 1e-3, high = 1e-2 } } }'
    file.write_text(text.replace('title = "Tiny"', space))
    alone = msdk.study(file, tmp_path / "alone")

    def killed():
        def stop(trial, step):
            if this_rank().index == 1 and trial.number == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(msdk.MsdkError, match="another process of this run ended") as told:
            msdk.study(file, tmp_path / "together", watcher=Watcher(trained=stop))
        return str(told.value)

    first, second = processes(2, killed, tmp_path)
    assert "start all processes again" in first
    assert second is None
    done = [state_of(tmp_path / "together", trial)[0] for trial in Searching(plan(load_study(file)), tmp_path).trials()]
    assert done == ["done", "done", "new", "new", "new", "new"]

    def again():
        watcher, began = counted()
        return msdk.study(file, tmp_path / "together", watcher=watcher).as_json(), began

    (found, began), (same, elsewhere) = processes(2, again, tmp_path)
    assert found["arms"] == same["arms"]
    assert (len(began), elsewhere) == (4, [])  # the first of them tells
    together = looks_of(read_result(tmp_path / "together"))
    assert together.keys() == looks_of(alone).keys()
    for key, looks in looks_of(alone).items():
        assert [at for at, _ in together[key]] == [at for at, _ in looks]
        assert [value for _, value in together[key]] == pytest.approx([value for _, value in looks], rel=1e-5)
    capfd.readouterr()
