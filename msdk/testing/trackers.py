"""Laws of trackers. Option: `shown(run_dir)`, the steps that somebody who looks at a run is shown, in order."""

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch

from msdk.recipe import Recipe
from msdk.registry import registries
from msdk.testing import networks
from msdk.testing.laws import COMMON, require
from msdk.trackers.base import Log, Numbers, Tracker

Shown = Callable[[Path], list[int]]


def _recipe() -> Recipe:
    """Three stages on the digits."""
    digits, decoder = registries()["datasets"].get("digits"), networks.small("decoders", "ddpmpp")
    return Recipe(
        data=digits(),  # pyright: ignore[reportArgumentType]
        encoder=networks.small("encoders", "ddpmpp"),
        decoders=(decoder,) * 3,
    ).with_partition(networks.PARTITION)


def _numbers(step: int) -> Numbers:
    """As training tells them."""
    return {
        "images": 8 * step,
        "loss": 1 / step,
        "loss_by_stage": [1 / step, None, 0.5],
        "images_by_stage": [6 * step, 0, 2 * step],
        "expected_images_by_stage": [5.5 * step, 0.25 * step, 2.25 * step],
        "lr": 1e-3,
        "images_per_second": 80.0,
        "seconds": step / 10,
    }


@contextmanager
def _folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="msdk-") as folder:
        yield Path(folder) / "run"


def _told(log: Log, steps: range) -> None:
    for step in steps:
        log.log(step, _numbers(step))


def opening_leaves_the_folder_alone(tracker: Tracker, *, shown: Shown | None = None) -> None:
    """A run that cannot begin leaves nothing behind: nothing is written before the first number."""
    with _folder() as run:
        tracker.open(run, _recipe()).close()
        require(not run.exists(), "opening or closing it made the run folder")


def it_takes_what_training_tells(tracker: Tracker, *, shown: Shown | None = None) -> None:
    """Numbers by name and by stage, some of them missing, and images."""
    with _folder() as run:
        run.mkdir()
        log = tracker.open(run, _recipe())
        _told(log, range(1, 4))
        log.image("samples", 3, torch.zeros(3, 8, 8, dtype=torch.uint8))
        log.close()
        if shown is not None:
            require(shown(run)[-1:] == [3], f"it was told of the steps 1 to 3 and shows {shown(run)}")


def a_resumed_run_shows_each_step_once(tracker: Tracker, *, shown: Shown | None = None) -> None:
    """A run that was killed at step 5 and goes on from its checkpoint of step 3 repeats 4 and 5."""
    with _folder() as run:
        run.mkdir()
        first = tracker.open(run, _recipe())
        _told(first, range(1, 6))
        first.close()
        second = tracker.open(run, _recipe())
        second.rewind(3)
        if shown is not None:
            require(max(shown(run), default=0) <= 3, f"rewound to step 3 it still shows {shown(run)}")
        _told(second, range(4, 8))
        second.close()
        if shown is not None:
            steps = shown(run)
            require(steps == sorted(set(steps)), f"the steps that it shows are {steps}")
            require(steps[-1:] == [7], f"the last step is 7, and it shows {steps}")


LAWS = (
    *COMMON,
    opening_leaves_the_folder_alone,
    it_takes_what_training_tells,
    a_resumed_run_shows_each_step_once,
)
