"""What training on one image costs in each stage, and what a run had spent at a checkpoint. Imports no torch."""

import json
import math
from collections.abc import Sequence
from pathlib import Path


def prices_of(run: Path) -> Sequence[float] | None:
    """FLOPs of training on one image, by stage: what ledger.json says was spent, by the images it was spent on."""
    try:
        ledger = json.loads((run / "ledger.json").read_bytes())
        images, spent = ledger["images_by_stage"], ledger["spent"]["total_flops_by_stage"]
        # A stage that saw no image until the last line saw none at any other, so its price does not matter.
        return [float(flops) / int(seen) if seen else 0.0 for flops, seen in zip(spent, images, strict=True)]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def spent_on(images: Sequence[int], prices: Sequence[float] | None) -> float | None:
    """FLOPs of training on so many images of each stage; None where no prices of as many stages are known."""
    if prices is None or len(prices) != len(images):
        return None
    return math.fsum(seen * price for seen, price in zip(images, prices, strict=True))


def spent_until(checkpoint: Path) -> float | None:
    """FLOPs that a run had spent at one of its checkpoints; None where its ledger does not say."""
    try:
        state = json.loads((checkpoint / "state.json").read_bytes())
        images = [int(seen) for seen in state["images_by_stage"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return spent_on(images, prices_of(checkpoint.parent.parent))
