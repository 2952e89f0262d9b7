"""Recipe files: read, merged, structured and checked, and written again.

A recipe file is TOML. It may extend others, a command line may override single keys, and every mistake in the result
is reported at once with the file and the path it stands at.
"""

import contextlib
import copy
import os
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import tomli_w

from msdk.arguments import as_annotated
from msdk.errors import PartError, Problem, RecipeError, RunError, UnknownNameError, quoted
from msdk.recipe.checks import Check, misfits
from msdk.recipe.encoder_checks import given_wrongly
from msdk.recipe.fields import LEFT_TO_THE_SCHEDULE, Recipe
from msdk.recipe.files import File
from msdk.recipe.merging import MOST_FILES, OVERRIDE, Merged, Sources, source_of
from msdk.recipe.salvaging import UNKNOWN, failing, salvaged
from msdk.recipe.structuring import MISSING, NamelessError, flattened_errors, strict_converter, to_data
from msdk.registry.local_code import run_code

T = TypeVar("T")


@as_annotated
def load_recipe(path: str | Path, overrides: Sequence[str] = (), *, also: Sequence[Check] = ()) -> Recipe:
    """Reads, merges and checks a recipe file.

    Args:
        path: A TOML file.
        overrides: `"dotted.key=value"`, applied last; the value is TOML, or a bare word. `decoders.0.channels=64`
            reaches into a list.
        also: Checks beyond those of every recipe.

    Raises:
        RecipeError: Every mistake at once, with file and path.
    """
    path = Path(path)
    merged = Merged()
    merged.read(path)
    if merged.unread and not merged.data:  # of nothing, changes say nothing
        raise RecipeError(str(path), merged.unread)
    alone = copy.deepcopy(merged.data), dict(merged.sources)
    wrong = [problem for text in overrides if (problem := merged.override(text))]

    def made(data: Mapping[str, Any], sources: Sources, wrong: Sequence[Problem]) -> Recipe:
        whole = not merged.unread
        return structure(data, str(path), sources, [*merged.unread, *wrong], whole=whole, also=also)

    try:
        return made(merged.data, merged.sources, wrong)
    except RecipeError as error:
        if not overrides:
            raise
        try:
            made(*alone, [])
            own = ()
        except RecipeError as before:
            own = before.problems
        raise _blamed(error, own, overrides) from None


def _blamed(error: RecipeError, own: Sequence[Problem], overrides: Sequence[str]) -> RecipeError:
    """The error, with overrides named as the source of what is wrong with them alone."""
    before = {(problem.path, problem.message) for problem in own}
    for problem in error.problems:
        if (problem.path, problem.message) not in before and not problem.source.startswith(OVERRIDE):
            problem.source = " ".join(f"{OVERRIDE} {text}" for text in overrides)
    return RecipeError(error.source, error.problems)  # its headline says so where all of them are


def lacking(path: Path, error: RecipeError, others: Iterable[Path]) -> list[str]:
    """The keys that a file lacks as a recipe of its own, where it is one that others extend; else none.

    Args:
        path: The file.
        error: What is wrong with it.
        others: Recipe files, perhaps with this one.
    """
    if not all(problem.message == MISSING and "." not in problem.path for problem in error.problems):
        return []
    here = Path(os.path.realpath(path))
    for other in others:
        merged = Merged()
        if Path(os.path.realpath(other)) != here:
            with contextlib.suppress(RecipeError):
                merged.read(other)
        if here in merged.files:
            return [problem.path for problem in error.problems]
    return []


def recipe_of(model: Recipe | str | Path) -> Recipe:
    """A recipe, that of a file, or that of a run folder: what names work where recipes do.

    Raises:
        RecipeError: The file holds no good recipe.
        RunError: It is a folder without one.
    """
    return model if isinstance(model, Recipe) else load_recipe(recipe_file(Path(model)))


def recipe_file(path: Path) -> Path:
    """A recipe's file, or that of a run folder.

    Raises:
        RunError: It is a folder without one.
    """
    if not path.is_dir():
        return path
    if not (path / "recipe.toml").is_file():
        raise RunError(f"{path} is a folder without a recipe.toml: name a recipe, or a folder that msdk has trained in")
    return path / "recipe.toml"


def structure(
    data: Mapping[str, Any],
    source: str,
    sources: "Sources | None" = None,
    wrong: Sequence[Problem] = (),
    *,
    whole: bool = True,
    also: Sequence[Check] = (),
) -> Recipe:
    """Plain data -> Recipe, with all checks; problems that are already known are told with the rest.

    Args:
        data: What the file says, with all that it extends.
        source: The file.
        sources: Which file says what.
        wrong: Problems that are known.
        whole: Whether `data` is all; false where a file could not be read, in which the rest may stand.
        also: Checks beyond those of every recipe, for parts that nothing else is wrong with.

    Raises:
        RecipeError: Every mistake at once, of all phases, as far as each can be told despite the others.
    """
    sources = sources or {}
    data = _placed(data, sources)
    unused = list(_used(data))
    problems = [*wrong, *unused, *(given_wrongly(data) if whole else ())]
    unsure = (() if whole else (KeyError, NamelessError)) + ((UnknownNameError,) if unused else ())
    recipe = None
    try:
        recipe = strict_converter().structure(data, Recipe)
    except Exception as error:
        problems += flattened_errors(error, unsure=unsure)
    else:
        recipe = _spending(_rebased(recipe, sources))
    judged = recipe if recipe is not None and whole else _salvaged(data, whole=whole)
    told = {problem.path for problem in problems}
    problems += [problem for problem in (*_edges_twice(data), *misfits(judged)) if problem.path not in told]
    told = {problem.path for problem in problems}
    problems += (
        problem
        for check in also
        for problem in check(judged)
        if not any(path == problem.path or path.startswith(f"{problem.path}.") for path in told)
    )
    if recipe is None or problems:
        for problem in problems:
            problem.source = problem.source or source_of(problem.path, sources)
        raise RecipeError(source, problems)
    return recipe


def _salvaged(data: Mapping[str, Any], *, whole: bool) -> Recipe:
    """A recipe of what is not wrong in the data."""
    recipe: Recipe = salvaged(data, Recipe, defaults=whole, finished=False)
    for key, filled in (*LEFT_TO_THE_SCHEDULE.items(), ("sampler", lambda recipe: _spending(recipe).sampler)):
        try:
            value = filled(recipe)
        except Exception:
            value = UNKNOWN
        object.__setattr__(recipe, key, value)
    return recipe


def _edges_twice(data: Mapping[str, Any]) -> Iterable[Problem]:
    """The one pair of keys that a recipe does not tell apart any more."""
    stages = data.get("stages")
    if isinstance(stages, Mapping) and {"edges_ratio", "from"} <= stages.keys():
        yield Problem("stages", "give one of edges_ratio, from, not 2")


def checked(recipe: Recipe, source: str) -> Recipe:
    """The recipe itself, once its parts are known to fit: for one that was changed after it was loaded.

    Raises:
        RecipeError: Every mistake at once.
    """
    problems = list(misfits(recipe))
    if problems:
        raise RecipeError(source, problems)
    return recipe


def _placed(data: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    """The data, with the whole path of every file that is read with the recipe: those of `use` and `stages.from`."""

    def place(text: object, path: tuple[str, ...]) -> object:
        # Anything else than a file name is told as such later on.
        here = isinstance(text, str) and "\0" not in text and not text.startswith("~")
        return str(_from_its_folder(Path(typing.cast("str", text)), path, sources)) if here else text

    placed, files, stages = dict(data), data.get("use"), data.get("stages")
    if isinstance(files, list):
        placed["use"] = [
            place(text, ("use", str(index))) for index, text in enumerate(typing.cast("list[object]", files))
        ]
    if isinstance(stages, Mapping) and "from" in stages:
        artefact = place(stages["from"], ("stages", "from"))
        placed["stages"] = {**typing.cast("Mapping[str, Any]", stages), "from": artefact}
    return placed


def _used(data: dict[str, Any]) -> Iterable[Problem]:
    """Reads and runs the files of `use`, so that their parts are registered before names are looked up."""
    files = data.get("use")
    if isinstance(files, list) and len(typing.cast("list[object]", files)) > MOST_FILES:
        data["use"] = []
        yield Problem("use", f"names more than {MOST_FILES} files")
        return
    for index, text in enumerate(typing.cast("list[object]", files) if isinstance(files, list) else ()):
        if isinstance(text, str):  # anything else is told as a wrong type
            data["use"][index] = File(Path(text), b"")  # for one that cannot be read, which is told here

            def run(text: str = text, index: int = index) -> None:
                try:
                    path = Path(text).expanduser()
                except RuntimeError as error:
                    raise PartError(f"there is no home folder for {quoted(text)}") from error
                file = data["use"][index] = File.read(path)  # what ran is what the recipe holds
                run_code(file.path, file.content)

            yield from failing(f"use.{index}", run)


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe, every default written out."""
    return tomli_w.dumps(to_data(recipe))


def _spending(recipe: Recipe) -> Recipe:
    """The recipe, its sampler set for the wanted number of network calls."""
    nfe = recipe.sampling.nfe
    return recipe if nfe is None else attrs.evolve(recipe, sampler=recipe.sampler.spending(nfe))


def _rebased(value: T, sources: Sources, path: tuple[str, ...] = ()) -> T:
    """Relative files are meant from the folder of the recipe file that names them."""
    if attrs.has(type(value)):
        changes: dict[str, Any] = {}
        for field in attrs.fields(type(value)):
            old = getattr(value, field.name)
            new = _rebased(old, sources, (*path, field.name.rstrip("_")))
            if new is not old:
                changes[field.alias] = new
        return attrs.evolve(typing.cast("Any", value), **changes) if changes else value
    if isinstance(value, tuple):
        items = typing.cast("tuple[Any, ...]", value)
        rebased = tuple(_rebased(item, sources, (*path, str(index))) for index, item in enumerate(items))
        changed = any(new is not old for new, old in zip(rebased, items, strict=True))
        return typing.cast("T", rebased) if changed else value
    return typing.cast("T", _from_its_folder(value, path, sources)) if isinstance(value, Path) else value


def _from_its_folder(file: Path, path: tuple[str, ...], sources: Sources) -> Path:
    if file.is_absolute():
        return file
    source = source_of(".".join(path), sources)
    folder = Path.cwd() if source.startswith(OVERRIDE) or not source else Path(source).parent
    return Path(os.path.realpath(folder / file))  # Path.resolve raises where symbolic links lead in a circle
