"""`msdk recipe check|show|schema|diff`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import AsJson, Set, is_base, load
from msdk.errors import RecipeError, RunError, printable

recipes = App(name="recipe", help="Check, show and compare recipe files.")


@recipes.command(name="check")
def check_recipe(
    recipe: list[Path],
    /,
    *,
    build: Annotated[
        bool, Parameter(negative="", help="Also build the networks, without memory, and see what they make of images.")
    ] = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> int:
    """Check recipe files; all mistakes are told at once. Imports no torch, unless --build asks for it.

    Examples: msdk recipe check recipes/digits/*.toml / msdk recipe check mine.toml --build

    Parameters
    ----------
    recipe
        TOML files, or run folders. What others of them extend may lack keys.
    """
    from msdk.recipe import cautions
    from msdk.recipe.loading import Check

    also: list[Check] = []
    if build:
        from msdk.denoiser.trial import misbuilt

        also.append(misbuilt)
    found: list[dict[str, object]] = []
    code = 0
    for path in recipe:
        one: dict[str, object] = {"recipe": str(path), "good": True, "problems": []}
        try:
            loaded = load(path, overrides, also)
        except RecipeError as error:
            if is_base(path, error, recipe):
                continue
            code = max(code, display.failed(error))
            told = [{"path": each.path, "message": each.message, "source": each.source} for each in error.problems]
            one |= {"good": False, "problems": told}
        else:
            stages = "edges by " + (loaded.stages.ways() or ["one stage"])[0]
            told = list(cautions(loaded))
            one |= {"decoders": len(loaded.decoders), "stages": stages, "cautions": told}
            if not as_json:
                display.say(f"{path} is a good recipe: {len(loaded.decoders)} decoder(s), {stages}")
            for sentence in told:
                display.warn(f"{path}: {sentence}" if len(recipe) > 1 else sentence)
        found.append(one)
    if as_json:
        display.print_json(found)
    elif len(recipe) == 1 and not code:
        display.hint("budget", recipe[0], overrides=overrides)
    return code


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
