"""The answers of `msdk budget solve` -> a table."""

from typing import TYPE_CHECKING

from msdk.recipe.quantities import prefix_of, si_prefix, significant, written
from msdk.report.figures import millions, percent, scaled, short
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from msdk.budgeting.solutions import Solution

TITLES = {
    "macs": "MACs per call",
    "params": "parameters",
    "training-flops": "FLOPs of the whole training: forward, backward and what is recomputed",
    "memory": "bytes that training holds throughout: weights, gradients, optimiser and averages",
}


def solutions_grid(solution: "Solution") -> Grid:
    """The candidates of one solution, best first, then the nearest on both sides of the target."""
    question, found = solution.question, solution.candidates
    rows = [(str(rank), candidate) for rank, candidate in enumerate(found, 1)]
    nearest = {"below": solution.below, "above": solution.above}
    rows += [(f"nearest {side}", each) for side, each in nearest.items() if each is not None]
    gigas, unit = si_prefix(max(macs for _, each in rows for macs in each.macs))
    # All MACs of the table have one unit.
    prefix, size = (gigas, unit) if question.what == "macs" else prefix_of(question.target, question.unit)
    encoder, decoders = question.vary != "decoders", question.vary != "encoder"
    other = question.what != "macs"
    head = (
        "",
        *(["encoder"] if encoder else []),
        *(["decoders"] if decoders else []),
        f"{prefix}{question.unit}".replace("params", " parameters").strip(),
        "distance",
        *(["off proportion"] if decoders else []),
        f"{gigas}MACs by stage",
        *([f"{gigas}MACs/call"] if other else []),
        "params M",
    )
    cells = tuple(
        (
            name,
            *([str(each.encoder)] if encoder else []),
            *([" / ".join(map(str, each.decoders or ()))] if decoders else []),
            significant(each.value / size),
            f"{100 * each.distance:+.3f} %",
            *([percent(each.deviation)] if decoders else []),
            " / ".join(scaled(macs, unit) for macs in each.macs),
            *([scaled(each.equivalent["sampling"], unit)] if other else []),
            millions(each.params),
        )
        for name, each in rows
    )
    goal = written(question.target, question.unit, padded=False)
    how: list[str] = [question.convention] if question.what == "macs" else []
    how += [f"{question.weights} weights"] if question.what == "macs" else []
    title = f"Widths of {short(solution.recipe) or solution.title} for {goal}: {TITLES[question.what]}"
    notes = [
        solution.preference,
        f"{solution.combinations:,} combinations compared; {solution.counted} networks counted, the figures of "
        "the others follow exactly, and all figures shown are counted.",
    ]
    if question.what == "memory":
        notes.append(
            "Activations come on top: [budget] memory limits the peak of a step, which msdk budget --memory simulates."
        )
    if question.at_most:
        notes.append("Candidates above the target are left out.")
    return Grid(title + (f" ({', '.join(how)})" if how else ""), head, cells, tuple(notes))
