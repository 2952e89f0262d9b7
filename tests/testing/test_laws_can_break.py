"""Each law catches a part that breaks it, and says what was expected: a kit that nothing fails is worth nothing."""

import itertools
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import torch
from torch import nn

import msdk
from msdk import testing
from msdk.clusterings.base import Clustering, Found
from msdk.clusterings.timestep import Timestep
from msdk.clusterings.uniform_lambda import UniformLambda
from msdk.combinations.base import Combination
from msdk.datasets.base import Dataset, Source
from msdk.decoders.base import Decoder
from msdk.encoders.base import Encoder, FeatureInfo, Features, Level
from msdk.errors import PartError
from msdk.extractors.base import Extracted, Extractor, Opened
from msdk.metrics.base import Found as Scored
from msdk.metrics.base import Metric, Number, features_of
from msdk.noise_levels.uniform import Uniform
from msdk.objectives.base import Objective
from msdk.objectives.denoising import Denoising
from msdk.parameterizations.eps import Eps
from msdk.samplers.ddim import DDIM
from msdk.schedules.base import Schedule
from msdk.schedules.edm import EDM
from msdk.schedules.vp import VPLinear
from msdk.trackers.base import Log, Tracker
from msdk.weightings.base import Weighting

SMALL = (3, 16, 16)


def laws(kind):
    return {law.__name__: law for law in testing.laws(kind)}


def breaks(kind, name, part, words, **options):
    with pytest.raises(testing.LawError, match=words):
        laws(kind)[name](part, **options)


# --- networks ---------------------------------------------------------------------------------------------------------


class EncoderNet(nn.Module):
    """One convolution per level; `fault` names what is wrong with it."""

    def __init__(self, spec, shape):
        super().__init__()
        self.spec = spec
        device = "cpu" if spec.fault == "device" else None
        self.first = nn.Conv2d(shape[0], spec.channels, 3, padding=1, device=device)
        self.second = nn.Conv2d(spec.channels, spec.channels, 3, padding=1, stride=2)
        self.embed = nn.Linear(1, 4 * spec.channels)
        if spec.fault == "idle":
            self.idle = nn.Linear(3, 3)
        if spec.fault == "hidden":
            self.hidden = [torch.randn(1)]
        if spec.fault == "rule":
            self.operator_macs = {"aten::linalg_qr": lambda inputs, outputs: 5}
        if spec.fault == "norm":
            self.norm = nn.BatchNorm2d(spec.channels, track_running_stats=False)

    def forward(self, x, c_noise, label=None, augment=None):
        embedding = self.embed(c_noise.to(x.dtype)[:, None].log1p())
        h = self.first(x)
        if self.spec.fault == "norm":
            h = self.norm(h)
        if self.spec.fault == "hidden":
            h = h * self.hidden[0].to(h)
        if self.spec.fault == "noise":
            h = h + torch.randn_like(h)
        if self.spec.fault == "batch":
            h = h + (torch.arange(len(embedding)).to(h)[:, None, None, None] if len(embedding) > 1 else 0)
        if self.spec.fault == "operator":
            h = h + torch.linalg.inv(h @ h.transpose(2, 3) + torch.eye(h.shape[2]).to(h)) @ h
        if self.spec.fault == "rule":
            h = h + torch.linalg.qr(h).R
        bottom = self.second(torch.relu(h))
        scale = embedding[:, :1] if self.spec.fault == "scale" else None
        below = bottom * torch.nan if self.spec.fault == "nan" else bottom.nan_to_num()
        return Features((h, bottom), below, embedding, scale)


@msdk.encoders.add("fault")
@attrs.frozen(kw_only=True)
class FaultyEncoder(Encoder):
    """Two levels.

    Args:
        channels: Of both.
        fault: What is wrong.
    """

    channels: int = 8
    fault: str = ""

    def info(self, shape):
        if shape[1] % 2 or shape[2] % 2 or min(shape[1:]) < 4:
            if self.fault == "words":
                raise ValueError("odd")
            raise PartError("the sides of an image are to be even, and at least 4 pixels long")
        channels = self.channels + (self.fault == "info")
        levels = (Level(1, (channels,)), Level(2, (channels,)))
        return FeatureInfo(levels, bottom=channels, embedding=4 * self.channels)

    def build(self, shape):
        return EncoderNet(self, shape)


@pytest.mark.parametrize(
    ("law", "fault", "words"),
    [
        ("features_match_info", "info", r"skip 0 of .* is \[2, 8, 16, 16\], and must be \[2, 9, 16, 16\]"),
        ("features_match_info", "nan", "the bottom is not finite, and the images were"),
        ("features_match_info", "scale", r"the output scale of .* is \[2, 1\], and must be \[2\]"),
        ("gradients_reach_every_parameter", "idle", r"no gradient reaches idle\.weight, idle\.bias"),
        ("builds_on_meta", "device", r"first\.\w+, first\.\w+ lie elsewhere: leave out `device=`"),
        ("state_dict_round_trips", "hidden", "something that matters is no parameter and no buffer"),
        ("eval_is_deterministic", "noise", "two runs on one input differ"),
        ("one_noise_level_serves_a_batch", "batch", "with one noise level for the batch the features are others"),
        ("budget_counts_every_operator", "operator", "the budget does not count|two counters differ"),
        (
            "budget_counts_every_operator",
            "rule",
            r"the rule of aten\.linalg_qr gives 5 MACs for one image and 5 for two",
        ),
        ("mixed_batches_equal_single_stages", "norm", "samples must not affect each other in eval mode"),
        ("refuses_in_words", "words", r"make `info` raise ValueError: odd; raise PartError"),
    ],
)
def test_broken_encoders_are_caught(law, fault, words):
    """A sound encoder keeps every law that its broken sister breaks."""
    laws("encoder")[law](FaultyEncoder(), shape=SMALL)
    breaks("encoder", law, FaultyEncoder(fault=fault), words, shape=SMALL)


def test_check_tells_all_broken_laws_at_once():
    """One call, all laws, all faults."""
    testing.check("encoder", FaultyEncoder(), shape=SMALL)
    with pytest.raises(testing.LawError) as caught:
        testing.check("encoder", FaultyEncoder(fault="noise"), shape=SMALL)
    assert {line.partition(":")[0] for line in str(caught.value).splitlines()} >= {
        "eval_is_deterministic",
        "mixed_batches_equal_single_stages",
    }


class DecoderNet(nn.Module):
    def __init__(self, spec, info, shape):
        super().__init__()
        self.spec = spec
        self.up = nn.Conv2d(info.bottom, info.levels[0].skips[-1], 1)
        self.out = nn.Conv2d(info.levels[0].skips[-1], shape[0] + (spec.fault == "shape"), 3, padding=1)
        if spec.fault == "idle":
            self.idle = nn.Parameter(torch.zeros(2))

    def forward(self, features):
        up = nn.functional.interpolate(self.up(features.bottom), scale_factor=2.0)
        h = self.out(torch.relu(features.skips[0] + up))
        if self.spec.fault == "batch":
            h = h - h.mean(0, keepdim=True)
        return h + torch.rand_like(h) if self.spec.fault == "noise" else h


@msdk.decoders.add("fault")
@attrs.frozen(kw_only=True)
class FaultyDecoder(Decoder):
    """For two levels.

    Args:
        fault: What is wrong.
    """

    fault: str = ""

    def check(self, info):
        if info.tokens is not None or [level.reduction for level in info.levels] != [1, 2]:
            if self.fault == "words":
                raise KeyError("levels")
            raise PartError("needs feature maps of two levels, of the whole side and of half of it")

    def build(self, info, shape):
        return DecoderNet(self, info, shape)


@pytest.mark.parametrize(
    ("law", "fault", "words"),
    [
        (
            "predicts_images",
            "shape",
            r"predicts \[2, 4, 16, 16\], and must predict \[2, 3, 16, 16\]",
        ),
        ("gradients_reach_every_parameter", "idle", "no gradient reaches idle"),
        ("eval_is_deterministic", "noise", "two runs on one input differ"),
        ("mixed_batches_equal_single_stages", "batch", "an image differs by .* from itself alone"),
        ("refuses_in_words", "words", r"makes `check` raise KeyError: 'levels'"),
    ],
)
def test_broken_decoders_are_caught(law, fault, words):
    """As for encoders; the laws find an encoder that fits by themselves, or take the one that is given."""
    laws("decoder")[law](FaultyDecoder(), shape=SMALL, encoder=FaultyEncoder())
    breaks("decoder", law, FaultyDecoder(fault=fault), words, shape=SMALL, encoder=FaultyEncoder())


def test_a_partner_that_is_missing_is_asked_for():
    """Where no built-in part fits, the law says which option to pass."""

    class Alone(FaultyDecoder):
        def check(self, info):
            raise PartError("this decoder takes nothing that there is")

    breaks("decoder", "builds_on_meta", Alone(), "no encoder of msdk suits this decoder, so pass encoder=")


# --- all kinds --------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Unnamed(Weighting):
    """A part.

    Args:
        power: Of the ratio.
    """

    power: float = 1.0
    other: float = 1.0

    def weight(self, schedule, t):
        return schedule.ratio(t) ** -self.power


def test_common_laws():
    """A part has a name in recipes, and its fields are explained."""
    breaks("weighting", "settings_survive_a_recipe", Unnamed(), "has no name in a recipe: .*is not a registered")
    breaks("weighting", "fields_are_explained", Unnamed(), r"does not say under Args: what other is")
    breaks("weighting", "settings_survive_a_recipe", object(), "is no attrs class")


@pytest.mark.parametrize(
    ("law", "weight", "words"),
    [
        ("weights_are_positive", lambda schedule, t: schedule.ratio(t) - 1, "the weight at t = .* is -0"),
        (
            "floats_and_tensors_agree",
            lambda schedule, t: 1.0 if isinstance(t, float) else 2 * torch.ones_like(t),
            r"it is 1\.0 for a float, 2\.0 for a tensor",
        ),
        ("floats_and_tensors_agree", lambda schedule, t: 1.0 if isinstance(t, float) else torch.ones(1), "the shape"),
    ],
)
def test_broken_weightings_are_caught(law, weight, words):
    """Negative, or different for tensors."""

    class Broken(Unnamed):
        def weight(self, schedule, t):
            return weight(schedule, t)

    breaks("weighting", law, Broken(), words)


def test_closed_forms_are_compared():
    """The author gives the formula once more."""
    law = laws("weighting")["it_is_its_closed_form"]
    law(Unnamed(power=2.0), closed_form=lambda ratio: 1 / ratio**2)
    breaks("weighting", "it_is_its_closed_form", Unnamed(), "the closed form", closed_form=lambda ratio: 2 / ratio)


# --- schedules, samplers and the like ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "method", "words"),
    [
        ("alpha_falls_and_sigma_rises", {"alpha": lambda self, t: 1 + t}, "alpha rises"),
        ("alpha_falls_and_sigma_rises", {"sigma": lambda self, t: 0 * t + 1}, "sigma does not rise"),
        ("inverses_round_trip", {"t_of_ratio": lambda self, ratio: ratio}, "t_of_ratio gives"),
        ("the_prior_is_the_noise_of_the_last_time", {"prior_std": property(lambda self: 3.0)}, "prior_std is 3.0"),
        ("drift_and_diffusion_are_the_derivatives", {"f": lambda self, t: 0 * t}, "but the derivative is"),
        (
            "floats_and_tensors_agree",
            {"sigma": lambda self, t: VPLinear.sigma(self, t) * (1.0 if isinstance(t, float) else 1.1)},
            "for a float and .* for a tensor",
        ),
        ("own_grid_and_law_suit_its_time", {"default_grid": "trailing"}, "which is none of uniform-t"),
    ],
)
def test_broken_schedules_are_caught(law, method, words):
    """One method at a time is replaced."""
    breaks("schedule", law, type("Broken", (VPLinear,), method)(), words)


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ("default_grid", "none of 20 calls on the grid uniform-t has a ratio below 1: set default_grid"),
        ("default_noise", "training by Uniform.* has 1.2 % of its ratios below 1: set default_noise"),
    ],
)
def test_a_schedule_whose_time_is_noise_must_say_what_suits_it(left, words):
    """EDM's with one of both left as schedules have them that state nothing."""
    silent = type("Silent", (EDM,), {left: getattr(Schedule, left)})()
    breaks("schedule", "own_grid_and_law_suit_its_time", silent, words)


@pytest.mark.parametrize(
    ("law", "method", "words"),
    [
        ("declared_calls_are_made", {"calls": lambda self, steps: [2] * steps}, r"declares \[2, 2.*were made"),
        ("order_is_the_declared_one", {"order": 2}, r"declared order 2, measured (0\.9|1\.0)"),
        ("order_is_the_declared_one", {"convergence": property(lambda self: 0), "order": 0}, "declare more"),
        (
            "noise_becomes_data",
            {"step": lambda self, denoise, schedule, x, t, s, memory, noise: (denoise(x, t), None)},
            "away from where the exact flow takes it",
        ),
        (
            "a_seed_decides",
            {
                "step": lambda self, denoise, schedule, x, t, s, memory, noise: (
                    DDIM.step(self, denoise, schedule, x, t, s, memory, noise)[0] + next(COUNTER),
                    None,
                )
            },
            "two runs with the same noise differ",
        ),
        ("refuses_in_words", {"times": lambda self, schedule, steps: [1.0]}, "0 steps are not refused"),
        ("refuses_in_words", {"times": lambda self, schedule, steps: 1 / steps}, "0 steps raise ZeroDivisionError"),
    ],
)
def test_broken_samplers_are_caught(law, method, words):
    """DDIM with one thing wrong."""
    breaks("sampler", law, type("Broken", (DDIM,), method)(), words)


COUNTER = itertools.count()


@pytest.mark.parametrize(
    ("law", "method", "words"),
    [
        (
            "the_target_gives_back_the_image",
            {"target_weights": lambda self, schedule, t: (0 * t, 0 * t)},
            "exact target",
        ),
        (
            "coefficients_are_finite",
            {"coefficients": lambda self, schedule, t: attrs.evolve(Eps.coefficients(self, schedule, t), c_out=0 * t)},
            "neither may be 0",
        ),
        (
            "floats_and_tensors_agree",
            {
                "coefficients": lambda self, schedule, t: attrs.evolve(
                    Eps.coefficients(self, schedule, t), c_noise=t if isinstance(t, float) else 2 * t
                )
            },
            "c_noise at t",
        ),
    ],
)
def test_broken_parameterizations_are_caught(law, method, words):
    """The eps parameterisation with one thing wrong."""
    breaks("parameterization", law, type("Broken", (Eps,), method)(), words)


@pytest.mark.parametrize(
    ("law", "method", "words"),
    [
        ("cdf_and_quantile_are_inverse", {"cdf": lambda self, schedule, t: t**2}, "is the quantile of"),
        ("cdf_is_a_probability", {"cdf": lambda self, schedule, t: 1.5 * t}, "outside of"),
        ("cdf_is_a_probability", {"cdf": lambda self, schedule, t: 1 - t}, "falls"),
        (
            "draws_fall_inside_their_stage",
            {"draw": lambda self, schedule, partition, stages, generator: 0.5 + 0 * stages.double()},
            "outside of the stage",
        ),
        ("shares_are_those_of_draws", {"shares": lambda self, schedule, partition: [0.2, 0.2, 0.6]}, "has a share of"),
    ],
)
def test_broken_noise_levels_are_caught(law, method, words):
    """The uniform law with one thing wrong."""
    breaks("noise_level", law, type("Broken", (Uniform,), method)(), words)


@pytest.mark.parametrize(
    ("law", "base", "find", "words"),
    [
        (
            "edges_ascend_inside_the_schedule",
            UniformLambda,
            lambda self, subject: Found(edges_t=(0.6, 0.4)[: self.stages - 1]),
            "do not ascend|edges",
        ),
        (
            "edges_ascend_inside_the_schedule",
            UniformLambda,
            lambda self, subject: Found(
                edges_t=tuple((k + 1 + 1e-9 * next(COUNTER)) / 10 for k in range(self.stages - 1))
            ),
            "something else the second time",
        ),
        (
            "curves_fit_the_times",
            Timestep,
            lambda self, subject: Found(edges_t=(0.5,), curves={"t": [1.0], "x": []}),
            "x",
        ),
        (
            "only_what_is_needed_is_asked_for",
            Timestep,
            lambda self, subject: subject.points() and Found(edges_t=(0.5,)),
            "it asks for data, which `needs` does not name",
        ),
        (
            "too_many_stages_are_refused_in_words",
            UniformLambda,
            lambda self, subject: 1 / (5000 - self.stages),
            "5000 stages raise ZeroDivisionError",
        ),
    ],
)
def test_broken_clusterings_are_caught(law, base, find, words):
    """A strategy that finds something else."""
    breaks("clustering", law, type("Broken", (base,), {"find": find})(), words)


def test_a_clustering_that_depends_on_blocks_is_caught():
    """What is found may not depend on how the data were read."""

    class Blocks(Clustering):
        stages = 2
        needs = frozenset({"data"})

        def find(self, subject):
            return Found(edges_t=(len(next(subject.points().blocks())) / 100,))

    breaks("clustering", "blocks_change_nothing", Blocks(), "blocks of another length move an edge by 0.")


@attrs.frozen(kw_only=True)
class Images(Dataset):
    """Random images.

    Args:
        fault: What is wrong.
    """

    fault: str = ""
    shape = (1, 4, 4)

    def open(self):
        fault = self.fault

        class Opened(Source):
            digest = "0" * 64 if fault != "digest" else "short"
            labels = (0, 1, -1) if fault == "labels" else (0, 1, 1) if fault != "count" else (0,)
            class_names = {"few names": ("a",), "one name": ("a", "a"), "numbers": (0, 1)}.get(fault, ("a", "b"))
            problems = ("x",) if fault == "problems" else ()

            def __len__(self):
                return 3

            def read(self, indices):
                kind = torch.float32 if fault == "type" else torch.uint8
                size = 5 if fault == "shape" else 4
                values = range(len(indices)) if fault == "order" else indices
                return torch.tensor(list(values)).to(kind)[:, None, None, None].expand(-1, 1, 4, size)

        return Opened()


@pytest.mark.parametrize(
    ("law", "fault", "words"),
    [
        ("images_are_what_is_declared", "type", "images are torch.float32, not uint8"),
        ("images_are_what_is_declared", "shape", r"images are \(1, 4, 5\), and `shape` is \(1, 4, 4\)"),
        ("any_order_reads_the_same", "order", "is another one in a batch"),
        ("the_digest_is_that_of_the_data", "digest", "give a SHA-256"),
        ("labels_are_classes", "labels", "whole numbers from 0"),
        ("labels_are_classes", "count", "there are 1 labels for 3 images"),
        ("names_are_of_classes", "few names", "there are 1 names, but classes up to 1"),
        ("names_are_of_classes", "one name", "two classes have one name"),
        ("names_are_of_classes", "numbers", "to be text"),
        ("looking_finds_what_opening_does", "problems", "tells problems that `open` does not"),
    ],
)
def test_broken_data_sets_are_caught(law, fault, words):
    """One fault at a time."""
    laws("dataset")[law](Images())
    breaks("dataset", law, Images(fault=fault), words)


class Wrong(nn.Module):
    """The denoising loss with one fault."""

    def __init__(self, fault, denoiser):
        super().__init__()
        self.fault, self.calls = fault, 0
        if fault == "idle":
            self.idle = nn.Parameter(torch.zeros(3))
        if fault == "own":
            self.denoiser = denoiser
        self.scale = nn.Parameter(torch.zeros(1))
        self.hidden = self.scale if fault != "hidden" else [torch.zeros(1, requires_grad=True)]
        self.start = torch.rand(1) if fault == "start" else 0

    def loss(self, batch, draw, denoiser):
        draw = attrs.evolve(draw, named=self.fault != "asks" and draw.named)
        values = Denoising().build(denoiser).loss(batch, draw, denoiser) + self.scale + self.start
        if self.fault == "hidden":
            values, self.hidden[0] = values + self.hidden[0], self.hidden[0] + values.mean().detach()
        if self.fault == "twice":
            values = values + Denoising().build(denoiser).loss(batch, draw, denoiser)
        if self.fault == "drawn":
            values = values + torch.rand(1)
        return {"mean": values.mean(), "batch": values - values.mean(), "nan": values * torch.nan}.get(
            self.fault, values
        )


@msdk.objectives.add("fault")
@attrs.frozen(kw_only=True)
class FaultyObjective(Objective):
    """The denoising loss.

    Args:
        fault: What is wrong.
    """

    fault: str = ""

    asks = True

    def build(self, denoiser):
        return Wrong(self.fault, denoiser) if self.fault != "module" else object()


@pytest.mark.parametrize(
    ("law", "fault", "words"),
    [
        ("losses_are_per_image", "mean", r"5 images have the shape \(\), not \(5,\)"),
        ("losses_are_per_image", "nan", "not finite"),
        ("losses_are_per_image", "module", "a object, which is no nn.Module"),
        ("images_do_not_affect_each_other", "batch", "in a batch the losses are"),
        ("a_draw_decides", "drawn", "is something drawn or counted inside"),
        ("a_draw_decides", "start", "what is random at the start needs a seed"),
        ("calls_are_those_made", "twice", "`calls` is 1, but an image made 2"),
        ("named_experts_are_asked", "asks", r"gives to stage 2 the stages see \[2, 2, 1\], not \[0, 0, 5\]"),
        ("what_it_owns_is_its_state", "idle", "no gradient reaches its idle"),
        ("what_it_owns_is_its_state", "own", "it owns weights of the denoiser"),
        ("what_it_owns_is_its_state", "hidden", "a fresh one has other losses"),
    ],
)
def test_broken_objectives_are_caught(law, fault, words):
    """One fault at a time."""
    laws("objective")[law](FaultyObjective())
    breaks("objective", law, FaultyObjective(fault=fault), words)


@msdk.trackers.add("fault")
@attrs.frozen(kw_only=True)
class FaultyTracker(Tracker):
    """The steps that it was told, a line each.

    Args:
        fault: What is wrong.
    """

    fault: str = ""

    def open(self, run_dir, recipe):
        if self.fault == "early":
            run_dir.mkdir(exist_ok=True)
        return Steps(run_dir / "steps.txt", self.fault)


@attrs.frozen
class Steps(Log):
    file: Path
    fault: str

    def log(self, step, numbers):
        told = self.file.read_text() if self.file.exists() else ""
        if not (self.fault == "lost" and step > 2):
            self.file.write_text(f"{told}{step}\n")

    def image(self, name, step, image):
        pass

    def rewind(self, step):
        if self.fault != "repeated":
            self.file.write_text("".join(f"{each}\n" for each in shown_in(self.file.parent) if each <= step))

    def close(self):
        pass


def shown_in(run):
    return [int(line) for line in (run / "steps.txt").read_text().split()]


@pytest.mark.parametrize(
    ("law", "fault", "words"),
    [
        ("opening_leaves_the_folder_alone", "early", "made the run folder"),
        ("it_takes_what_training_tells", "lost", r"told of the steps 1 to 3 and shows \[1, 2\]"),
        ("a_resumed_run_shows_each_step_once", "repeated", r"rewound to step 3 it still shows \[1, 2, 3, 4, 5\]"),
    ],
)
def test_broken_trackers_are_caught(law, fault, words):
    """One fault at a time."""
    laws("tracker")[law](FaultyTracker(), shown=shown_in)
    breaks("tracker", law, FaultyTracker(fault=fault), words, shown=shown_in)


class Faulty(Combination):
    def weights(self, gram, before, iteration, generator):
        return self.rule(gram, generator)


@pytest.mark.parametrize(
    ("law", "rule", "words"),
    [
        ("every_stage_has_a_finite_weight", lambda gram, _: gram.sum(), r"\(\) weights of 3 stages"),
        ("every_stage_has_a_finite_weight", lambda gram, _: 1 / gram.diagonal(), "where gradients are 0 for one stage"),
        ("a_gradient_alone_stays", lambda gram, _: gram.diagonal(), "is multiplied by 4"),
        ("units_do_not_matter", lambda gram, _: 1 + gram.diagonal(), "twice as long ones are weighed"),
        ("a_draw_decides", lambda gram, _: torch.rand(len(gram)), "asked twice"),
        ("it_waits_for_no_device", lambda gram, _: gram[0] * float(gram[0, 0]), "without numbers it fails"),
    ],
)
def test_broken_combinations_are_caught(law, rule, words):
    """No weight of each, infinite ones, lengths that are no matter of units, chance of its own, and waiting."""
    part = Faulty()
    part.rule = rule
    breaks("combination", law, part, words)


# --- extractors and metrics -------------------------------------------------------------------------------------------


class Means(Opened):
    """The mean of each image, and what is wrong with it."""

    def __init__(self, fault):
        self.fault, self.width, self.digest, self.asked = fault, 2, "0" * 64, 0
        if fault == "digest":
            self.digest = f"{id(self):064d}"

    def __call__(self, images):
        means = images.double().flatten(1).mean(1)
        found = torch.stack([means, means.square()], 1)
        if self.fault == "width":
            found = found[:, :1]
        if self.fault == "nan":
            found = found * torch.nan
        if self.fault == "batch":
            found = found - found.mean(0) / 2
        if self.fault == "chance":
            found = found + torch.rand_like(found)
        return Extracted(found)


@msdk.extractors.add("fault")
@attrs.frozen(kw_only=True)
class FaultyExtractor(Extractor):
    """Means.

    Args:
        fault: What is wrong.
    """

    fault: str = ""

    @property
    def label(self):
        return "means"

    def open(self, device="cpu"):
        return Means(self.fault)


@pytest.mark.parametrize(
    ("law", "fault", "words"),
    [
        ("features_are_what_is_declared", "width", r"are \(3, 1\), and `width` is 2"),
        ("features_are_what_is_declared", "nan", "are not finite"),
        ("an_image_is_itself_alone", "batch", "differ by .* from those that it has alone"),
        ("it_repeats_itself", "chance", "other features"),
        ("it_repeats_itself", "digest", "another one each time"),
    ],
)
def test_broken_extractors_are_caught(law, fault, words):
    """One fault at a time."""
    laws("extractor")[law](FaultyExtractor())
    breaks("extractor", law, FaultyExtractor(fault=fault), words)


@msdk.metrics.add("fault")
@attrs.frozen(kw_only=True)
class FaultyMetric(Metric):
    """The distance of means.

    Args:
        fault: What is wrong.
    """

    title: ClassVar[str] = "means"
    fault: str = ""

    def check(self, images, references):
        if self.fault == "many":
            raise PartError("it needs 1,000 images")

    def score(self, evidence):
        ours, theirs = (each.features for each in features_of(evidence))
        value = float((ours.mean(0) - theirs.mean(0)).norm())
        if self.fault == "order":
            value += float(ours[0, 0])
        if self.fault == "chance":
            value += float(torch.rand(()))
        if self.fault == "nan":
            value = float("nan")
        numbers = (Number("", value), Number("twice", 2 * value))
        return Scored({"none": (), "names": (numbers[0],) * 2}.get(self.fault, numbers))


@pytest.mark.parametrize(
    ("law", "fault", "words"),
    [
        ("numbers_are_finite_and_named", "none", "no number"),
        ("numbers_are_finite_and_named", "names", "two numbers have one name"),
        ("numbers_are_finite_and_named", "nan", "'' is nan"),
        ("numbers_are_finite_and_named", "many", "80 generated and 60 real images: it needs 1,000"),
        ("it_repeats_itself", "chance", "on the same evidence"),
        ("the_order_of_images_does_not_matter", "order", "in another order"),
    ],
)
def test_broken_metrics_are_caught(law, fault, words):
    """One fault at a time."""
    laws("metric")[law](FaultyMetric())
    breaks("metric", law, FaultyMetric(fault=fault), words)


def test_unknown_kinds_are_told():
    """The nearest kind is named."""
    with pytest.raises(msdk.MsdkError, match="Did you mean"):
        testing.laws("encodr")
