"""The ledger of a run: what training really spent in each stage, beside what the recipe predicted."""

import contextlib
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from msdk.budgeting.assembling import budget
from msdk.budgeting.costs import Budget
from msdk.recipe import Recipe
from msdk.runs.files import write_json
from msdk.trackers.base import Log, Numbers, Tracker

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(kw_only=True)
class Ledger(Tracker):
    """ledger.json in the run folder: what training has spent. Every run has it; a recipe does not name it."""

    def open(self, run_dir: Path, recipe: Recipe) -> Log:
        return _Account(run_dir / "ledger.json", recipe, budget(recipe, convention="exact"))


@attrs.frozen
class _Account(Log):
    path: Path
    recipe: Recipe
    costs: Budget

    def log(self, step: int, numbers: Numbers) -> None:
        seen = cast("Sequence[int]", numbers["images_by_stage"])
        write_json(self.path, ledger(self.costs, seen, step, self.recipe))

    def image(self, name: str, step: int, image: "Tensor") -> None:
        pass

    def rewind(self, step: int) -> None:
        """It is written anew each time; one of a later step goes, until a step is told again."""
        with contextlib.suppress(OSError, ValueError, KeyError):  # no ledger, or one that somebody else wrote
            if json.loads(self.path.read_text(encoding="utf-8"))["iteration"] > step:
                self.path.unlink()

    def close(self) -> None:
        pass


def ledger(budget: Budget, images_by_stage: Sequence[int], iteration: int, recipe: Recipe) -> dict[str, Any]:
    """The content of ledger.json at one iteration.

    A MAC is two FLOPs, the backward pass costs twice the forward pass, and what is recomputed costs its own forward
    pass once more. Predicted is what the recipe says of the same iteration, with the shares that its law of training
    times gives each stage; spent is what the images that were really drawn cost.

    Args:
        budget: The recipe's, under the exact convention.
        images_by_stage: Images that each stage has really seen.
        iteration: Optimiser steps done.
        recipe: What is trained. Where `recompute` was changed on the way, all is told as it is now.
    """
    options, images = recipe.training, sum(images_by_stage)
    macs = [stage.macs for stage in budget.stages]
    forward = [seen * each for seen, each in zip(images_by_stage, macs, strict=True)]
    per_image = budget.equivalent_macs("training") or 0.0
    expected_images = iteration * options.batch_size
    expected = [expected_images * (stage.weights["training"] or 0.0) for stage in budget.stages]
    recomputed = recomputed_flops(recipe)
    spent, predicted = (_flops(seen, macs, recomputed) for seen in (images_by_stage, expected))
    return {
        "iteration": iteration,
        "convention": budget.convention,
        "images": images,
        "images_by_stage": list(images_by_stage),
        "macs_per_image_by_stage": macs,
        "forward_macs_by_stage": forward,
        "forward_macs": sum(forward),
        "total_flops": sum(spent["total_flops_by_stage"]),
        "spent": spent,
        "predicted": {
            "forward_macs": images * per_image,
            "total_flops": sum(predicted["total_flops_by_stage"]),
            "iterations": iteration,
            "batch_size": options.batch_size,
            "accumulation": options.accumulation,
            "images": expected_images,
            "images_by_stage": expected,
            **predicted,
        },
        "relative_difference_by_stage": [
            ours / theirs - 1 if theirs else None
            for ours, theirs in zip(spent["total_flops_by_stage"], predicted["total_flops_by_stage"], strict=True)
        ],
    }


def _flops(images: Sequence[float], macs: Sequence[int], recomputed: Sequence[int]) -> dict[str, list[Any]]:
    """Training FLOPs by stage of so many images in each."""
    forward = [2 * seen * each for seen, each in zip(images, macs, strict=True)]
    again = [seen * each for seen, each in zip(images, recomputed, strict=True)]
    return {
        "forward_flops_by_stage": forward,
        "backward_flops_by_stage": [2 * each for each in forward],
        "recompute_flops_by_stage": again,
        "total_flops_by_stage": [3 * first + more for first, more in zip(forward, again, strict=True)],
    }


@functools.lru_cache(maxsize=8)
def recomputed_flops(recipe: Recipe) -> tuple[int, ...]:
    """FLOPs by stage that the backward pass of one image spends on activations a second time; 0 without `recompute`.

    Only what is asked for is recomputed: of each block, all up to the last tensor that a gradient needs.
    """
    if not recipe.training.recompute:
        return (0,) * len(recipe.decoders)
    from msdk.budgeting.backward import stage_flops
    from msdk.budgeting.trials import without_weights
    from msdk.denoiser.building import build

    denoiser = build(without_weights(recipe), "meta").train()
    return tuple(flops.recompute for flops in stage_flops(recipe, denoiser))
