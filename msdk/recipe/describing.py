"""What `msdk show` says of the tables of a recipe: each key with type, default and meaning, from its class."""

import inspect
from typing import Any

from msdk.encoders.adapter import Adapter
from msdk.recipe.evaluations import Evaluation
from msdk.recipe.fields import BudgetOptions, Recipe, Sampling, Stages, Training
from msdk.recipe.guides import Guide
from msdk.recipe.keeping import Keep
from msdk.recipe.stage_draws import StageDraw
from msdk.recipe.starts import Init
from msdk.registry import registry_of
from msdk.registry.describing import Description, fields_of, fields_table, purpose

TABLES: dict[str, type[Any]] = {
    "recipe": Recipe,
    "stages": Stages,
    "adapter": Adapter,
    "init": Init,
    "training": Training,
    "stage_draw": StageDraw,
    "keep": Keep,
    "sampling": Sampling,
    "guide": Guide,
    "evaluation": Evaluation,
    "budget": BudgetOptions,
}
"""Table -> its class; "recipe" is the file itself. Every other table is a part, of which `msdk list` has the names."""


def describe_table(name: str) -> Description:
    """A table in words.

    Args:
        name: One of `TABLES`.
    """
    cls = TABLES[name]
    owner, version = registry_of("encoders").owner()
    return Description(
        kind="tables",
        singular="table",
        name=name,
        owner=owner,
        version=version,
        file=inspect.getsourcefile(cls) or "",
        target=f"{cls.__module__}:{cls.__qualname__}",
        description=purpose(cls),
        fields=fields_of(cls),
    )


def tables_page() -> str:
    """A reference page of all keys of a recipe that are no parts' own, in Markdown."""
    lines = [
        "# Tables of a recipe",
        "",
        "Every key with type, default and meaning, as `msdk show recipe`, `msdk show training` and so on print them.",
        "A type such as `Sampler` is a part: its name alone, or a table with its name and settings (`msdk list`,",
        "`msdk show sampler NAME`).",
        "",
    ]
    for name in TABLES:
        table = describe_table(name)
        title = {
            "recipe": "The file",
            "stage_draw": "`stage_draw` of `[training]`",
            "keep": "`keep` of `[training]`",
        }.get(name, f"`[{name}]`")
        lines += [f"## {title}", "", table.description, "", *fields_table(table.fields)]
    return "\n".join(lines).rstrip() + "\n"
