"""A training that is killed for real, in a process of its own, and trackers that are shown images meanwhile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

import msdk
from msdk.training.loop import Trainer
from recipes import tiny

SCRIPT = """
import os, signal, sys
from killed import train_with_images
at, run, *overrides = sys.argv[1:]
kill = lambda step: step.iteration == int(at) and os.kill(os.getpid(), signal.SIGKILL)
train_with_images(run, *overrides, progress=kill)
"""


def train_until_killed(at, run, *overrides):
    """Trains the tiny recipe, told at every step, until SIGKILL comes right after step `at`."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(at), run, *overrides],
        capture_output=True,
        text=True,
        env={**{key: os.environ[key] for key in os.environ if key != "WANDB_SERVICE"}, "PYTHONPATH": path},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def train_with_images(run, *overrides, **how):
    """Trains the tiny recipe, or goes on with it; with the numbers of a step comes an image whose level is the step."""
    plain = Trainer._log

    def with_image(trainer, *arguments):
        plain(trainer, *arguments)
        for log in trainer.logs:
            log.image("grid", trainer.iteration, torch.full((3, 4, 4), trainer.iteration, dtype=torch.uint8))

    Trainer._log = with_image
    try:
        return msdk.train(tiny("training.log_every=1", *overrides), run, **how)
    finally:
        Trainer._log = plain
