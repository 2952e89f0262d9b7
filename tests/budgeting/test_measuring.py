"""Promises of measured speed: rates that hang together, and devices that are not there or too small are told."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import msdk
from msdk.budgeting import measuring
from msdk.budgeting.measuring import matmul_peak, measure
from msdk.errors import PartError, RunError
from recipes import AUTOENCODER, tiny


@pytest.fixture(scope="module")
def timing():
    return measure(tiny(), device="cpu", batch=4, seconds=0.02)


def test_rates_and_hours_hang_together(timing):
    """Hours are the images of each stage at its rate; utilisation is FLOPs at that rate over the measured peak."""
    recipe = tiny()
    budget = msdk.budget(recipe, convention="exact")
    images = recipe.training.iterations * recipe.training.batch_size
    seconds = 0.0
    for cost, stage in zip(budget.stages, timing.stages, strict=True):
        assert min(stage.sampling_images_per_second, stage.training_images_per_second) > 0
        peak = timing.matmul_flops_per_second
        assert stage.sampling_utilisation == pytest.approx(2 * cost.macs * stage.sampling_images_per_second / peak)
        assert stage.training_utilisation == pytest.approx(6 * cost.macs * stage.training_images_per_second / peak)
        assert 0 < stage.sampling_utilisation < 1.2
        seconds += images * cost.weights["training"] / stage.training_images_per_second
    assert timing.hours == pytest.approx(seconds / 3600)
    data = json.loads(json.dumps(timing.as_json()))
    assert (data["device"], data["dtype"], data["batch"], data["threads"]) == ("cpu", "fp32", 4, 1)
    assert data["name"]


@pytest.mark.parametrize("setting", ["encoder.classes=10", f"autoencoder={AUTOENCODER}}}", "sharing=separate"])
def test_every_kind_is_measured(setting):
    """Classes, latents and separate encoders are fed what they need; bf16 runs under autocast."""
    found = measure(tiny(setting), device="cpu", batch=2, dtype="bf16", seconds=0.01)
    assert all(stage.training_images_per_second > 0 for stage in found.stages)
    assert found.dtype == "bf16"


def test_measuring_leaves_no_trace():
    """Random state and default precision are as before."""
    state, precision = torch.random.get_rng_state(), torch.get_float32_matmul_precision()
    measure(tiny(), device="cpu", batch=2, seconds=0.01)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_float32_matmul_precision() == precision


def test_the_peak_is_that_of_products():
    """More than a few GFLOP/s on any machine of this century, and less than there can be."""
    assert 1e9 < matmul_peak(torch.device("cpu"), "fp32", 0.2) < 1e15


def test_the_peak_divides_by_what_is_computed(monkeypatch):
    """The FLOPs of each attempt are those of its products, padding of convolutions included."""
    counted = []

    def seconds(run, device, least):
        with FlopCounterMode(display=False) as counter:
            run()
        counted.append(counter.get_total_flops())
        return counted[-1]

    monkeypatch.setattr(measuring, "_seconds", seconds)
    monkeypatch.setattr(measuring, "MATRICES", {"cpu": (16,)})
    monkeypatch.setattr(measuring, "MAPS", {"cpu": (2, 4, 8)})
    assert matmul_peak(torch.device("cpu"), "fp32", 1.0) == 1.0
    # torch's counter leaves nothing out at the edges, as the attempts do.
    assert counted == [2 * 16**3, 2 * 2 * 8**2 * 4 * 4, 2 * 2 * 8**2 * 4 * 4 * 9]


def test_devices_that_are_not_there_are_told():
    """The message has those that are."""
    with pytest.raises(PartError, match=r"there is no device 'quantum' here\. Known: cpu"):
        measure(tiny(), device="quantum")


def test_too_little_memory_is_told(monkeypatch):
    """Before a system ends the process, and where a device says so itself; the fix is a smaller batch."""
    monkeypatch.setattr(measuring, "_lines", lambda path: ["MemAvailable: 1 kB"] if "meminfo" in str(path) else [])
    with pytest.raises(RunError, match=r"B are free: use a smaller --batch"):
        measure(tiny(), device="cpu", batch=4)
    monkeypatch.undo()

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(measuring, "matmul_peak", full)
    with pytest.raises(RunError, match="cpu has not enough memory for steps of 4 images: use a smaller --batch"):
        measure(tiny(), device="cpu", batch=4)
