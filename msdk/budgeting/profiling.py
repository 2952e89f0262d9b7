"""How much each stage's decoder has to supply, by the optimal denoiser of a clustering. Imports no torch."""

import bisect
import json
import math
from pathlib import Path
from typing import Any

from msdk.budgeting.questions import Profile
from msdk.errors import TargetError

STRATEGY = "optimal-denoiser"

LEAST = 1e-3
"""Smallest share of the data's variance that a stage is taken to need, so that no decoder vanishes."""


def profile_of(path: Path, stages: int) -> Profile:
    """The proportion of the decoders' widths that a clustering artefact suggests.

    The capacity of stage k is the share of the data's variance that the optimal denoiser D(x_t) = E[x_0 | x_t] restores
    there, 1 - E|x_0 - D(x_t)|^2 / E|x_0 - E x_0|^2, as a mean over the times drawn in the stage. It is what a network
    gains in the squared error of x_0 over the constant E x_0, which needs no capacity at all: 1 where images are still
    whole, 0 where only their mean is left. By the law of total variance the gain is E|D(x_t) - E x_0|^2, the power of
    what the decoder has to draw, so that it is measured without cancellation. The error of eps* is the wrong measure:
    eps* = (x_t / alpha - D) / ratio has the error of D over ratio^2, which vanishes at both ends of time and would give
    the first stage, which draws every detail, the smallest decoder.

    A decoder's parameters and MACs grow with the square of its width, so widths are as the roots of the capacities.
    Source: ours. On CIFAR-10 it gives capacities of 1 : 0.42 : 0.06 (3000 draws, seed 0), where the paper's decoders,
    which it found by trying, have parameters of 1 : 0.51 : 0.03.

    Args:
        path: What `msdk cluster` wrote.
        stages: Decoders of the recipe.

    Raises:
        TargetError: The file is no such artefact, holds no optimal denoiser's errors, or has other stages.
    """
    try:
        strategies: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["strategies"]
        found = next((one for one in strategies if one["name"] == STRATEGY), None)
        edges = [] if found is None else [float(edge) for edge in found["edges_t"]]
        curves = {} if found is None else found["curves"]
    except OSError as error:
        raise TargetError(f"the clustering {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{path} is no clustering, as `msdk cluster` writes it") from error
    if not {"t", "error", "signal"} <= set(curves):
        raise TargetError(
            f"{path} has no errors of the optimal denoiser: make it anew by `msdk cluster R --strategy {STRATEGY}`"
        )
    if len(edges) + 1 != stages:
        raise TargetError(f"{path} has {len(edges) + 1} stages, but the recipe has {stages} decoders: cluster it anew")
    error, signal = [0.0] * stages, [0.0] * stages
    for t, missed, restored in zip(curves["t"], curves["error"], curves["signal"], strict=True):
        stage = bisect.bisect_left(edges, t)
        error[stage] += missed
        signal[stage] += restored
    shares = [max(gain / max(gain + loss, LEAST), LEAST) for gain, loss in zip(signal, error, strict=True)]
    capacity = tuple(share / max(shares) for share in shares)
    cuts = " / ".join(f"{edge:.4g}" for edge in edges)
    return Profile(
        ratio=tuple(math.sqrt(each) for each in capacity),
        capacity=capacity,
        how=(
            f"By {path.name}, the optimal denoiser restores {', '.join(f'{100 * share:.3g} %' for share in shares)} of "
            f"the data's variance in the stages cut at t = {cuts}; decoders are to have parameters in that proportion, "
            "hence widths in that of the square roots."
        ),
    )
