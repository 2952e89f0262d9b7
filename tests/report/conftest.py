"""Budgets that the tests of reports share: counted from tiny recipes, with every optional part filled in."""

import attrs
import pytest

import msdk
from msdk.budgeting.requested import Memory, Timing
from msdk.recipe.differences import compare
from msdk.recipe.results import from_json
from recipes import tiny

HOSTILE = '<script>alert("x")</script> & </style> "quoted"'
"""A title that must come out as text."""


def filled(budget):
    """The same with memory, timing, limits and notes, as the commands that are asked for them add."""
    indices = range(len(budget.stages))
    memory = {
        "dtype": "fp32",
        "batch": 128,
        "micro_batch": 32,
        "bytes": {"params": 1_200_000, "gradients": 1_200_000, "optimizer": 2_400_008, "ema": 0, "autoencoder": 0},
        "stages": [
            {
                "index": index,
                "activations_per_image": 70_001 - index,
                "activations": 2_240_032,
                "peak": 9_000_001 + index,
            }
            for index in indices
        ],
        "peak": 9_000_123,
        "sampling_batch": 64,
        "sampling_peak": 3_000_321,
        "backward_over_forward": [2.0 for _ in indices],
    }
    timing = {
        "device": "cpu",
        "name": "Some Processor",
        "threads": 2,
        "dtype": "fp32",
        "batch": 16,
        "matmul_flops_per_second": 123.4e9,
        "stages": [
            {
                "index": index,
                "sampling_images_per_second": 1234.5 + index,
                "sampling_utilisation": 0.123,
                "training_images_per_second": 321.5 + index,
                "training_utilisation": 0.0987,
            }
            for index in indices
        ],
        "hours": 12.34,
    }
    return attrs.evolve(
        budget,
        memory=from_json(memory, Memory),
        timing=from_json(timing, Timing),
        allowed={"params": 1000, "memory": 2**30},
        notes=("A note <i>to readers</i>.",),
    )


@pytest.fixture(scope="session")
def pair():
    """Two recipes: one network, and three stages that are guided and have a hostile title."""
    return tiny('decoders=[{name="ddpmpp", channels=8}]', "stages.edges_ratio=[]"), tiny(
        f"title='{HOSTILE}'", "encoder.classes=10", "training.label_dropout=0.1", "sampling.guidance=2.0"
    )


@pytest.fixture(scope="session")
def budgets(pair):
    unified, multistage = pair
    return [
        msdk.budget(unified, name="recipes/digits/unified.toml"),
        filled(msdk.budget(multistage, name="recipes/digits/three.toml")),
    ]


@pytest.fixture(scope="session")
def diffs(pair):
    return [[one.as_json() for one in compare(*pair)]]


@pytest.fixture(scope="session")
def ledger(pair, budgets):
    """The ledger of a run of the second recipe, some iterations in."""
    from msdk.budgeting.ledger import ledger as ledger_of

    return ledger_of(msdk.budget(pair[1]), [70, 50, 8], 16, pair[1])


@pytest.fixture(scope="session")
def told(budgets, ledger):
    """What is told of a run of the second recipe, with a title, settings and pictures that are too wide for a phone."""
    from msdk.browsing import Line
    from msdk.report.runs import RunReport, losses_plot

    lines = [Line(at, 1 / at, (1 / at, None, 2 / at), (at, at, at), None, 0.5, (0.4, 0.6, 0.5)) for at in (1, 8, 16)]
    return RunReport(
        title=f"{HOSTILE} {'very' * 40} long",
        budgets=budgets,
        ledger=ledger,
        clusters=None,
        iterations=16,
        seconds=2.0,
        loss_by_stage=[0.1, None, 0.2],
        held_out_loss_by_stage=[0.4, 0.6, 0.5],
        lines=lines,
        sampling={"images": 4, "sampler": "heun", "steps": 4, "seconds": 1.0, "first_seed": 0, "last_seed": 3},
        scores=(),
        settings=f"# {HOSTILE} {'long ' * 60}\ntitle = 3\n",
        pictures=dict.fromkeys(("samples/grid.png", "losses.png"), losses_plot(lines, "png")),
    )
