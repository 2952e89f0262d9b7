"""Run folders: what `msdk train` leaves behind, read, written and derived. Public for plugins.

Names load on first use, so that writing a file (`msdk.runs.files`) imports no torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdk.runs.checkpoint import Checkpoint as Checkpoint
    from msdk.runs.checkpoint import Weights as Weights
    from msdk.runs.checkpoint import load_checkpoint as load_checkpoint
    from msdk.runs.checkpoint import load_run as load_run
    from msdk.runs.checkpoint import load_weights as load_weights
    from msdk.runs.checkpoint import save_checkpoint as save_checkpoint
    from msdk.runs.checkpoint import use as use
    from msdk.runs.checkpoint import weights_of as weights_of
    from msdk.runs.folder import CODE as CODE
    from msdk.runs.folder import checkpoints as checkpoints
    from msdk.runs.folder import latest as latest
    from msdk.runs.folder import refuse_existing as refuse_existing
    from msdk.runs.folder import run_recipe as run_recipe
    from msdk.runs.folder import start_run as start_run
    from msdk.runs.folder import sweep_run as sweep_run
    from msdk.runs.folder import with_autoencoder_of as with_autoencoder_of
    from msdk.runs.folder import write_recipe as write_recipe
    from msdk.runs.forking import fork as fork
    from msdk.runs.lock import class_names as class_names
    from msdk.runs.resuming import refuse_other_recipe as refuse_other_recipe

_HOMES = {
    **dict.fromkeys(
        (
            "Checkpoint",
            "Weights",
            "load_checkpoint",
            "load_run",
            "load_weights",
            "save_checkpoint",
            "use",
            "weights_of",
        ),
        "msdk.runs.checkpoint",
    ),
    **dict.fromkeys(
        (
            "CODE",
            "checkpoints",
            "latest",
            "refuse_existing",
            "run_recipe",
            "start_run",
            "sweep_run",
            "with_autoencoder_of",
            "write_recipe",
        ),
        "msdk.runs.folder",
    ),
    "fork": "msdk.runs.forking",
    "class_names": "msdk.runs.lock",
    "refuse_other_recipe": "msdk.runs.resuming",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'msdk.runs' has no attribute '{name}'")
