"""`msdk budget`: what recipes cost, and `msdk budget solve`: the widths that cost what is asked for."""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import AsJson, Cache, Force, Set, convention_named, is_base, load, with_edges
from msdk.errors import MsdkError, RecipeError, RunError

if TYPE_CHECKING:
    from msdk.budgeting import Budget
    from msdk.budgeting.requested import Precision
    from msdk.recipe import Recipe

budgets = App(name="budget")


@budgets.default
def budget(
    recipe: list[Path],
    /,
    *,
    convention: Annotated[str | None, Parameter(help="exact, paper or fvcore; each recipe's own by default.")] = None,
    by: Annotated[
        Literal["stage", "part", "operator"], Parameter(help="What the rows of each recipe's table are.")
    ] = "stage",
    sort: Annotated[
        Literal["params", "call", "train", "paper", "flops", "memory", "hours"] | None,
        Parameter(help="Order of the recipes in their common table, smallest first; as given by default."),
    ] = None,
    check: Annotated[
        bool,
        Parameter(
            negative="",
            help="Exit 1 where a recipe exceeds its [budget] params, macs, flops, memory, hours or cost, and where "
            "--strict does.",
        ),
    ] = False,
    strict: Annotated[
        bool,
        Parameter(negative="", help="Exit 1 where the counters disagree or an operator has no counting rule."),
    ] = False,
    memory: Annotated[bool, Parameter(negative="", help="Simulate the memory of training and sampling.")] = False,
    measure: Annotated[bool, Parameter(negative="", help="Time network calls and training steps on --device.")] = False,
    device: Annotated[
        str | None, Parameter(help="Where --measure runs: cpu, cuda, cuda:1, ...; CUDA where there is one.")
    ] = None,
    gpu: Annotated[
        str | None, Parameter(help="Plan training on a card that is not at hand: h100, a100-80, l4, ...")
    ] = None,
    utilisation: Annotated[
        float | None, Parameter(help="Share of the card's peak that --gpu takes training to reach; 0.35 by default.")
    ] = None,
    price: Annotated[float | None, Parameter(help="Of that card for an hour, in any currency.")] = None,
    nodes: Annotated[
        int | None, Parameter(help="Machines of the plan, each with --gpus such cards; 1 when only --gpus is given.")
    ] = None,
    gpus: Annotated[int | None, Parameter(help="Cards in each machine of the plan, one process on each.")] = None,
    parallel: Annotated[
        Literal["ddp", "fsdp"] | None,
        Parameter(help="Whether each process of the plan has all weights, or a share of them; as the recipe says."),
    ] = None,
    bandwidth: Annotated[
        str | None,
        Parameter(help="Of a machine to others, one way: 400G is bit/s (the default), 50GB is bytes/s."),
    ] = None,
    batch: Annotated[
        int | None, Parameter(help="Images per step, for --memory and --measure; the recipe's by default.")
    ] = None,
    dtype: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        Parameter(help="For --memory, --measure and --gpu; the recipe's precision by default."),
    ] = None,
    cache: Cache = True,
    out: Annotated[
        list[Path] | None,
        Parameter(negative="", help="Also write a .html, .md, .csv, .json, .png or .svg. May be repeated."),
    ] = None,
    force: Force = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> int:
    """Count parameters and multiply-accumulates per stage, and compare recipes.

    Examples: msdk budget recipes/cifar10/dpm-unified.toml recipes/cifar10/dpm-multistage.toml --convention paper /
    msdk budget recipes/digits/*.toml --check --out budget.html

    Parameters
    ----------
    recipe
        TOML files, or run folders, whose ledgers are compared with what was predicted, or .json files that --json or
        --out wrote, whose budgets are shown again. Ratios are to the first.
    """
    from msdk.budgeting.cards import card_named

    how, files = convention_named(convention), out or []
    if device is not None and not measure:
        raise MsdkError("--device says where to measure, but nothing is measured: add --measure")
    if batch is not None and not (memory or measure or check):
        raise MsdkError("--batch is of --memory and --measure: add one of them")
    if dtype is not None and not (memory or measure or check or gpu):
        raise MsdkError("--dtype is of --memory, --measure and --gpu: add one of them")
    if (utilisation is not None or price is not None) and not gpu:
        raise MsdkError("--utilisation and --price are of a card: name it by --gpu (msdk budget cards has all)")
    planned = {"--nodes": nodes, "--gpus": gpus, "--parallel": parallel, "--bandwidth": bandwidth}
    asked = [name for name, given in planned.items() if given is not None]
    if asked and not gpu:
        raise MsdkError(f"{', '.join(asked)}: many cards of which kind? Name it by --gpu (msdk budget cards has all)")
    if asked and gpus is None:
        raise MsdkError(f"{', '.join(asked)}: how many cards has a machine? Say it by --gpus, --gpus 8 for example")
    card = None if gpu is None else card_named(gpu)
    if batch is not None and batch < 1:
        raise MsdkError(f"--batch {batch}: must be at least 1")
    wires = None
    if card is not None and gpus is not None:
        from msdk.budgeting.wires import BANDWIDTH, wires_of
        from msdk.recipe.quantities import bandwidth as bytes_per_second

        each = BANDWIDTH if bandwidth is None else bytes_per_second(bandwidth)
        wires = wires_of(card, 1 if nodes is None else nodes, gpus, each)
    _refuse_files(files, force=force)
    anew = {"--convention": convention, "--set": overrides, "--memory": memory, "--measure": measure, "--gpus": gpus}
    saved = {path: _saved(path, [name for name, given in anew.items() if given]) for path in recipe if _is_saved(path)}
    loaded = list(_loaded(recipe, saved, overrides))
    named = [path for path, _ in loaded for _ in saved.get(path, (None,))]
    found: list[Budget] = []
    ready: list[Recipe] = []
    known: list[tuple[Recipe, Recipe]] = []
    with display.spinner("counting") as say:
        for path, one in loaded:
            if one is None:
                found += saved[path]
                continue
            say(f"counting {path}")
            complete = with_edges(one, device=device, like=known, cache=cache)[0]
            known.append((one, complete))
            ready.append(complete)
            found.append(_counted(path, complete, how, cache=cache))
            if memory or (check and one.budget.memory):
                say(f"simulating the memory of {path}")
                from msdk.budgeting.memory import memory as simulated

                found[-1] = attrs.evolve(found[-1], memory=simulated(complete, batch=batch, dtype=dtype))
            if measure:
                say(f"measuring {path}")
                from msdk.budgeting.measuring import measure as measured

                found[-1] = attrs.evolve(found[-1], timing=measured(complete, device=device, batch=batch, dtype=dtype))
    if card is not None:
        from msdk.budgeting.planning import UTILISATION, estimate

        share = UTILISATION if utilisation is None else utilisation
        precisions: dict[Path, Precision] = {
            path: dtype or (one.training.precision if one else "fp32") for path, one in loaded
        }
        found = [
            attrs.evolve(one, estimate=estimate(one, card, precisions[path], utilisation=share, price=price))
            for path, one in zip(named, found, strict=True)
        ]
    if card is not None and wires is not None:
        from msdk.budgeting.scaling import plan

        with display.spinner("rehearsing") as say:
            for place, (one, complete) in enumerate(zip(found, ready, strict=True)):
                say(f"rehearsing a step of {one.recipe} on {wires.processes:,} processes")
                assert one.estimate is not None
                found[place] = attrs.evolve(one, plan=plan(complete, one, one.estimate, card, wires, parallel))
    for file in files:
        # How recipes differ can be told where all of them are here.
        _write(file, found, () if saved else ready)
    if as_json:
        from msdk.recipe import uncalled, undertrained

        for each in ready:  # tables have them in their notes
            for sentence in (*uncalled(each), *undertrained(each)):
                display.warn(sentence)
        display.print_json([one.as_json() for one in found])
    else:
        from msdk.report import budget_grids

        display.show(*budget_grids(found, by=by, sort=sort))
        for file in files:
            display.say(f"wrote {file}")
        if len(loaded) == 1 and loaded[0][1] is not None and not (recipe[0] / "recipe.toml").is_file():
            display.hint("train", recipe[0], overrides=overrides)
    # A gate that cannot trust its number says no.
    wrong = [*(_exceeded(found) if check else ()), *(_doubts(found) if strict or check else ())]
    for sentence in wrong:
        display.warn(sentence)
    return 1 if wrong else 0


def _loaded(
    paths: Sequence[Path], saved: Container[Path], overrides: list[str] | None
) -> "Iterator[tuple[Path, Recipe | None]]":
    """The recipes, None for a saved budget; without those that others of them extend and that are not whole."""
    for path in paths:
        try:
            yield path, None if path in saved else load(path, overrides)
        except RecipeError as error:
            if not is_base(path, error, paths):
                raise


def _is_saved(path: Path) -> bool:
    """Whether a path names saved budgets, not a recipe."""
    return path.suffix.lower() == ".json"


def _saved(path: Path, refused: "Sequence[str]") -> "Sequence[Budget]":
    """The budgets that a file keeps: a list, as --json prints it, or one object."""
    if refused:
        raise MsdkError(f"{path} is a saved budget, which is not counted again: add {', '.join(refused)} to its recipe")
    from msdk.budgeting import Budget
    from msdk.recipe.results import read_several

    found = read_several(path, Budget, "a saved budget, as `msdk budget --json` prints it")
    if not found:
        raise RunError(f"{path} has no budget: its list is empty")
    return found


def _counted(path: Path, recipe: "Recipe", convention: Any, *, cache: bool) -> "Budget":
    """The budget of a recipe, with the ledger of its run where `path` is a run folder."""
    from msdk.budgeting import budget as count
    from msdk.budgeting import with_ledger

    return with_ledger(count(recipe, convention=convention, name=str(path), cache=cache), recipe, path, cache=cache)


def _refuse_files(files: Sequence[Path], *, force: bool) -> None:
    """Files that could not be written are told before anything is counted."""
    from msdk.report import check_suffix

    for file in files:
        check_suffix(file)
        if file.is_dir():
            raise RunError(f"{file} is a folder: --out names a file")
        if file.exists() and not force:
            raise RunError(f"{file} exists: replace it with --force, or choose another --out")


def _write(file: Path, found: "Sequence[Budget]", recipes: "Sequence[Recipe]") -> None:
    from msdk.recipe.differences import compare
    from msdk.report import rendered
    from msdk.runs.files import write_bytes

    diffs = [[one.as_json() for one in compare(recipes[0], other)] for other in recipes[1:]]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, rendered(file.suffix, found, diffs=diffs, ledger=found[-1].ledger))


def _exceeded(found: "Sequence[Budget]") -> list[str]:
    """What exceeds a limit, and by how much, or was not looked at, a sentence each."""
    from msdk.recipe import LIMITS
    from msdk.recipe.quantities import written
    from msdk.report.resources import LOOKED_AT_BY

    if not any(one.allowed for one in found):
        display.warn(f"nothing to check: no recipe sets any of [budget] {', '.join(LIMITS)}")
    unseen = [
        f"{one.recipe}: its {limit.key} was not looked at: {LOOKED_AT_BY[limit.key]} says it"
        for one in found
        for limit in one.limits
        if limit.found is None
    ]
    return unseen + [
        f"{one.recipe} exceeds its {limit.key}: {written(limit.found, limit.unit)} are "
        f"{written(limit.found - limit.limit, limit.unit)} ({100 * (limit.found / limit.limit - 1):.3g} %) above "
        f"the {written(limit.limit, limit.unit)} that [budget] {limit.key} allows"
        for one in found
        for limit in one.limits
        if limit.found is not None and limit.exceeded
    ]


def _doubts(found: "Sequence[Budget]") -> list[str]:
    return [f"{one.recipe}: {doubt}" for one in found for doubt in one.doubts]


@budgets.command
def cards(*, as_json: AsJson = False) -> None:
    """List the cards that --gpu can plan training for: dense peak rates, memory, and where the maker says so.

    Example: msdk budget cards
    """
    from msdk.budgeting.cards import CARDS

    if as_json:
        display.print_json([attrs.asdict(card) for card in CARDS.values()])
        return
    from msdk.report import cards_grid

    display.show(cards_grid(CARDS.values()))


@budgets.command
def solve(
    recipe: Path,
    /,
    *,
    target: Annotated[
        str, Parameter(help="18.65G (of MACs, a bare number is in G), 200M parameters, 3.4E FLOPs, 24GiB.")
    ],
    what: Annotated[
        Literal["macs", "params", "training-flops", "memory"],
        Parameter(
            help="MACs of a mean network call; all parameters; FLOPs of the whole training; or memory that training "
            "holds throughout: weights, gradients, optimiser and averages. Of [budget] memory, the peak of a step, "
            "activations are a part too."
        ),
    ] = "macs",
    convention: Annotated[str | None, Parameter(help="exact, paper or fvcore; the recipe's own by default.")] = None,
    weights: Annotated[
        Literal["sampling", "training", "length"] | None,
        Parameter(help="Which mean over the stages MACs are: by the sampler's calls unless told otherwise."),
    ] = None,
    vary: Annotated[Literal["decoders", "encoder", "all"], Parameter(help="Whose widths are looked for.")] = "decoders",
    ratio: Annotated[
        str | None, Parameter(help="Proportion of the decoders' widths, least noise first: 12:8:1. Free by default.")
    ] = None,
    profile: Annotated[
        Path | None,
        Parameter(help="A clustering.json; the proportion follows from its optimal denoiser. The recipe's by default."),
    ] = None,
    max_params: Annotated[str | None, Parameter(help="Most parameters in all: 250M.")] = None,
    step: Annotated[
        int | None, Parameter(name="--round", help="Widths are multiples of it; of 8, or 8 per head, by default.")
    ] = None,
    smallest: Annotated[int | None, Parameter(name="--min", help="Least width; one step by default.")] = None,
    largest: Annotated[
        int | None,
        Parameter(
            name="--max",
            help="Greatest width; three times the recipe's widest decoder, or twice its encoder, by default.",
        ),
    ] = None,
    at_most: Annotated[bool, Parameter(negative="", help="Leave out what lies above the target.")] = False,
    tolerance: Annotated[
        float, Parameter(help="Per cent of the target within which the proportion decides, not the distance.")
    ] = 1.0,
    count: Annotated[int, Parameter(help="Candidates to show.")] = 5,
    out: Annotated[Path | None, Parameter(help="A recipe to write: this one, with the widths of the first.")] = None,
    force: Force = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Find the widths that meet a budget, and write them as a recipe. Every combination is compared.

    Examples: msdk budget solve recipes/cifar10/dpm-multistage.toml --target 15G --convention paper --out mine.toml

    Parameters
    ----------
    recipe
        A TOML file, whose depths, attention and all else stay.
    """
    if out is not None and out.exists() and not force:
        raise RunError(f"{out} exists: replace it with --force, or choose another --out")
    if out is not None and overrides:
        raise MsdkError(
            "--out writes what extends the recipe's file, without --set: write those keys into a recipe first"
        )
    if weights is not None and what != "macs":
        raise MsdkError(f"--weights says which mean the MACs are, but --what is {what}: leave it out")
    if _is_saved(recipe):
        raise MsdkError(
            f"{recipe} is a saved budget, which has no widths to change: solve for the recipe that it is of"
        )
    loaded, how = load(recipe, overrides), convention_named(convention)
    from msdk.budgeting.profiling import profile_of
    from msdk.budgeting.questions import Question, ratio_of, target_of
    from msdk.budgeting.solving import solve as find
    from msdk.report import solutions_grid

    question = Question(
        target=target_of(target, what),
        what=what,
        convention=how or loaded.budget.convention,
        weights=weights or "sampling",
        vary=vary,
        ratio=None if ratio is None else ratio_of(ratio),
        profile=None if profile is None else profile_of(profile, len(loaded.decoders)),
        step=step,
        smallest=smallest,
        largest=largest,
        max_params=None if max_params is None else target_of(max_params, "params"),
        at_most=at_most,
        tolerance=tolerance / 100,
        count=count,
    )
    with display.spinner(f"looking for widths of {recipe}"):
        solution = find(with_edges(loaded)[0], question, name=str(recipe))
    if out is not None:
        from msdk.budgeting.rewriting import rewritten
        from msdk.runs.files import write_text

        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, rewritten(solution, recipe, out))
    if as_json:
        display.print_json(solution.as_json())
        return
    display.show(solutions_grid(solution))
    if out is not None:
        display.say(f"wrote {out}: {solution.candidates[0].words()}")
        display.hint("budget", recipe, out)
