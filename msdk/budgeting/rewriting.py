"""A solution as a recipe file that extends the one it was found for."""

import os
import textwrap
from pathlib import Path
from typing import Any

import attrs
import tomlkit

from msdk.budgeting.questions import amount
from msdk.budgeting.solutions import Solution
from msdk.budgeting.widths import width_field
from msdk.decoders.base import Decoder
from msdk.recipe.structuring import to_data


def rewritten(solution: Solution, recipe: Path, out: Path) -> str:
    """TOML that extends a recipe file with the widths of the best candidate, and says how they were found.

    Args:
        solution: Its first candidate is written; one that `solve` gave, which has its recipe.
        recipe: The file that was solved for, as it stands: without overrides.
        out: Where the text is to be written, which `extends` is relative to.
    """
    best, question = solution.candidates[0], solution.question
    found = best.recipe
    assert found is not None
    asked = amount(question.target, question.what)
    what = {
        "macs": f"per call ({question.convention} convention, {question.weights} weights)",
        "params": "in all",
        "training-flops": "of training",
        "memory": "held throughout training (weights, gradients, optimiser, averages), without activations",
    }[question.what]
    lines = [
        f"Found by `msdk budget solve {recipe}` for {asked} {what}: it has {amount(best.value, question.what)}, "
        f"{100 * best.distance:+.3f} %.",
        f"{amount(best.params, 'params')}; stages of {' / '.join(amount(macs, 'macs') for macs in best.macs)}.",
        solution.preference,
    ]
    document = tomlkit.document()
    for row in (row for line in lines for row in textwrap.wrap(line, 118)):
        document.add(tomlkit.comment(row))
    document["extends"] = Path(os.path.relpath(recipe.resolve(), out.resolve().parent)).as_posix()
    document["title"] = f"{recipe.resolve().parent.name}/{recipe.stem} solved for {asked}: {best.words()}"
    if best.encoder is not None:
        document["encoder"] = {width_field(found.encoder_of(0), "encoder"): best.encoder}
    if best.decoders is not None:
        tables = tomlkit.aot()
        for decoder in found.decoders:
            tables.append(tomlkit.item(_told(decoder)))
        document["decoders"] = tables
    if question.convention != found.budget.convention:
        document["budget"] = {"convention": question.convention}
    return tomlkit.dumps(document)


def _told(decoder: Decoder) -> dict[str, Any]:
    """A decoder as a recipe has it, without the fields that are as by default, except for its width."""
    defaults = {field.name: field.default for field in attrs.fields(type(decoder))}
    width = width_field(decoder, "decoders")
    unchanged = {name for name, default in defaults.items() if getattr(decoder, name) == default and name != width}
    return {key: value for key, value in to_data(decoder).items() if key not in unchanged}
