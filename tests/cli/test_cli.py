"""Promises of the command line: exit codes, JSON alone on stdout, messages instead of tracebacks."""

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from commands import command, quick

import msdk
from msdk.pretrained.converting import Converted
from recipes import tiny


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(msdk.recipe.to_toml(tiny()))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "list",
        "show encoder ddpmpp",
        "recipe check recipes/digits/multistage.toml",
        "recipe diff recipes/digits/unified.toml recipes/digits/multistage.toml",
    ],
)
def test_light_commands_import_no_torch(arguments):
    """Help, listings and checks answer without torch, which costs seconds."""
    program = (
        "import sys\nfrom msdk.cli import main\n"
        f"sys.argv = ['msdk', *{arguments.split()!r}]\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("False")


@pytest.mark.parametrize(
    "name",
    [
        "list",
        "show",
        "budget",
        "budget solve",
        "cluster",
        "train",
        "sample",
        "run",
        "recipe check",
        "recipe show",
        "recipe diff",
    ],
)
def test_every_command_has_help_with_an_example(name, capsys, monkeypatch):
    """--help explains each command and shows how it is typed."""
    code, out, _ = quick(capsys, monkeypatch, *name.split(), "--help")
    assert code == 0
    assert f"msdk {name}" in out
    assert "Examples:" in out


def test_list_as_json(capsys, monkeypatch):
    """One document with kind, name and owner of every part; the kind may be singular or plural."""
    _, out, _ = quick(capsys, monkeypatch, "list", "--json")
    parts = {(part["kind"], part["name"]): part for part in json.loads(out)}
    assert parts["encoders", "ddpmpp"]["owner"] == "msdk"
    one, many = (quick(capsys, monkeypatch, "list", kind, "--json")[1] for kind in ("sampler", "samplers"))
    assert one == many
    assert {part["kind"] for part in json.loads(one)} == {"samplers"}


def test_show_as_json(capsys, monkeypatch):
    """Fields come with type, default and meaning."""
    _, out, _ = quick(capsys, monkeypatch, "show", "encoder", "ddpmpp", "--json")
    shown = json.loads(out)
    fields = {field["name"]: field for field in shown["fields"]}
    assert fields["channels"] == {
        "name": "channels",
        "type": "int",
        "default": 128,
        "required": False,
        "help": "Base width.",
    }
    assert shown["file"].endswith("score_sde.py")
    _, out, _ = quick(capsys, monkeypatch, "show", "dataset", "zip", "--json")
    assert [field["name"] for field in json.loads(out)["fields"] if field["required"]] == ["path"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("bugdet x", ["Unknown command", "budget"]),
        ("list encodres", ["no kind of part named 'encodres'", "Did you mean 'encoders'?"]),
        ("show encoder ddpmp", ["no encoder named 'ddpmp'", "Did you mean 'ddpmpp'?"]),
        ("recipe check nowhere.toml", ["nowhere.toml", "cannot be read"]),
        ("budget recipes/digits/unified.toml --convention papr", ["Did you mean 'paper'?"]),
        (
            "budget recipes/digits/unified.toml --set sampler.name=huen",
            ["sampler.name", "Did you mean 'heun'?", "--set"],
        ),
        ("cluster recipes/digits/unified.toml --strategy snrr --out /nonexistent/x.json", ["Did you mean 'snr'?"]),
        ("cluster recipes/digits/unified.toml --compare --write", ["--write needs one strategy"]),
        ("sample nowhere", ["is not a run folder"]),
        (
            "train recipes/digits/unified.toml --out /tmp/none --device cuda:99",
            ["no device 'cuda:99' here", "Known: cpu"],
        ),
        (
            "train recipes/cifar10/dpm-unified.toml --out /tmp/none --set data.path=missing.zip",
            ["there is no file", "missing.zip"],
        ),
    ],
)
def test_wrong_input_exits_2(arguments, words, capsys, monkeypatch):
    """What was given, what is allowed and the nearest name; exit code 2, nothing on stdout."""
    code, out, err = quick(capsys, monkeypatch, *arguments.split())
    assert code == 2
    assert not out
    assert all(word in " ".join(err.split()) for word in words), err


def test_all_mistakes_at_once(capsys, monkeypatch, tmp_path):
    """A recipe with five mistakes gets five lines, each with its path."""
    path = tmp_path / "bad.toml"
    path.write_text(
        'titel = "x"\n[data]\nname = "digits"\n'
        '[encoder]\nname = "ddpmp"\n[[decoders]]\nname = "ddpmpp"\nchannels = 4.7\n'
        '[training]\nflip = "false"\niterations = 0\n'
    )
    code, _, err = quick(capsys, monkeypatch, "recipe", "check", path)
    assert code == 2
    assert "has 5 problems" in err
    for words in ("titel", "Did you mean 'title'?", "encoder.name", "decoders.0.channels", "got 4.7", "training.flip"):
        assert words in err


def test_sample_explains(recipe, tmp_path, capsys, monkeypatch):
    """--explain prints each call with its stage; --seeds and an existing folder are checked before any work."""
    msdk.train(tiny(), tmp_path / "run")
    _, out, _ = quick(capsys, monkeypatch, "sample", tmp_path / "run", "--explain", "--json")
    calls = json.loads(out)
    costs = [stage["macs"]["total"] for stage in msdk.budget(tiny(), convention="exact").as_json()["stages"]]
    assert [call["macs"] for call in calls] == [costs[call["stage"]] for call in calls]
    assert "for an image, convention exact" in quick(capsys, monkeypatch, "sample", tmp_path / "run", "--explain")[1]
    assert [call["stage"] for call in calls] == sorted((call["stage"] for call in calls), reverse=True)
    code, _, err = quick(capsys, monkeypatch, "sample", tmp_path / "run", "--seeds", "9-3")
    assert (code, "write single seeds and ranges" in err) == (2, True)
    code, _, err = quick(capsys, monkeypatch, "sample", tmp_path / "run", "--set", "encoder.channels=16")
    assert (code, "another recipe, with other encoder" in err) == (2, True)
    code, out, _ = quick(capsys, monkeypatch, "sample", tmp_path / "run", "--seeds", "0-2", "--json")
    assert (code, json.loads(out)["images"]) == (0, 3)
    code, out, _ = quick(capsys, monkeypatch, "sample", tmp_path / "run", "--json")
    assert (code, json.loads(out)["folder"]) == (0, str(tmp_path / "run" / "samples-2"))
    code, _, err = quick(capsys, monkeypatch, "sample", tmp_path / "run", "--out", tmp_path / "run" / "samples")
    assert (code, "samples exists: replace it with --force" in err) == (2, True)


def test_sample_takes_label_and_guidance(tmp_path, capsys, monkeypatch):
    """--label and --guidance are short for recipe keys: checked, and shown call by call with what they cost."""
    run = tmp_path / "run"
    msdk.train(tiny("encoder.classes=10", "training.label_dropout=0.1"), run)
    _, out, _ = quick(capsys, monkeypatch, "sample", run, "--guidance", "2", "--explain", "--json")
    assert {call["evaluations"] for call in json.loads(out)} == {2}
    interval = ("--set", "sampling.guidance_interval=[0.3, 2.5]")
    _, out, _ = quick(capsys, monkeypatch, "sample", run, "--guidance", "2", *interval, "--explain", "--json")
    assert all(call["evaluations"] == 1 + (0.3 < call["ratio"] <= 2.5) for call in json.loads(out))
    code, out, _ = quick(
        capsys, monkeypatch, "sample", run, "--label", "3", "--guidance", "2", "--seeds", "0-1", "--json"
    )
    assert (code, json.loads(out)["images"]) == (0, 2)
    code, _, err = quick(capsys, monkeypatch, "sample", run, "--label", "10")
    assert (code, "there is no class 10: encoder.classes is 10, so use 0 .. 9" in " ".join(err.split())) == (2, True)
    msdk.train(tiny(), tmp_path / "plain")
    code, _, err = quick(capsys, monkeypatch, "sample", tmp_path / "plain", "--guidance", "2")
    assert (code, "sampling.guidance needs a class-conditional model" in " ".join(err.split())) == (2, True)


def test_recipe_diff_shows_only_what_differs(capsys, monkeypatch):
    """Dotted paths, list entries by number, defaults told apart; it exits 0 whether recipes differ or not."""
    unified, multistage = "recipes/digits/unified.toml", "recipes/digits/multistage.toml"
    code, out, _ = quick(capsys, monkeypatch, "recipe", "diff", unified, multistage, "--json")
    rows = {row["path"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["decoders.0.channels"] == {
        "path": "decoders.0.channels",
        "a": 32,
        "b": 48,
        "a_default": False,
        "b_default": False,
    }
    assert not any(path.startswith("encoder") for path in rows)
    code, out, _ = quick(capsys, monkeypatch, "recipe", "diff", unified, multistage)
    assert (code, "decoders.2.channels" in out, "(default)" in out) == (0, True, True)
    code, out, _ = quick(capsys, monkeypatch, "recipe", "diff", unified, unified)
    assert (code, "The recipes say the same." in out) == (0, True)


def test_budget_and_cluster_print_json_alone(recipe, tmp_path):
    """On stdout is one JSON document; notes and progress go to stderr."""
    out, _ = command("budget", recipe, "recipes/digits/multistage.toml", "--set", "training.batch_size=4", "--json")
    assert [one["recipe"] for one in json.loads(out)] == [str(recipe), "recipes/digits/multistage.toml"]
    out, _ = command("cluster", recipe, "--strategy", "snr", "--out", tmp_path / "c.json", "--json")
    assert json.loads(out) == json.loads((tmp_path / "c.json").read_text())


def test_run_does_everything(tmp_path):
    """`msdk run` clusters, budgets three architectures, trains, samples and reports, once."""
    arguments = ["run", "recipes/digits/multistage.toml", "--out", tmp_path / "run"]
    small = [
        *("--set", "encoder.channels=8", "--set", "encoder.blocks=1", "--set", "training.iterations=3"),
        *("--set", "training.batch_size=8", "--set", "sampling.images=4", "--set", "sampling.steps=2"),
        *("--set", "decoders.0.channels=12", "--set", "decoders.1.channels=8", "--set", "decoders.2.channels=4"),
        *("--set", "stages.clustering.draws=300"),
    ]
    out, _ = command(*arguments, *small)
    for words in ("Stage edges", "Budgets side by side", "unified", "separate", "multistage", "report.html"):
        assert words in out
    run = tmp_path / "run"
    for name in (
        "recipe.toml",
        "lock.json",
        "metrics.jsonl",
        "ledger.json",
        "clustering.json",
        "report.md",
        "report.html",
        "samples/grid.png",
    ):
        assert (run / name).is_file(), name
    report = (run / "report.md").read_text()
    assert "![samples](samples/grid.png)" in report
    assert "![how the stages were found](clustering.png)" in report
    assert "| multistage | 0." in report
    page = (run / "report.html").read_text()
    assert all(words in page for words in ("Ledger of multistage", "How the recipes differ", "separate"))
    _, err = command(*arguments, check=2)
    assert "exists: continue it with --resume" in err
    command(*arguments, *small, "--resume", "--set", "training.iterations=4")
    assert len(list((run / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("arguments", [("list",), ("budget", "recipes/digits/unified.toml"), ("--help",)])
def test_a_reader_that_has_seen_enough_is_no_failure(arguments):
    """As before `| head -1`: exit code 1 would say that a limit is exceeded."""
    process = subprocess.Popen(
        [sys.executable, "-m", "msdk", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in err) == (0, False), err


def test_pretrained_list_names_what_convert_takes(capsys, monkeypatch):
    """Every published configuration is listed under its family, as a table and as JSON."""
    code, out, _ = quick(capsys, monkeypatch, "pretrained", "list", "--json")
    listed = json.loads(out)
    assert code == 0
    assert "ldm-celebahq256" in listed["ldm"]
    _, table, _ = quick(capsys, monkeypatch, "pretrained", "list")
    assert all(name in table for names in listed.values() for name in names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--family", "emd"], "no family of checkpoints named 'emd'. Did you mean 'edm'?"),
        (["--family", "edm"], "cannot be read as data"),
        (["--family", "edm", "--weights", "best"], "no kind of weights named 'best'"),
        (["--family", "edm", "--config", "gone.json"], "gone.json cannot be read"),
    ],
)
def test_pretrained_convert_tells_what_is_wrong(capsys, monkeypatch, tmp_path, options, words):
    """Wrong names and foreign files end with exit code 2 and leave no folder behind."""
    file = tmp_path / "weights.pt"
    file.write_bytes(b"hello")
    code, out, err = quick(capsys, monkeypatch, "pretrained", "convert", file, "--out", tmp_path / "run", *options)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("made", "told", "warned"),
    [
        (
            Converted(Path("run"), "edm-a", 1234, 2, {"name": "kl-f8"}, "edm"),
            ["edm-a: 1,234 parameters, 2 stages; run folder run (edm), with its autoencoder", "next: msdk sample run"],
            "",
        ),
        (
            Converted(Path("run"), "vp", 5, 1, process="vp-linear", averages=True, latents=True),
            ["vp: 5 parameters, 1 stage; run folder run (vp-linear)", "next: msdk sample run"],
            "averaged weights too, which published scores are of: --weights ema takes them | samples are latents",
        ),
        (
            Converted(Path("vq"), "vq-f4", 12, 0, {"name": "vq-f4", "weights": "vq"}),
            ['vq-f4: 12 parameters; a recipe points to it by: autoencoder = { name = "vq-f4", weights = "vq" }'],
            "",
        ),
    ],
    ids=["latent", "pixels", "autoencoder"],
)
def test_pretrained_convert_tells_what_it_made(capsys, monkeypatch, tmp_path, made, told, warned):
    """Name, size and place, what was assumed, what is missing, what comes next; with --json an object of it."""
    monkeypatch.setattr("msdk.pretrained.converting.convert", lambda *given, **more: made)
    words = ("pretrained", "convert", "w.pt", "--family", "edm", "--out", tmp_path / "run")
    code, out, err = quick(capsys, monkeypatch, *words)
    assert (code, out.splitlines()) == (0, told)
    assert all(one in " ".join(err.split()) for one in warned.split(" | "))
    assert err.count("msdk:") == len(warned.split(" | ")) * bool(warned)
    assert json.loads(quick(capsys, monkeypatch, *words, "--json")[1]) == attrs.asdict(made) | {
        "folder": str(made.folder)
    }


def test_bases_among_several_recipes_are_passed_over(capsys, monkeypatch):
    """`*.toml` names what recipes extend, too: said, not counted; a recipe that nobody extends is still a mistake."""
    files = ["recipes/digits/base.toml", "recipes/digits/unified.toml", "recipes/digits/multistage.toml"]
    code, out, err = quick(capsys, monkeypatch, "recipe", "check", *files)
    assert (code, len(out.splitlines())) == (0, 2)
    assert "recipes/digits/base.toml is passed over: others here extend it, and alone it has no decoders" in err
    code, out, err = quick(capsys, monkeypatch, "budget", *files[:2], "--gpu", "h100", "--json")
    assert (code, [one["recipe"] for one in json.loads(out)]) == (0, files[1:2])
    assert "is passed over" in err
    code, out, err = quick(capsys, monkeypatch, "recipe", "check", files[0], "recipes/cifar10/dpm-unified.toml")
    assert (code, len(out.splitlines())) == (2, 1)
    assert "decoders  is missing" in err


def test_check_as_json(capsys, monkeypatch, tmp_path):
    """One object for each recipe, good or not, with its problems."""
    (tmp_path / "bad.toml").write_text('data = "digits"\nencoder = "ddpmp"\n')
    files = ["recipes/digits/unified.toml", tmp_path / "bad.toml"]
    code, out, _ = quick(capsys, monkeypatch, "recipe", "check", *files, "--json")
    good, bad = json.loads(out)
    assert code == 2
    assert (good["good"], good["decoders"], good["stages"], good["problems"]) == (True, 1, "edges by one stage", [])
    assert (bad["good"], [problem["path"] for problem in bad["problems"]]) == (False, ["encoder.name", "decoders"])
    assert bad["problems"][0]["source"] == str(tmp_path / "bad.toml")


def test_tables_are_shown_as_parts_are(capsys, monkeypatch):
    """`msdk show training` has every key of [training]."""
    code, out, _ = quick(capsys, monkeypatch, "show", "training", "--json")
    fields = {field["name"]: field for field in json.loads(out)["fields"]}
    assert code == 0
    assert (fields["lr"]["default"], fields["precision"]["default"]) == (2e-4, "fp32")
    code, out, _ = quick(capsys, monkeypatch, "show", "stages")
    assert code == 0
    assert all(key in out for key in ("edges_ratio", "from", "clustering"))


def test_train_as_json(recipe, capsys, monkeypatch, tmp_path):
    """One document that says what was trained, and where."""
    words = ("train", recipe, "--out", tmp_path / "run", "--device", "cpu", "--json", "--set", "training.iterations=2")
    code, out, _ = quick(capsys, monkeypatch, *words)
    told = json.loads(out)
    assert code == 0
    assert (told["folder"], told["iterations"], told["interrupted"]) == (str(tmp_path / "run"), 2, False)
    assert sum(told["images_by_stage"]) == 16
    assert len(told["loss_by_stage"]) == 3
