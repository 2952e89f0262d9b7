"""Promises of msdk.train: exact resume, honest files, safe interruption, nothing lost."""

import json
import math
import os
import signal
import subprocess
import sys

import attrs
import pytest
import torch
from safetensors.torch import load_file

import msdk
from msdk.averages.half_life import HalfLife
from msdk.averages.ramped import Ramped
from msdk.denoiser.building import build
from msdk.errors import RunError
from msdk.runs import checkpoints, latest, load_checkpoint
from msdk.training import step
from msdk.training.ema import EMA
from recipes import tiny


def longer(recipe, iterations):
    return attrs.evolve(recipe, training=attrs.evolve(recipe.training, iterations=iterations))


@pytest.mark.parametrize("settings", [(), ("encoder.dropout=0.3", "training.flip=true", "training.mixed=false")])
def test_resume_is_exact(tmp_path, settings):
    """Training 2N steps equals training N, stopping, and resuming for N more: every tensor, bit for bit."""
    recipe = tiny(*settings)
    msdk.train(longer(recipe, 8), tmp_path / "whole")
    msdk.train(longer(recipe, 4), tmp_path / "halves")
    msdk.train(longer(recipe, 8), tmp_path / "halves", resume=True)
    whole, halves = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    assert whole.iteration == halves.iteration == 8
    assert whole.images_by_stage == halves.images_by_stage
    for part in ("model", "ema", "optimizer"):
        ours, theirs = getattr(whole, part), getattr(halves, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part


def test_files_of_a_run(tmp_path):
    """Metrics, ledger, lock and the resolved recipe are there, consistent, and count the images really seen."""
    result = msdk.train(tiny("training.log_every=2"), tmp_path / "run")
    run = result.run_dir
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4]
    assert all(math.isfinite(line["loss"]) for line in lines)
    ledger = json.loads((run / "ledger.json").read_text())
    assert ledger["images"] == sum(ledger["images_by_stage"]) == 4 * 8
    spent = [n * macs for n, macs in zip(ledger["images_by_stage"], ledger["macs_per_image_by_stage"], strict=True)]
    assert ledger["forward_macs_by_stage"] == spent
    assert ledger["total_flops"] == 6 * sum(spent)
    lock = json.loads((run / "lock.json").read_text())
    assert {"msdk", "torch", "python", "plugins", "data", "git_commit", "command"} <= set(lock)
    assert msdk.load_recipe(run / "recipe.toml").partition() == tiny().partition()
    assert not list(run.rglob("*.tmp"))


def test_lines_after_the_checkpoint_are_forgotten(tmp_path):
    """A run killed after its last checkpoint repeats those steps; metrics.jsonl then tells them once."""
    recipe = tiny("training.log_every=1")
    msdk.train(longer(recipe, 3), tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"iteration": 4, "loss": 1.0}\n{"iteration": 5, "lo')
    msdk.train(longer(recipe, 5), tmp_path / "run", resume=True)
    assert [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()] == [1, 2, 3, 4, 5]


def test_old_checkpoints_go(tmp_path):
    """Only the newest `keep` stay, and the last step always makes one."""
    msdk.train(tiny("training.iterations=7", "training.checkpoint_every=2", "training.keep=2"), tmp_path / "run")
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["00000006", "00000007"]


def test_an_existing_folder_is_refused(tmp_path):
    """A folder that exists is neither continued nor replaced unasked, and --force replaces run folders alone."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="exists: continue it with --resume"):
        msdk.train(tiny(), tmp_path / "mine")
    with pytest.raises(RunError, match="is not a run folder"):
        msdk.train(tiny(), tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_another_recipe_is_refused(tmp_path):
    """Resuming with other parts names what differs; sampling options may differ."""
    msdk.train(tiny(), tmp_path / "run")
    with pytest.raises(RunError, match="trained by another recipe, with other encoder"):
        msdk.train(tiny("encoder.channels=12"), tmp_path / "run", resume=True)
    msdk.train(tiny("sampling.steps=3", "training.iterations=5"), tmp_path / "run", resume=True)


def test_a_checkpoint_of_another_recipe_is_told(tmp_path):
    """Weights that do not fit the recipe beside them are named, not half loaded."""
    msdk.train(tiny(), tmp_path / "a")
    msdk.train(tiny("encoder.channels=12"), tmp_path / "b")
    (tmp_path / "a" / "recipe.toml").write_text((tmp_path / "b" / "recipe.toml").read_text())
    with pytest.raises(RunError, match=r"belongs to another recipe: .* is \(.*\) instead of"):
        msdk.load_run(tmp_path / "a")


def test_damage_is_told(tmp_path):
    """A truncated weight file and a folder without checkpoints say what is wrong; nothing is unpickled."""
    msdk.train(tiny(), tmp_path / "run")
    weights = latest(tmp_path / "run") / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RunError, match=r"ema.safetensors is damaged"):
        msdk.load_run(tmp_path / "run")
    with pytest.raises(RunError, match="is not a run folder"):
        msdk.load_run(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are POSIX")
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    """When a checkpoint cannot be written, the message says so, exit code 2, and the one before is whole."""
    run = tmp_path / "run"
    msdk.train(tiny(), run)
    before = {path.name: path.read_bytes() for path in latest(run).iterdir()}
    size = len(before["model.safetensors"])
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2})); "
        f"sys.argv = ['msdk', 'train', {str(run / 'recipe.toml')!r}, '--out', {str(run)!r}, '--resume', "
        "'--set', 'training.iterations=6']; from msdk.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "cannot be written: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in latest(run).iterdir()} == before
    assert not list(run.rglob("*.tmp"))
    assert msdk.load_run(run)


def test_ctrl_c_saves(tmp_path):
    """The first SIGINT finishes the step in hand, saves, and exits 130; the run resumes from there."""
    recipe = tmp_path / "r.toml"
    recipe.write_text(msdk.recipe.to_toml(longer(tiny(), 100_000)))
    command = [sys.executable, "-m", "msdk", "train", str(recipe), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, "--set", "training.log_every=1"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not metrics.exists():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted: saved at iteration" in errors
    stopped = load_checkpoint(latest(tmp_path / "run")).iteration
    result = msdk.train(longer(tiny(), stopped + 1), tmp_path / "run", resume=True)
    assert result.last.iteration == stopped + 1


def test_a_diverged_loss_stops_training(tmp_path):
    """A loss that is not finite ends the run with a message; the checkpoint before it stays."""
    recipe = tiny("training.lr=1e30", "training.clip_norm=0", "training.log_every=1", "training.iterations=50")
    with pytest.raises(RunError, match=r"the loss is .* lower training.lr"):
        msdk.train(recipe, tmp_path / "run")


def test_bf16_trains(tmp_path):
    """Autocast changes the arithmetic of the networks, not the dtype of the weights."""
    result = msdk.train(tiny("training.precision=bf16"), tmp_path / "run")
    assert math.isfinite(result.last.loss)
    assert all(
        value.dtype == torch.float32 for value in load_file(latest(result.run_dir) / "model.safetensors").values()
    )


def test_an_idle_decoder_does_not_move(tmp_path):
    """A stage that is never drawn keeps its initial weights: its gradient is None, so Adam skips it."""
    recipe = tiny('training.noise={name="edm", mean=-6.0, std=0.1}')
    initial = build(recipe.with_partition(recipe.partition())).network.decoders[2].state_dict()
    msdk.train(recipe, tmp_path / "run")
    trained = msdk.load_run(tmp_path / "run", weights="raw").network.decoders[2].state_dict()
    assert all(torch.equal(trained[key], initial[key]) for key in initial)


def test_averages_ramp_up():
    """The average after n updates uses min(decay, (1 + n) / (10 + n)); buffers are taken as they are."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    ema = EMA(layer, Ramped(value=0.9), 1)
    torch.nn.init.ones_(layer.weight)
    ema.update(1)
    assert ema.state_dict()["weight"].item() == pytest.approx(1 - 2 / 11)
    for _ in range(3):
        ema.update(10_000)
    assert ema.state_dict()["weight"].item() == pytest.approx(1 - 2 / 11 * 0.9**3)


def test_half_lives_ramp_up():
    """EDM's decay: after h images a weight counts half, with h at most a share of the images seen before."""

    def decay(update, ramp=0.05):
        return HalfLife(images=1000, ramp=ramp).decay(update, 100)

    assert decay(1) == 0  # nothing has been seen: the first weights are forgotten at once
    assert decay(11) == pytest.approx(0.5 ** (100 / 50))
    assert decay(10_000) ** 10 == pytest.approx(0.5)
    assert decay(1, ramp=0) ** 10 == pytest.approx(0.5)


def test_weight_decay_is_decoupled(tmp_path):
    """Weights shrink by lr x decay besides Adam's own step; those of an idle decoder do not move."""
    base = ('training.noise={name="edm", mean=-6.0, std=0.1}', "training.iterations=1", "training.warmup=0")
    recipe = tiny(*base)
    initial = build(recipe).network.state_dict()
    msdk.train(recipe, tmp_path / "plain", device="cpu")
    msdk.train(tiny(*base, "training.weight_decay=0.5"), tmp_path / "decayed", device="cpu")
    plain, decayed = (load_checkpoint(latest(tmp_path / name)).model for name in ("plain", "decayed"))
    shrunk = 1 - recipe.training.lr * 0.5
    for key, start in initial.items():
        idle = key.startswith(("decoders.1.", "decoders.2."))
        expected = start if idle else plain[key] + (shrunk - 1) * start
        torch.testing.assert_close(decayed[key], expected, rtol=1e-5, atol=1e-6)


def test_without_decay_the_optimiser_is_adam(tmp_path, monkeypatch):
    """Weight decay 0 gives the numbers of torch's Adam, bit for bit."""
    msdk.train(tiny(), tmp_path / "ours", device="cpu")

    def adam(parameters, *, weight_decay, **options):
        return torch.optim.Adam(parameters, **options)

    monkeypatch.setattr(torch.optim, "AdamW", adam)
    msdk.train(tiny(), tmp_path / "adam", device="cpu")
    ours, theirs = (load_checkpoint(latest(tmp_path / name)).model for name in ("ours", "adam"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_gradients_are_sanitized(tmp_path, monkeypatch):
    """NaN becomes 0 and infinities a large number before clipping, so weights survive a gradient that is neither."""
    spoiled, real = {"nan": math.nan, "inf": math.inf}, step.image_losses

    def train(name, value, *settings):
        seen = []

        def broken(objective, recipe, denoiser, *rest):
            def spoil(grad):
                grad = grad.clone()
                grad.view(-1)[0] = value
                return grad

            weight = denoiser.network.encoder(0).stem.weight
            if not seen:
                weight.register_hook(spoil)
                seen.append(weight)
            return real(objective, recipe, denoiser, *rest)

        monkeypatch.setattr(step, "image_losses", broken)
        msdk.train(tiny("training.clip_norm=0", *settings), tmp_path / name, device="cpu")
        weight = load_checkpoint(latest(tmp_path / name)).model["encoders.0.stem.weight"]
        return bool(weight.isfinite().all())

    for name, value in spoiled.items():
        assert train(f"{name}-sanitized", value, "training.sanitize=true", "training.iterations=2")
    with pytest.raises(RunError, match="the loss is nan"):
        train("nan-raw", math.nan, "training.iterations=2")


def test_infinite_gradients_are_bounded_as_edm_bounds_those_of_its_sum():
    """EDM sums the loss over an image's numbers, which is a mean here: 1e5 there is 1e5 over their number here."""
    recipe = tiny("training.sanitize=true", "training.clip_norm=0", 'training.optimizer={name="sgd", momentum=0}')
    trained = step.TrainingStep(recipe, build(recipe, "cpu"))
    weight = trained.denoiser.network.encoder(0).stem.weight
    weight.grad = torch.tensor([math.inf, -math.inf, math.nan, 2.0]).repeat(weight.numel() // 4).view_as(weight)
    before = weight.detach().clone()
    trained.update(iteration=100)
    moved = ((before - weight.detach()) / recipe.training.lr).flatten()[:4]
    torch.testing.assert_close(moved, torch.tensor([1e5 / 64, -1e5 / 64, 0.0, 2.0]), rtol=1e-4, atol=1e-4)


def test_edges_are_compared_as_ratios(tmp_path):
    """A recipe that gives its edges as times resumes the run that wrote them down as ratios."""
    recipe = attrs.evolve(tiny(), stages=msdk.recipe.Stages(edges_t=(0.1, 0.4)))
    msdk.train(recipe, tmp_path / "run")
    assert msdk.train(longer(recipe, 5), tmp_path / "run", resume=True).last.iteration == 5
    note = json.loads((tmp_path / "run/lock.json").read_text())["resumed"][-1]
    assert note["recipe"].keys() == {"training.iterations"}


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    """A run folder below a file cannot be made, and the message says so."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"run cannot be written: Not a directory"):
        msdk.train(tiny(), tmp_path / "file" / "run")


def test_a_run_without_its_plugins_says_which_to_install(tmp_path, monkeypatch):
    """lock.json names the distributions; where a recipe cannot be read without them, the error says what to do."""
    msdk.train(tiny("training.iterations=1"), tmp_path / "run")
    lock = json.loads((tmp_path / "run/lock.json").read_text())
    assert lock["plugins"] == {}
    lock["plugins"] = {"my-lab": "1.2", "attrs": "0.1"}
    (tmp_path / "run/lock.json").write_text(json.dumps(lock))
    assert msdk.runs.run_recipe(tmp_path / "run").sampler == tiny().sampler  # nothing is missing that is needed
    recipe = (tmp_path / "run/recipe.toml").read_text().replace('"dpmpp-2m"', '"my-euler"')
    (tmp_path / "run/recipe.toml").write_text(recipe)
    with pytest.raises(RunError) as caught:
        msdk.runs.run_recipe(tmp_path / "run")
    assert "my-lab 1.2, which is not installed: pip install my-lab==1.2" in str(caught.value)
    assert f"attrs 0.1, but {attrs.__version__} is installed: pip install attrs==0.1" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        ('training.optimizer={name="sgd", momentum=0.5}', "training.lr=1e-3"),
        ('training.optimizer={name="adamw", betas=[0.8, 0.9], weight_decay=0.1}',),
        ('training.lr_schedule={name="cosine", last=0.1}',),
    ],
    ids=["sgd", "adamw", "cosine"],
)
def test_other_optimizers_and_rates_resume_exactly(tmp_path, settings):
    """Training 2N steps equals training N, stopping and resuming, whatever keeps state and whatever sets the rate."""
    recipe = longer(tiny(*settings), 8)
    msdk.train(recipe, tmp_path / "whole")
    halves = tmp_path / "halves"

    def stop(step):
        if step.iteration == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    assert msdk.train(recipe, halves, progress=stop).interrupted == signal.SIGTERM
    assert 4 <= int(latest(halves).name) < 8
    msdk.train(recipe, halves, resume=True)
    ours, theirs = (load_checkpoint(latest(tmp_path / name)) for name in ("whole", "halves"))
    for part in ("model", "ema", "optimizer"):
        for key, value in getattr(ours, part).items():
            assert torch.equal(value, getattr(theirs, part)[key]), key
    assert ours.optimizer_numbers == theirs.optimizer_numbers


def test_the_learning_rate_follows_its_schedule(tmp_path):
    """The rate that is logged is lr, warmup and the schedule's factor, multiplied; the first step has 0."""
    recipe = tiny('training.lr_schedule={name="cosine"}', "training.log_every=1", "training.iterations=6")
    msdk.train(recipe, tmp_path / "run")
    logged = [json.loads(line)["lr"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    options = recipe.training
    expected = [
        options.lr * min(step / options.warmup, 1) * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)
    ]
    assert expected[0] == 0
    assert logged == pytest.approx(expected, rel=1e-12)


def test_an_optimizer_brings_its_own_settings():
    """Adam's settings beside another optimiser would be silently ignored, so they are refused."""
    with pytest.raises(msdk.RecipeError, match=r"training\.optimizer\s+has settings of its own: leave out"):
        tiny('training.optimizer={name="sgd"}', "training.weight_decay=0.1")


def test_the_budget_counts_what_the_optimizer_keeps():
    """Two numbers for each weight of Adam, one of momentum, none of plain descent."""
    for rule, moments in (('{name="adamw"}', 2), ('{name="sgd"}', 1), ('{name="sgd", momentum=0.0}', 0)):
        budget = msdk.budget(tiny(f"training.optimizer={rule}"))
        assert budget.optimizer_params == moments * budget.trained_params


def without_averages(iterations):
    return tiny("training.ema_decay=0", f"training.iterations={iterations}")


def test_without_a_decay_there_is_no_average(tmp_path):
    """`ema_decay = 0` keeps and saves none; who asks for the average gets the last weights; the run resumes exactly."""
    msdk.train(without_averages(4), tmp_path / "whole")
    msdk.train(without_averages(2), tmp_path / "halves")
    msdk.train(without_averages(4), tmp_path / "halves", resume=True)
    found = latest(tmp_path / "whole")
    assert {path.name for path in found.iterdir()} == {"model.safetensors", "optimizer.safetensors", "state.json"}
    whole, halves = load_checkpoint(found), load_checkpoint(latest(tmp_path / "halves"))
    assert whole.ema == {}
    assert all(torch.equal(value, halves.model[key]) for key, value in whole.model.items())
    averaged = msdk.load_run(tmp_path / "whole", weights="ema").network.state_dict()
    assert all(torch.equal(value, averaged[key]) for key, value in whole.model.items())


def test_an_average_that_was_kept_without_a_decay_is_still_read(tmp_path):
    """Runs of before saved one, which was the last weights: such a run loads and goes on."""
    msdk.train(without_averages(2), tmp_path / "run")
    found = latest(tmp_path / "run")
    (found / "ema.safetensors").write_bytes((found / "model.safetensors").read_bytes())
    assert msdk.load_run(tmp_path / "run", offload=True)
    assert msdk.train(without_averages(4), tmp_path / "run", resume=True).last.iteration == 4


def test_a_lost_average_is_told(tmp_path):
    """A recipe that keeps averages is not resumed from a checkpoint that has none, nor sampled by the last weights."""
    msdk.train(tiny(), tmp_path / "run")
    (latest(tmp_path / "run") / "ema.safetensors").unlink()
    with pytest.raises(RunError, match=r"has no ema\.safetensors, but the recipe keeps averaged weights"):
        msdk.train(longer(tiny(), 6), tmp_path / "run", resume=True)
    with pytest.raises(RunError, match=r"ema\.safetensors is damaged"):
        msdk.load_run(tmp_path / "run")


def test_frozen_weights_are_left_alone(tmp_path, monkeypatch):
    """Weights that need no gradient get none, do not move, and the optimiser keeps nothing of them."""
    recipe = tiny("training.weight_decay=0.1")
    real = type(recipe.encoder).build

    def frozen(self, shape):
        network = real(self, shape)
        network.stem.requires_grad_(False)
        return network

    monkeypatch.setattr(type(recipe.encoder), "build", frozen)
    initial = build(recipe).network.state_dict()
    msdk.train(recipe, tmp_path / "run")
    msdk.train(longer(recipe, 6), tmp_path / "run", resume=True)
    found = load_checkpoint(latest(tmp_path / "run"))
    for name in ("encoders.0.stem.weight", "encoders.0.stem.bias"):
        assert torch.equal(found.model[name], initial[name])
        assert torch.equal(found.ema[name], initial[name])
        assert not any(key.endswith(f"/{name}") for key in found.optimizer)
    assert any(key.startswith("exp_avg/encoders.0.") for key in found.optimizer)


def test_a_stage_may_be_wholly_frozen(tmp_path, monkeypatch):
    """With encoder and one decoder frozen the others train on; the frozen stage costs no backward pass."""
    recipe = tiny("training.mixed=false")
    whole = (recipe.encoder, recipe.decoders[0])
    for kind in {type(part) for part in whole}:
        real = kind.build

        def build(self, *given, real=real):
            return real(self, *given).requires_grad_(self not in whole)

        monkeypatch.setattr(kind, "build", build)
    flops = [stage.backward_flops for stage in msdk.budget(recipe, cache=False).training.stages]
    assert flops[0] == 0 < flops[1]
    assert msdk.train(recipe, tmp_path / "run").last.iteration == recipe.training.iterations
