"""The answers of `msdk budget solve` -> a table."""

from collections.abc import Mapping
from typing import Any

from msdk.report.figures import millions, percent, scaled, short, si_prefix
from msdk.report.grid import Grid

Json = Mapping[str, Any]

TITLES = {
    "macs": "MACs per call",
    "params": "parameters",
    "training-flops": "FLOPs of the whole training, forward and backward",
    "memory": "bytes of weights, gradients, optimiser and averaged weights",
}


def solutions_grid(solution: Json) -> Grid:
    """The candidates of one solution, best first, then the nearest on both sides of the target."""
    question, found = solution["question"], solution["candidates"]
    rows = [(str(rank), candidate) for rank, candidate in enumerate(found, 1)]
    rows += [(f"nearest {side}", each) for side, each in solution["nearest"].items() if each is not None]
    prefix, size = _prefix(question["target"])
    gigas, unit = si_prefix(max(stage["macs"] for _, each in rows for stage in each["stages"]))
    encoder, decoders = question["vary"] != "decoders", question["vary"] != "encoder"
    other = question["what"] != "macs"
    head = (
        "",
        *(["encoder"] if encoder else []),
        *(["decoders"] if decoders else []),
        f"{prefix}{question['unit']}".replace("params", " parameters").strip(),
        "distance",
        *(["off proportion"] if decoders else []),
        f"{gigas}MACs by stage",
        *([f"{gigas}MACs/call"] if other else []),
        "params M",
    )
    cells = tuple(
        (
            name,
            *([str(each["widths"]["encoder"])] if encoder else []),
            *([" / ".join(map(str, each["widths"]["decoders"]))] if decoders else []),
            f"{each['value'] / size:.5g}",
            f"{100 * each['distance']:+.3f} %",
            *([percent(each["deviation"])] if decoders else []),
            " / ".join(scaled(stage["macs"], unit) for stage in each["stages"]),
            *([scaled(each["equivalent_macs"]["sampling"], unit)] if other else []),
            millions(each["params"]),
        )
        for name, each in rows
    )
    goal = f"{question['target'] / size:.5g} {prefix}{question['unit']}".replace("params", " parameters")
    how = [question["convention"]] if question["what"] in ("macs", "training-flops") else []
    how += [f"{question['weights']} weights"] if question["what"] == "macs" else []
    title = f"Widths of {short(solution['recipe']) or solution['title']} for {goal}: {TITLES[question['what']]}"
    notes = [
        solution["preference"],
        f"{solution['combinations']:,} combinations compared; {solution['counted']} networks counted, the figures of "
        "the others follow exactly, and all figures shown are counted.",
    ]
    if question["at_most"]:
        notes.append("Candidates above the target are left out.")
    return Grid(title + (f" ({', '.join(how)})" if how else ""), head, cells, tuple(notes))


def _prefix(value: float) -> tuple[str, float]:
    sizes = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
    return next(((name, size) for name, size in sizes if value >= size), ("", 1.0))
