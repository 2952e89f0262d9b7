"""What evaluating a run took, as its ledger has it. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from msdk.runs.files import write_json
from msdk.runs.writer import written_by


def costs(run: Path) -> dict[str, dict[str, Any]]:
    """The cost of each evaluation of a run, by its name; what cannot be read is left out."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((run / "evaluations").glob("*.json")):
        try:
            cost = json.loads(path.read_bytes())["cost"]
            found[path.stem] = {key: cost[key] for key in ("images", "nfe", "flops", "seconds")}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def note_costs(run: Path) -> None:
    """Puts them into ledger.json, unless another process writes that now: training does so at its next line."""
    file = run / "ledger.json"
    try:
        ledger = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(ledger, dict) and not written_by(run):
        write_json(file, {**ledger, "evaluations": costs(run)})
