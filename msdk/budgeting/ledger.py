"""The ledger of a run: what training really spent in each stage, beside what the recipe predicted."""

from collections.abc import Sequence
from typing import Any

from msdk.budgeting.costs import Budget


def ledger(budget: Budget, images_by_stage: Sequence[int], iteration: int) -> dict[str, Any]:
    """The content of ledger.json at one iteration.

    Args:
        budget: The recipe's, under the exact convention.
        images_by_stage: Images that each stage has really seen.
        iteration: Optimiser steps done.
    """
    spent = [images * stage.macs for images, stage in zip(images_by_stage, budget.stages, strict=True)]
    images = sum(images_by_stage)
    per_image = budget.equivalent_macs("training") or 0.0
    return {
        "iteration": iteration,
        "convention": budget.convention,
        "images": images,
        "images_by_stage": list(images_by_stage),
        "macs_per_image_by_stage": [stage.macs for stage in budget.stages],
        "forward_macs_by_stage": spent,
        "forward_macs": sum(spent),
        "total_flops": sum(spent) * 3 * 2,
        "predicted": {"forward_macs": images * per_image, "total_flops": images * per_image * 3 * 2},
    }
