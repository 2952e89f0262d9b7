"""Promises of `msdk budget`: tables, files, gates and the ledger of a run."""

import csv
import inspect
import json
import subprocess
import sys
from collections import Counter

import attrs
import pytest
from commands import command, quick
from torch import nn
from torch.nn import functional as F  # noqa: N812

import msdk
from msdk.budgeting.assembling import budget as count
from msdk.budgeting.questions import Question
from msdk.budgeting.rules import RULES
from msdk.cli.budgets import solve
from recipes import tiny


def written(path, *overrides):
    path.write_text(msdk.recipe.to_toml(tiny(*overrides)))
    return path


@pytest.fixture
def recipe(tmp_path):
    return written(tmp_path / "tiny.toml")


def test_a_repeat_imports_no_torch(recipe, tmp_path):
    """What was counted before is read from the cache: same figures and a page, without torch."""
    first, _ = command("budget", recipe, "--json")
    program = (
        "import sys\nfrom msdk.cli import main\n"
        f"sys.argv = ['msdk', 'budget', {str(recipe)!r}, '--json', '--out', {str(tmp_path / 'a.html')!r}]\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "False"
    assert json.loads(done.stdout) == json.loads(first)
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")


def test_no_cache_counts_anew(recipe, capsys, monkeypatch, tmp_path):
    """--no-cache neither reads nor writes counts."""
    monkeypatch.setenv("MSDK_CACHE", str(tmp_path / "counts"))
    code, out, _ = quick(capsys, monkeypatch, "budget", recipe, "--json", "--no-cache")
    assert code == 0
    assert not (tmp_path / "counts").exists()
    assert json.loads(out) == json.loads(quick(capsys, monkeypatch, "budget", recipe, "--json")[1])
    assert list((tmp_path / "counts").rglob("*.json"))


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("stage", ["of calls", "of training", "trained parameters", "MACs, enc + dec"]),
        ("part", ["encoder, of all stages", "decoder of stage 2", "copy of averages (EMA)", "state of the optimiser"]),
        ("operator", ["conv", "linear", "attention", "100.0 %"]),
    ],
)
def test_rows_are_stages_parts_or_operators(recipe, capsys, monkeypatch, by, words):
    """--by chooses what the rows of a recipe's table are."""
    code, out, _ = quick(capsys, monkeypatch, "budget", recipe, "--by", by)
    assert code == 0
    assert all(word in out for word in words), out


def test_recipes_are_sorted_and_ratios_stay(tmp_path, capsys, monkeypatch):
    """--sort orders the common table, smallest first; ratios are still to the first that was named."""
    wide = written(tmp_path / "wide.toml", "encoder.channels=16")
    narrow = written(tmp_path / "narrow.toml")
    for sort in ("params", "call", "train", "paper", "flops"):
        _, out, _ = quick(capsys, monkeypatch, "budget", wide, narrow, "--sort", sort)
        table = out.partition("exact:")[0]
        assert table.index("narrow") < table.index("wide")
        assert "(100%)" in table[table.index("wide") :]
        assert "(100%)" not in table[table.index("narrow") : table.index("wide")]
    _, out, _ = quick(capsys, monkeypatch, "budget", wide, narrow)
    assert out.index("wide") < out.index("narrow")


def test_the_check_names_what_exceeds_and_by_how_much(tmp_path, capsys, monkeypatch):
    """--check exits 1 with a sentence for each limit that is exceeded, 0 where all are kept; memory is simulated."""
    params = msdk.budget(tiny()).params
    over = written(tmp_path / "over.toml", f"budget.params={params // 2}", "budget.macs=1k", "budget.memory=1MiB")
    code, _, err = quick(capsys, monkeypatch, "budget", over, "--check")
    assert code == 1
    assert err.count("exceeds its") == 3
    assert f"exceeds its params: {params:,} parameters are {params - params // 2:,} parameters (100 %) above" in err
    code, out, err = quick(capsys, monkeypatch, "budget", over)
    assert code == 0
    assert "EXCEEDED" in out
    assert "memory needs --memory" in out
    kept = written(tmp_path / "kept.toml", "budget.params=1G", "budget.flops=1E", "budget.memory=100GiB")
    code, out, err = quick(capsys, monkeypatch, "budget", kept, "--check", "--json")
    assert code == 0, err
    limits = {limit["key"]: limit for limit in json.loads(out)[0]["limits"]}
    assert all(0 < limit["found"] < limit["limit"] and not limit["exceeded"] for limit in limits.values())
    assert set(limits) == {"params", "flops", "memory"}
    plain = written(tmp_path / "plain.toml")
    code, _, err = quick(capsys, monkeypatch, "budget", plain, "--check")
    assert code == 0
    assert "nothing to check" in err


class Odd(nn.Module):
    """An encoder around another, with an operator that nobody has a rule for."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, c_noise, label=None, augment=None):
        found = self.inner(x, c_noise, label)
        flat = found.bottom.flatten(2)
        return found._replace(bottom=found.bottom + F.pdist(flat[0]).mean())


@pytest.mark.parametrize("gate", ["--strict", "--check"])
def test_gates_refuse_what_is_in_doubt(recipe, capsys, monkeypatch, gate):
    """An operator without a rule is a visible row, and exit 1 of every gate; without doubt it exits 0."""
    assert quick(capsys, monkeypatch, "budget", recipe, gate)[0] == 0
    encoder = type(tiny().encoder)
    build = encoder.build
    monkeypatch.setattr(encoder, "build", lambda self, shape: Odd(build(self, shape)))
    code, out, err = quick(capsys, monkeypatch, "budget", recipe, gate, "--no-cache")
    assert code == 1
    assert "NOT COUNTED: aten::pdist x1" in out
    assert "aten::pdist has no counting rule and ran 1 time, so its MACs are missing" in err
    code, out, _ = quick(capsys, monkeypatch, "budget", recipe, "--by", "operator", "--no-cache")
    assert code == 0
    assert "aten::pdist, 1 times" in out


def test_the_check_refuses_counters_that_differ(recipe, capsys, monkeypatch):
    """--check exits 1 where the second counter finds other MACs, though no limit is exceeded."""
    monkeypatch.setitem(RULES, "aten::linear", lambda inputs, outputs: Counter(linear=1))
    code, _, err = quick(capsys, monkeypatch, "budget", recipe, "--check", "--no-cache", "--set", "budget.macs=1G")
    assert code == 1
    assert "torch's counter" in err
    assert "exceeds" not in err


def test_files_are_written_whole_and_never_replaced(recipe, tmp_path, capsys, monkeypatch):
    """Every kind of file by its suffix; what exists stays without --force; a wrong suffix is told before counting."""
    names = ["a.html", "deep/a.csv", "a.md", "a.json", "a.svg"]
    files = [word for name in names for word in ("--out", tmp_path / name)]
    code, out, err = quick(capsys, monkeypatch, "budget", recipe, recipe, *files)
    assert code == 0, err
    assert all(f"wrote {tmp_path / name}" in out for name in names)
    rows = list(csv.DictReader((tmp_path / "deep" / "a.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert len(json.loads((tmp_path / "a.json").read_text())) == 2
    before = (tmp_path / "a.csv", (tmp_path / "a.md").read_bytes())
    code, _, err = quick(capsys, monkeypatch, "budget", recipe, "--out", tmp_path / "a.md")
    assert code == 2
    assert "exists: replace it with --force" in err
    assert (tmp_path / "a.md").read_bytes() == before[1]
    assert quick(capsys, monkeypatch, "budget", recipe, "--out", tmp_path / "a.md", "--force")[0] == 0
    assert (tmp_path / "a.md").read_bytes() != before[1]
    monkeypatch.setattr("msdk.budgeting.assembling.budget", pytest.fail)
    code, _, err = quick(capsys, monkeypatch, "budget", recipe, "--out", tmp_path / "a.htm")
    assert code == 2
    assert "'.htm' files. Did you mean '.html'?" in err


def test_a_run_folder_shows_its_ledger(tmp_path, capsys, monkeypatch):
    """What a run has spent by stage stands beside what its recipe predicts for the same iteration."""
    run = tmp_path / "run"
    msdk.train(tiny(), run)
    code, out, _ = quick(capsys, monkeypatch, "budget", run)
    assert code == 0
    assert "ledger" in out
    assert "After 4 iterations:" in out
    _, out, _ = quick(capsys, monkeypatch, "budget", run, "--json")
    spent = json.loads(out)[0]["ledger"]
    assert spent == json.loads((run / "ledger.json").read_text())
    assert sum(spent["images_by_stage"]) == 4 * 8
    (run / "ledger.json").write_text("{")
    code, _, err = quick(capsys, monkeypatch, "budget", run)
    assert code == 2
    assert "ledger.json is not a ledger" in err
    code, _, err = quick(capsys, monkeypatch, "budget", tmp_path)
    assert code == 2
    assert "a folder without a recipe.toml" in err


def test_a_saved_budget_is_shown_again(recipe, tmp_path, capsys, monkeypatch):
    """The same table, the same document, a list or one alone, beside recipes, and its limits are checked."""
    limit = ("--set", "budget.params=1")
    code, document, _ = quick(capsys, monkeypatch, "budget", recipe, recipe, "--memory", "--json", *limit)
    assert code == 0
    saved, one = tmp_path / "saved.json", tmp_path / "one.json"
    saved.write_text(document)
    one.write_text(json.dumps(json.loads(document)[0]))
    assert quick(capsys, monkeypatch, "budget", saved, "--json")[1] == document
    table = quick(capsys, monkeypatch, "budget", recipe, recipe, "--memory", *limit)[1]
    assert quick(capsys, monkeypatch, "budget", saved)[1] == table
    assert json.loads(quick(capsys, monkeypatch, "budget", one, "--json")[1]) == json.loads(document)[:1]
    code, out, _ = quick(capsys, monkeypatch, "budget", recipe, one, "--json", "--out", tmp_path / "a.html")
    assert code == 0
    assert [found["limits"] != [] for found in json.loads(out)] == [False, True]
    code, _, err = quick(capsys, monkeypatch, "budget", one, "--check")
    assert code == 1
    assert "exceeds its params" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not a saved budget, as `msdk budget --json` prints it: it is no JSON"),
        ('{"title": "an object"}', "recipe is missing"),
        ('{"name": "an object"}', "has an unknown key 'name'. Known: recipe, title,"),
        ("[]", "has no budget"),
        ("3", "expected an object, got 3"),
    ],
)
def test_other_json_exits_2(tmp_path, capsys, monkeypatch, text, words):
    """A damaged or foreign file is told in words."""
    path = tmp_path / "a.json"
    path.write_text(text)
    code, out, err = quick(capsys, monkeypatch, "budget", path)
    assert (code, out) == (2, "")
    assert str(path) in err
    assert words in err


def test_a_saved_budget_is_not_counted_again(recipe, tmp_path, capsys, monkeypatch):
    """What needs the recipe says so, and names it."""
    path = tmp_path / "a.json"
    path.write_text(quick(capsys, monkeypatch, "budget", recipe, "--json")[1])
    code, _, err = quick(capsys, monkeypatch, "budget", path, "--memory", "--convention", "paper")
    assert code == 2
    assert "add --convention, --memory to its recipe" in err
    code, _, err = quick(capsys, monkeypatch, "budget", "solve", path, "--target", "1M")
    assert code == 2
    assert "a.json is a saved budget, which has no widths to change: solve for the recipe that it is of" in err
    code, _, err = quick(capsys, monkeypatch, "budget", tmp_path / "nowhere.json")
    assert code == 2
    assert "nowhere.json cannot be read: No such file" in err


def test_memory_and_speed_on_request(recipe, tmp_path, capsys, monkeypatch):
    """--memory and --measure add their tables and keys, for a batch and a dtype that may be given."""
    code, out, err = quick(
        capsys, monkeypatch, "budget", recipe, "--memory", "--batch", "16", "--dtype", "bf16", "--json"
    )
    assert code == 0, err
    (found,) = json.loads(out)
    assert (found["memory"]["batch"], found["memory"]["dtype"]) == (16, "bf16")
    assert found["timing"] is None
    code, out, _ = quick(capsys, monkeypatch, "budget", recipe, "--memory")
    assert "Peak of training" in out
    assert "activations of an image" in out


def test_a_card_that_is_not_at_hand(recipe, tmp_path, capsys, monkeypatch):
    """--gpu adds hours and money to table, JSON and limits, also of a budget that was saved; `cards` lists them."""
    limits = ("--set", "budget.hours=1", "--set", "budget.cost=1e-12")
    card = ("--gpu", "H100 SXM", "--utilisation", "0.4", "--price", "2")
    code, out, _ = quick(capsys, monkeypatch, "budget", recipe, "--json", *limits)
    assert code == 0
    assert "estimate" not in json.loads(out)[0]
    saved = tmp_path / "saved.json"
    saved.write_text(out)
    for what in (recipe, *limits), (saved,):
        code, out, err = quick(capsys, monkeypatch, "budget", *what, "--check", "--json", *card)
        assert code == 1
        assert "exceeds its cost" in err
        assert "hours" not in err
        (found,) = json.loads(out)
        plan = found["estimate"]
        assert (plan["gpu"], plan["rate"], plan["utilisation"]) == ("h100-sxm", "tf32", 0.4)
        assert plan["cost"] == pytest.approx(2 * found["training"]["total_flops"] / (0.4 * 494.7e12 * 3600))
    code, out, _ = quick(capsys, monkeypatch, "budget", recipe, *card, "--dtype", "bf16")
    assert code == 0
    assert "989.4 TFLOP/s dense in bf16, of which 40.0 % are assumed" in " ".join(out.split())
    code, _, err = quick(capsys, monkeypatch, "budget", recipe, "--check", *limits)
    assert code == 1
    assert "its hours was not looked at: --gpu or --measure says it" in err
    code, out, _ = quick(capsys, monkeypatch, "budget", "cards", "--json")
    assert code == 0
    assert {one["name"] for one in json.loads(out)} >= {"h100-sxm", "t4", "mi300x"}
    assert "white paper" in quick(capsys, monkeypatch, "budget", "cards")[1]


def test_many_cards_that_are_not_at_hand(recipe, tmp_path, capsys, monkeypatch):
    """--gpus adds a step on many cards to table, JSON, limits and files, which a saved budget shows again."""
    files = [tmp_path / f"plan{suffix}" for suffix in (".html", ".md", ".json")]
    many = ("--gpu", "h100", "--nodes", "2", "--gpus", "4", "--bandwidth", "25GB", "--price", "2")
    limits = ("--set", "budget.hours=1", "--set", "budget.cost=1e-12")
    out_to = [word for file in files for word in ("--out", file)]
    code, out, err = quick(capsys, monkeypatch, "budget", recipe, *many, *limits, "--check", *out_to)
    assert code == 1
    assert "exceeds its cost" in err
    assert "a step on 2 machines with 4 h100-sxm" in out
    words = " ".join(out.split())
    assert "what process 0 of 8 sends in the real step" in words
    assert "200.0 Gbit/s one way between machines" in words
    assert all("2 machines with 4 h100-sxm" in file.read_text() for file in files[:2])
    (found,) = json.loads(files[2].read_text())
    plan, step = found["plan"], found["plan"]["step"]
    assert (step["nodes"], step["gpus"], step["processes"], plan["parallel"]) == (2, 4, 8, "ddp")
    assert (plan["bandwidth"], plan["link"], plan["wire"]) == (25e9, 450e9, "NVLink")
    assert found["limits"][1]["found"] == step["cost"] == pytest.approx(8 * 2 * step["hours"])
    code, out, _ = quick(capsys, monkeypatch, "budget", files[2], "--json")
    assert (code, json.loads(out)) == (0, [found])
    code, _, err = quick(capsys, monkeypatch, "budget", files[2], "--gpu", "h100", "--gpus", "8")
    assert code == 2
    assert "add --gpus to its recipe" in err


@pytest.mark.slow
def test_speed_is_measured(recipe, capsys, monkeypatch):
    """--measure adds rates and utilisation of this device, and the hours of training."""
    code, out, err = quick(capsys, monkeypatch, "budget", recipe, "--measure", "--device", "cpu", "--batch", "4")
    assert code == 0, err
    assert "of peak" in out
    assert "The whole training would take" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "cpu"], "add --measure"),
        (["--batch", "4"], "add one of them"),
        (["--dtype", "bf16"], "--dtype is of --memory, --measure and --gpu: add one of them"),
        (["--price", "2"], "--utilisation and --price are of a card: name it by --gpu"),
        (["--gpu", "h1000"], "no card named 'h1000'. Did you mean"),
        (["--gpu", "t4", "--dtype", "bf16"], "does not compute in bf16"),
        (["--gpu", "t4", "--utilisation", "35"], "a utilisation of 35 is none"),
        (["--gpus", "8"], "--gpus: many cards of which kind? Name it by --gpu"),
        (["--gpu", "h100", "--nodes", "2"], "--nodes: how many cards has a machine? Say it by --gpus"),
        (["--gpu", "h100", "--gpus", "0"], "--gpus 0: must be at least 1"),
        (["--gpu", "h100", "--gpus", "8", "--nodes", "256"], "are 2,048 processes: plans are made for at most 1,024"),
        (["--gpu", "h100", "--gpus", "8", "--bandwidth", "fast"], "'fast' is no amount: write a number"),
        (["--gpu", "h100", "--gpus", "8", "--bandwidth", "0"], "a bandwidth of 0 is none"),
        (["--gpu", "h100", "--gpus", "7"], "cannot be cut evenly into 7 processes"),
        (["--set", "budget.hours=3 days"], "'3 days' is no amount: write a number, and perhaps h: 100 h"),
        (["--memory", "--batch", "0"], "--batch 0: must be at least 1"),
        (["--measure", "--device", "quantum"], "there is no device 'quantum' here. Known: cpu"),
        (["--set", "budget.params=250X"], "'250X' is no amount"),
        (["--set", "budget.macs=250GB"], "is an amount of B, but MACs are meant here"),
        (["--set", "budget.macs=40GFLOPs"], "1 MAC is 2 FLOPs, so write half the number"),
        (["--set", "budget.macs=-1"], "'-1.0' is no amount"),
        (["--by", "layer"], "--by"),
        (["--sort", "name"], "--sort"),
        (["--convention", "papr"], "Did you mean 'paper'?"),
    ],
)
def test_wrong_options_exit_2(recipe, capsys, monkeypatch, options, words):
    """What does not fit is told with the fix."""
    code, out, err = quick(capsys, monkeypatch, "budget", recipe, *options)
    assert code == 2
    assert words in err
    assert not out


def test_one_image_is_a_batch(recipe, capsys, monkeypatch):
    """The least that --batch takes."""
    assert quick(capsys, monkeypatch, "budget", recipe, "--check", "--batch", "1")[0] == 0


def test_limits_follow_what_is_asked_for(recipe):
    """A budget's limits are checked against what it has by now."""
    found = count(tiny("budget.memory=1MiB", "budget.params=1"))
    before = {limit.key: limit.exceeded for limit in found.limits}
    assert before == {"params": True, "memory": False}

    class Held:
        peak = 2**21

    after = {limit.key: limit.exceeded for limit in attrs.evolve(found, memory=Held()).limits}
    assert after == {"params": True, "memory": True}


def test_a_limit_that_was_not_looked_at_fails_the_check(recipe, tmp_path, capsys, monkeypatch):
    """A saved budget without its memory cannot say that a limit of memory is kept; one without stages is none."""
    _, out, _ = quick(capsys, monkeypatch, "budget", recipe, "--json", "--set", "budget.memory=1KiB")
    saved = tmp_path / "saved.json"
    saved.write_text(out)
    code, _, err = quick(capsys, monkeypatch, "budget", saved, "--check")
    assert code == 1
    assert "its memory was not looked at" in err
    (data,) = json.loads(out)
    saved.write_text(json.dumps([{**data, "stages": []}]))
    assert quick(capsys, monkeypatch, "budget", saved)[0] == 2


def test_the_commands_defaults_are_pythons():
    """`msdk budget solve` asks what `Question` asks where nobody says otherwise."""
    defaults = {field.name: field.default for field in attrs.fields(Question)}
    options = {name: given.default for name, given in inspect.signature(solve).parameters.items()}
    for name in ("what", "vary", "smallest", "largest", "at_most", "count", "step"):
        assert options[name] == defaults[name], name
    assert options["tolerance"] / 100 == defaults["tolerance"]
