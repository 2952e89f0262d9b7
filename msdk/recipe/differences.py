"""What two recipes do differently: the resolved recipes, compared key by key. Imports no torch."""

import typing
from typing import Any

import attrs

from msdk.recipe import Recipe, Training
from msdk.recipe.files import File
from msdk.recipe.structuring import to_data

Path = tuple[str, ...]
"""A key of a recipe, step by step; list entries by number."""


@attrs.frozen
class Difference:
    """One key on which two recipes differ.

    Attributes:
        path: The key as `--set` takes it: dotted, with list entries by number.
        a: The first recipe's value as plain data; None where it has no such key.
        b: The second one's.
        a_default: Whether the first one's value is what its key has when nobody sets it.
        b_default: The same of the second.
    """

    path: str
    a: Any
    b: Any
    a_default: bool
    b_default: bool

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk recipe diff --json`."""
        return attrs.asdict(self)


def compare(a: Recipe, b: Recipe) -> list[Difference]:
    """Every key on which two resolved recipes differ, in the order of the keys of a recipe; equal ones give none.

    A part of another name differs in its `name`, and in each key whose value is another or that only one part has.
    Values are compared, not spellings: a default that one recipe writes out and the other leaves out is no difference.

    Args:
        a: A recipe.
        b: Another.
    """
    ours, theirs = _leaves(a) | _left(a), _leaves(b) | _left(b)
    absent = (None, False)
    differences: list[Difference] = []
    for path in _in_order(list(ours), list(theirs)):
        (one, one_default), (other, other_default) = ours.get(path, absent), theirs.get(path, absent)
        if one != other:
            differences.append(Difference(".".join(path), to_data(one), to_data(other), one_default, other_default))
    return differences


def _leaves(value: Any, path: Path = (), *, default: bool = False) -> dict[Path, tuple[Any, bool]]:
    """Path of every single value -> it, and whether it is the default of its key."""
    if isinstance(value, tuple):
        found: dict[Path, tuple[Any, bool]] = {}
        for index, item in enumerate(typing.cast("tuple[object, ...]", value)):
            found |= _leaves(item, (*path, str(index)), default=default)
        return found
    if isinstance(value, File) or not attrs.has(type(value)):
        return {} if value is None else {path: (value, default)}
    data = to_data(value)
    found = {(*path, "name"): (data["name"], default)} if "name" in data else {}
    for field in attrs.fields(type(value)):
        if not field.eq:
            continue
        item = getattr(value, field.name)
        found |= _leaves(item, (*path, field.name.rstrip("_")), default=_is_default(field, item))
    return found


def _left(recipe: Recipe) -> dict[Path, tuple[Any, bool]]:
    """What the schedule decides where nobody else does: the leaves of these keys, and whether it did."""
    plain = attrs.evolve(recipe, training=Training())
    found = _leaves(recipe.training.noise, ("training", "noise"), default=recipe.training.noise == plain.training.noise)
    samplers = {("sampler",): recipe.sampler}
    samplers |= {("samplers", str(index)): each for index, each in enumerate(recipe.samplers)}
    for path, sampler in samplers.items():
        grid = attrs.fields_dict(type(sampler)).get("grid")
        if grid is not None and grid.default is None:
            own: Any = attrs.evolve(sampler, grid=None).on(recipe.schedule)  # pyright: ignore[reportCallIssue]
            found[*path, "grid"] = (getattr(sampler, "grid"), own == sampler)  # noqa: B009  not every sampler has one
    return found


def _is_default(field: Any, value: object) -> bool:
    if isinstance(field.default, attrs.Factory):  # pyright: ignore[reportArgumentType]  a class, typed as a function
        return not field.default.takes_self and field.default.factory() == value
    return field.default is not attrs.NOTHING and field.default == value


def _in_order(ours: list[Path], theirs: list[Path]) -> list[Path]:
    """All paths by the keys of a recipe; what only the second recipe has stands behind what it follows there."""
    known, merged, place = set(ours), list(ours), 0
    for path in theirs:
        if path in known:
            place = merged.index(path) + 1
        else:
            merged.insert(place, path)
            place += 1
    keys = [field.name for field in attrs.fields(Recipe)]
    return sorted(merged, key=lambda path: keys.index(path[0]))
