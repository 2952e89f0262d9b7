"""What is advised, as tables."""

from typing import TYPE_CHECKING

from msdk.recipe.quantities import written
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from msdk.advising import Advice
    from msdk.advising.advice import Range


def advice_grids(found: "Advice") -> list[Grid]:
    """The stages that are proposed, and the laws that the proposal comes from."""
    stages = tuple(
        (
            str(number),
            f"{each.low:.4g} .. {'inf' if each.high is None else f'{each.high:.4g}'}",
            f"{100 * each.drawn:.1f} %",
            f"{each.floor:.4f}",
            str(each.width),
        )
        for number, each in enumerate(found.stages)
    )
    unified = f"unified with {found.unified_width} channels: {found.unified_iterations:,} iterations"
    notes = (
        f"Edges by {found.edges_by}. For {written(found.budget, 'FLOPs')}: {found.iterations:,} iterations, predicted "
        f"loss {_range(found.staged_loss)}; {unified}, {_range(found.unified_loss)}.",
        f"Probes of {len(found.seeds)} seeds took {written(found.probed_flops, 'FLOPs')}. The floor is the loss of the "
        f"data's optimal denoiser. Intervals of {100 * found.confidence:.0f} %.",
    )
    head = ("stage", "ratio", "of training", "floor", "channels")
    laws = tuple(
        (
            f"{'unified' if each.stage is None else f'stage {each.stage}'}, {each.width}",
            _range(each.a),
            _range(each.b),
            written(each.unit, "FLOPs"),
            f"{each.error:.4f}",
        )
        for each in found.laws
    )
    law = ("network, channels", "a", "b", "unit", "misses by")
    notes_of_laws = (
        *(f"c = {_range(each.c)}, of all in common." for each in found.laws[:1]),
        "Known at half of the probes alone, laws miss the difference of staged and unified networks at their end by "
        f"{found.foresight:.4f} a doubling; the interval of what is saved adds that for each one from there on.",
    )
    return [
        Grid(f"Stages for {found.recipe}", head, stages, notes),
        Grid("Loss = a + b (FLOPs spent there / unit)^-c", law, laws, notes_of_laws),
    ]


def _range(found: "Range") -> str:
    value, low, high = ("never" if each is None else f"{each:.4f}" for each in (found.estimate, found.low, found.high))
    return f"{value} ({low} to {high})"
