"""Laws of combinations of gradients."""

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from msdk.combinations.base import Combination
from msdk.testing.laws import COMMON, LawError, require


def _gram(gradients: Sequence[Sequence[float]]) -> Tensor:
    found = torch.tensor(gradients, dtype=torch.float64)
    return found @ found.T


CASES = {
    "agree": _gram([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, 0.0, 2.0]]),
    "conflict": _gram([[1.0, 0.0, 0.0], [-0.5, 1.0, 0.0], [0.2, -1.0, 3.0]]),
    "are parallel": _gram([[1.0, 1.0], [2.0, 2.0]]),
    "are opposite": _gram([[1.0, 1.0], [-2.0, -2.0]]),
    "are 0 for one stage": _gram([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]]),
    "are 0": _gram([[0.0, 0.0], [0.0, 0.0]]),
    "differ in length": _gram([[1e-6, 0.0], [-1e5, 1e5]]),
}
"""What gradients do -> their inner products."""


def _weights(combination: Combination, gram: Tensor, iteration: int = 0, seed: int = 0) -> Tensor:
    return combination.weights(gram, torch.ones_like(gram[0]), iteration, Random(seed))


def every_stage_has_a_finite_weight(combination: Combination) -> None:
    """Of its own for each, whether gradients agree, conflict or are 0; at any step."""
    for case, gram in CASES.items():
        for iteration in (0, 1, 25):
            found = _weights(combination, gram, iteration)
            require(found.shape == gram.shape[:1], f"{tuple(found.shape)} weights of {len(gram)} stages")
            require(torch.isfinite(found).all(), f"where gradients {case}, the weights are {found.tolist()}")


def a_gradient_alone_stays(combination: Combination) -> None:
    """A step whose images are all of one stage is that of its loss."""
    for square in (4.0, 1e-8):
        found = _weights(combination, torch.tensor([[square]], dtype=torch.float64))
        require(abs(float(found) - 1) < 1e-9, f"a gradient with nothing beside it is multiplied by {float(found):g}")


def units_do_not_matter(combination: Combination) -> None:
    """Gradients that are all twice as long, as those of a loss in another unit are, go the same way together."""
    for case, gram in CASES.items():
        if gram.any():
            found, doubled = _weights(combination, gram), _weights(combination, 4 * gram)
            same = torch.allclose(found / found.norm(), doubled / doubled.norm(), rtol=1e-6, atol=1e-9)
            told = f"{doubled.tolist()}, not {found.tolist()}"
            require(same, f"where gradients {case}, twice as long ones are weighed {told}")


def a_draw_decides(combination: Combination) -> None:
    """The same inner products, step and random numbers give the same weights, whatever was asked before."""
    for seed in range(3):
        first = _weights(combination, CASES["conflict"], seed=seed)
        _weights(combination, CASES["agree"], iteration=7, seed=9)
        again = _weights(combination, CASES["conflict"], seed=seed)
        require(torch.equal(first, again), f"asked twice, it gives {first.tolist()} and {again.tolist()}")


def it_waits_for_no_device(combination: Combination) -> None:
    """Nor looks at a number: a training step goes on while its device computes, and budgets have no numbers."""
    gram = torch.empty(3, 3, dtype=torch.float64, device="meta")
    try:
        found = combination.weights(gram, gram.new_ones(3), 0, Random(0))
    except (RuntimeError, NotImplementedError) as error:
        raise LawError(f"on a device without numbers it fails: {str(error).splitlines()[0]}") from error
    told = f"{tuple(found.shape)} on {found.device}"
    require(found.is_meta and found.shape == (3,), f"of 3 stages on meta, the weights are {told}")


LAWS = (
    *COMMON,
    every_stage_has_a_finite_weight,
    a_gradient_alone_stays,
    units_do_not_matter,
    a_draw_decides,
    it_waits_for_no_device,
)
