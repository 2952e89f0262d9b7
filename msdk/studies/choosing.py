"""Which settings a search tries: samplers of optuna, which are told anew what was tried. Imports no torch."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from msdk.errors import MsdkError
from msdk.studies.fields import Range, Search, Space
from msdk.studies.files import inline

Setting = Mapping[str, Any]

LARGEST = 10_000
"""Settings of a grid, which optuna lists all at once."""

BLIND = ("random", "grid")
"""Those that look at no result, so that all their settings are known before anything is trained."""


def ready_to_choose() -> Any:
    """The module optuna, which says nothing of its own.

    Raises:
        MsdkError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MsdkError(
            "[study] search needs the package optuna: pip install 'msdk-diffusion[search]', or name the values in "
            "`over` and the keys in `best_of`"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def tries(search: Search, space: Space) -> int:
    """How many settings it proposes, some perhaps twice.

    Raises:
        MsdkError: A grid is too large.
    """
    if not space:
        return 1
    if search.name != "grid":
        return search.trials
    count = math.prod(_steps(values) if isinstance(values, Range) else len(values) for values in space.values())
    if count > LARGEST:
        raise MsdkError(f"a grid of {count:,} settings is more than {LARGEST:,}: name fewer values, or let tpe choose")
    return min(search.trials, count)


def proposed(search: Search, space: Space, worth: Callable[[Setting], float | None]) -> list[Setting]:
    """The settings that a search has come to, in their order.

    A round of `at_once` settings follows from the results of all rounds before, so whoever asks, whenever, gets the
    same ones for the same results.

    Args:
        search: Who chooses.
        space: Of what.
        worth: The quality of a setting, the smaller the better: infinite where it failed, None while it is not known.
            Asked once for each proposal, in their order.
    """
    count = tries(search, space)
    if not space:
        worth({})
        return [{}]
    optuna = ready_to_choose()
    distributions = {key: _distribution(optuna, space[key], search) for key in sorted(space)}
    study = optuna.create_study(sampler=_sampler(optuna, search, space))
    blind = search.name in BLIND
    found: list[Setting] = []
    while len(found) < count:
        asked = [study.ask(distributions) for _ in range(count if blind else min(search.at_once, count - len(found)))]
        settings = [{key: _value(space[key], trial.params[key]) for key in space} for trial in asked]
        found += settings
        values = [worth(each) for each in settings]
        if blind or None in values:
            break
        for trial, value in zip(asked, values, strict=True):
            study.tell(trial, value)
    return found


def _sampler(optuna: Any, search: Search, space: Space) -> Any:
    if search.name == "grid":
        texts = {key: [inline(each) for each in _values(values)] for key, values in space.items()}
        return optuna.samplers.GridSampler(texts, seed=search.seed)
    kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    return kinds[search.name](seed=search.seed)


def _distribution(optuna: Any, values: Range | tuple[Any, ...], search: Search) -> Any:
    known = optuna.distributions
    if not isinstance(values, Range) or search.name == "grid":
        return known.CategoricalDistribution([inline(each) for each in _values(values)])
    if values.step is not None:  # its number, since fractions seldom end exactly at `high`
        return known.IntDistribution(0, _steps(values) - 1)
    kind = known.IntDistribution if values.whole else known.FloatDistribution
    return kind(values.low, values.high, log=values.log)


def _values(values: Range | tuple[Any, ...]) -> tuple[Any, ...]:
    """All values, of which a grid is."""
    if not isinstance(values, Range):
        return values
    return tuple(_on_step(values, place) for place in range(_steps(values)))


def _steps(values: Range) -> int:
    return math.floor((values.high - values.low) / (values.step or 1) + 1e-9) + 1


def _value(values: Range | tuple[Any, ...], chosen: Any) -> Any:
    """What a recipe is to have: values of lists go by their text, since optuna takes no tables; numbers are rounded."""
    if isinstance(chosen, str):
        return next(each for each in _values(values) if inline(each) == chosen)
    assert isinstance(values, Range)
    if values.step is not None:
        return _on_step(values, chosen)
    return chosen if values.whole else _rounded(values, chosen, 4)


def _on_step(values: Range, place: int) -> float | int:
    value = values.low + (values.step or 1) * place
    return value if values.whole else _rounded(values, value, 12)  # without what binary fractions leave behind


def _rounded(values: Range, value: float, digits: int) -> float:
    return min(max(float(f"{value:.{digits}g}"), float(values.low)), float(values.high))
