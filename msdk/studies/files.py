"""Study files: read, with one of their sizes and what a command line adds, and checked. Imports no torch."""

import json
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from msdk.errors import MsdkError, Problem, RecipeError, nearest
from msdk.recipe.files import read_bounded
from msdk.recipe.structuring import flattened_errors, strict_converter
from msdk.studies.fields import Range, Study

MOST_BYTES = 2**17
"""Of a study file."""

OWN = {
    "training.seed": "seeds",
    "data.held_out": "held_out",
    "training.validate_every": "checkpoints",
    "training.evaluate_every": "evaluate_every",
}
"""Keys of recipes that a study sets in all arms -> where it says them."""

OVERLAYS = ("study", "arms")
"""Tables of a size, which lie over those of the file."""


def load_study(
    path: str | Path,
    size: str | None = None,
    *,
    seeds: Sequence[int] | None = None,
    over: Sequence[str] = (),
    overrides: Sequence[str] = (),
    best_of: Sequence[str] = (),
    budget: str | float | None = None,
    only: Sequence[str] = (),
) -> Study:
    """Reads a study file.

    Args:
        path: A TOML file.
        size: Which of its `[sizes]`; its own default when not given.
        seeds: In the place of the file's.
        over: `"key=[a, b]"` for all arms, or `"ARM:key=[a, b]"` for one of them.
        overrides: `"key=value"`, over `set` of all arms.
        best_of: Keys of grids for all arms that these are tuned by, besides the file's.
        budget: In the place of the file's.
        only: Arms that the baseline is compared with; all of them when not given.

    Raises:
        RecipeError: Every mistake of the file, with its key.
        MsdkError: It cannot be read, or there is no such size, or what was added is wrong.
    """
    path = Path(path)
    try:
        data = tomllib.loads(read_bounded(path, MOST_BYTES).decode())
    except (ValueError, RecursionError) as error:
        if isinstance(error, MsdkError):
            raise
        raise RecipeError(str(path), [Problem("", f"is not valid TOML: {error}")]) from error
    data = _of_size(data, size, path)
    own: Any = data.setdefault("study", {})  # what is no table is told with the rest
    if only:
        _keep(data, own, only)
    if isinstance(own, dict):
        if seeds is not None:
            own["seeds"] = list(seeds)
        if budget is not None:
            own["budget"] = budget
        if best_of and isinstance(own.get("best_of", []), list):
            own["best_of"] = list(dict.fromkeys([*own.get("best_of", []), *best_of]))
        for text in overrides:
            key, value = assigned("--set", text)
            own["set"] = {**own.get("set", {}), key: value}
    for text in over:
        _add_grid(data, text)
    return structured(data, path)


def structured(data: Mapping[str, Any], path: Path) -> Study:
    """The study of plain data; files of recipes are meant from the folder of `path`.

    Raises:
        RecipeError: Every mistake at once.
    """
    try:
        study = strict_converter().structure(data, Study)
    except Exception as error:
        raise RecipeError(str(path), list(flattened_errors(error))) from error
    problems: list[Problem] = []
    if len(study.arms) < 1 or (len(study.arms) < 2 and not _grids(study)):
        problems.append(Problem("arms", "name two arms or more, or one with `over`: a study compares"))
    if study.baseline not in study.arms:
        words = f"no arm '{study.baseline}'.{nearest(study.baseline, study.arms)} Known: {_listed(study.arms)}"
        problems.append(Problem("study.baseline", words))
    problems += [
        Problem("study.best_of", f"'{key}' is no key of [study] over, so not all arms are tuned alike: add it there")
        for key in study.study.best_of
        if key not in study.study.over
    ]
    every = study.study.evaluate_every
    if every is not None and every % study.study.checkpoints:
        words = f"a multiple of `checkpoints`, which is {study.study.checkpoints}, got {every}"
        problems.append(Problem("study.evaluate_every", words))
    for place, table in (("study", study.study), *((f"arms.{name}", arm) for name, arm in study.arms.items())):
        problems += [
            Problem(f"{place}.{where}", f"'{key}' is the study's own, the same in all arms: `{OWN[key]}` in [study]")
            for where, keys in (("set", table.set), ("over", table.over))
            for key in keys
            if key in OWN
        ]
        wrong = {key: _no_grid(values) for key, values in table.over.items()}
        problems += [Problem(f"{place}.over", f"'{key}' {words}") for key, words in wrong.items() if words]
        if study.study.equal == "flops" and "training.iterations" in table.over:
            words = "'training.iterations' is decided by equal = \"flops\": leave one of them out"
            problems.append(Problem(f"{place}.over", words))
    problems += _of_search(study)
    if problems:
        raise RecipeError(str(path), problems)
    folder = Path(os.path.realpath(path)).parent
    arms = {name: attrs.evolve(arm, recipe=_near(folder / arm.recipe)) for name, arm in study.arms.items()}
    return attrs.evolve(study, arms=arms)


def _of_search(study: Study) -> list[Problem]:
    """What is wrong with what is to be searched."""
    options, search = study.study, study.study.search
    if search is None:
        words = 'is of a search, and there is none: add search = { name = "tpe" } to [study]'
        return [Problem(f"arms.{name}.space", words) for name, arm in study.arms.items() if arm.space]
    problems: list[Problem] = []
    places = {
        "study.search.space": search.space,
        **{f"arms.{name}.space": arm.space for name, arm in study.arms.items()},
    }
    if not any(places.values()):
        words = 'has no key, so there is nothing to search: for example { "training.lr" = { low = 1e-4, high = 1e-2 } }'
        problems.append(Problem("study.search.space", words))
    if options.best_of:
        problems.append(Problem("study.best_of", "a search tunes the arms already: leave one of the two out"))
    settled = (*OWN, *(("training.iterations",) if options.equal == "flops" else ()))
    for place, space in places.items():
        gridded = {*options.over}
        for name, arm in study.arms.items():
            gridded |= set(arm.over) if place in ("study.search.space", f"arms.{name}.space") else set()
        for key, values in space.items():
            wrong = _of_key(values, search.name)
            if key in settled:
                wrong = "is set by the study itself"
            elif key in gridded:
                wrong = "is in `over` as well: leave one of the two out"
            if wrong:
                problems.append(Problem(place, f"'{key}' {wrong}"))
    return problems


def _of_key(values: Range | tuple[Any, ...], chooser: str) -> str:
    if isinstance(values, Range):
        endless = chooser == "grid" and values.step is None and not values.whole
        return "has no end of values, of which a grid cannot be: add `step`, or list them" if endless else ""
    return _no_grid(values)


def _no_grid(values: Sequence[Any]) -> str:
    """What is wrong with the values of a grid; empty where nothing is."""
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    return f"has {inline(twice[0])} twice" if twice else "" if values else "has no value"


def _grids(study: Study) -> bool:
    return bool(study.study.over) or any(arm.over for arm in study.arms.values())


def _near(path: Path) -> Path:
    """A file as one that works here would name it."""
    whole = Path(os.path.realpath(path))
    here = Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) else whole


def _of_size(data: dict[str, Any], size: str | None, path: Path) -> dict[str, Any]:
    """The data with those of a size over them."""
    sizes, own = data.pop("sizes", {}), data.get("study", {})
    default = own.get("size", "") if isinstance(own, dict) else ""
    wanted = size or default
    if not isinstance(sizes, dict) or not all(isinstance(each, dict) for each in sizes.values()):
        raise RecipeError(
            str(path), [Problem("sizes", "expected tables, [sizes.NAME.study] and [sizes.NAME.arms.NAME]")]
        )
    if not wanted:
        if sizes:
            raise MsdkError(f"{path} has the sizes {', '.join(sizes)}: name one by --size, or by `size` in [study]")
        return data
    if wanted not in sizes:
        known = ", ".join(sizes) or "none"
        raise MsdkError(f"{path} has no size '{wanted}'.{nearest(wanted, sizes)} Known: {known}")
    over = typing.cast("dict[str, Any]", sizes[wanted])
    unknown = [key for key in over if key not in OVERLAYS]
    if unknown:
        raise RecipeError(
            str(path), [Problem(f"sizes.{wanted}.{unknown[0]}", f"unknown key. Known: {', '.join(OVERLAYS)}.")]
        )
    merged = _merged(data, over)
    if isinstance(merged.get("study"), dict):
        merged["study"]["size"] = wanted
    return merged


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merge, everything else replaces; a key of a recipe in `set` or `over` is one key, dots and all."""
    found = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _merged(found[key], typing.cast("dict[str, Any]", value)) if both else value
    return found


def _keep(data: dict[str, Any], own: Any, only: Sequence[str]) -> None:
    """Takes arms out that are not asked for; the baseline stays."""
    arms: Any = data.get("arms", {})
    if not isinstance(arms, dict) or not isinstance(own, dict):  # told with the rest
        return
    found = typing.cast("dict[str, Any]", arms)
    baseline = own.get("baseline") or next(iter(found), None)
    if baseline not in found:  # likewise
        return
    for name in only:
        if name == baseline:
            raise MsdkError(f"--arm {name}: that is the baseline, which all are compared with: name another arm")
        if name not in found:
            words = f"--arm {name}: no such arm.{nearest(name, found)} Known: {_listed(found)}"
            raise MsdkError(f"{words}. Repeat --arm for several")
    data["arms"] = {name: arm for name, arm in found.items() if name in (baseline, *only)}


def _listed(names: Iterable[str]) -> str:
    """Names of arms, which may have commas in them."""
    return ", ".join(f"'{name}'" for name in names)


def _add_grid(data: dict[str, Any], text: str) -> None:
    """Adds `[ARM:]key=[values]` to a grid."""
    key, values = assigned("--over", text)
    arm, colon, rest = key.partition(":")
    if not isinstance(values, list):
        raise MsdkError(f"--over {text}: give a list of values, for example training.lr=[1e-3,3e-3]")
    table: Any = data.get("study", {})
    if colon:
        arms = data.get("arms", {})
        if arm not in arms:
            raise MsdkError(f"--over {text}: no arm '{arm}' is compared.{nearest(arm, arms)} Known: {_listed(arms)}")
        table, key = arms[arm], rest
    if isinstance(table, dict):  # what is no table is told with the rest
        table["over"] = {**table.get("over", {}), key: values}


def assigned(option: str, text: str) -> tuple[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise MsdkError(f"{option} {text}: write key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), raw  # a bare word
    except (ValueError, RecursionError) as error:
        raise MsdkError(f"{option} {text}: {error}") from error


def inline(value: object) -> str:
    """A value as one line of TOML."""
    if isinstance(value, dict):
        pairs = typing.cast("dict[str, object]", value).items()
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(item)}" for key, item in pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(inline, typing.cast("Sequence[object]", value))) + "]"
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
