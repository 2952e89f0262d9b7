"""`msdk recipe check|show|schema|diff`."""

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from msdk.cli import display
from msdk.cli.options import (
    AsJson,
    Set,
    load,
)
from msdk.errors import RunError, printable

if TYPE_CHECKING:
    pass


recipes = App(name="recipe", help="Check, show and compare recipe files.")


@recipes.command(name="check")
def check_recipe(recipe: Path, /, *, overrides: Set = None) -> None:
    """Check recipe files; all mistakes are told at once. Imports no torch.

    Examples: msdk recipe check recipes/digits/multistage.toml

    Parameters
    ----------
    recipe
        A TOML file.
    """
    loaded = load(recipe, overrides)
    stages = "edges by " + (loaded.stages.ways() or ["one stage"])[0]
    display.say(f"{recipe} is a good recipe: {len(loaded.decoders)} decoder(s), {stages}")


@recipes.command(name="show")
def show_recipe(recipe: Path, /, *, overrides: Set = None, as_json: AsJson = False) -> None:
    """Print a recipe with everything it extends and every default written out.

    Examples: msdk recipe show recipes/digits/multistage.toml --set training.lr=1e-3

    Parameters
    ----------
    recipe
        A TOML file.
    """
    from msdk.recipe import to_toml
    from msdk.recipe.structuring import to_data

    loaded = load(recipe, overrides)
    if as_json:
        display.print_json(to_data(loaded))
        return
    display.show_lines(to_toml(loaded))
    if loaded.stages.from_ is not None:
        from msdk.clustering import clusters_of
        from msdk.report import clusters_lines

        origin = loaded.stages.from_
        try:
            lines = clusters_lines(clusters_of(origin.content, origin.path), str(origin.path))
        except RunError:  # edges are all that a recipe needs of it
            lines = [f"The stages are those of {origin.path}."]
        display.show_lines("".join(f"\n# {printable(line)}" for line in lines))


@recipes.command(name="schema")
def show_schema() -> None:
    """Print a JSON Schema of recipe files, with the parts of installed plugins, for editors. Imports no torch itself.

    Examples: msdk recipe schema > msdk.schema.json (then put this on top of a recipe: #:schema ./msdk.schema.json)
    """
    from msdk.recipe.schema import recipe_schema

    found, broken = recipe_schema()
    for reason in broken:
        display.warn(f"left out: {reason}")
    display.print_json(found)


@recipes.command(name="diff")
def diff_recipes(a: Path, b: Path, /, *, overrides: Set = None, as_json: AsJson = False) -> None:
    """Compare two recipes key by key, with all that they extend and every default; only what differs is shown.

    Exits 0 also when they differ. `msdk budget A B` says what it does to parameters and costs. Imports no torch.

    Examples: msdk recipe diff recipes/cifar10/dpm-unified.toml recipes/cifar10/dpm-multistage.toml

    Parameters
    ----------
    a
        A TOML file, or a run folder.
    b
        Another; overrides apply to both.
    """
    from msdk.recipe.differences import compare

    found = [one.as_json() for one in compare(load(a, overrides), load(b, overrides))]
    if as_json:
        display.print_json(found)
        return
    from msdk.report import diff_grid

    display.show(diff_grid(str(a), str(b), found))
