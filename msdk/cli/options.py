"""What commands share: their options, and how the words of a command line are read."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from msdk.cli import display
from msdk.distributed import this_rank
from msdk.errors import MsdkError, RecipeError, UnknownNameError, unknown

if TYPE_CHECKING:
    from msdk.clustering import Clusters
    from msdk.recipe import Convention, Recipe
    from msdk.recipe.loading import Check

Set = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="Override one key: --set training.batch_size=64. May be repeated."),
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document on stdout, nothing else.")]
Force = Annotated[bool, Parameter(negative="", help="Replace what exists.")]
Resume = Annotated[bool, Parameter(negative="", help="Go on from the newest checkpoint.")]
Cache = Annotated[
    bool,
    Parameter(negative="--no-cache", help="Use counts and edges of earlier calls, and keep these for later ones."),
]
RunFolder = Annotated[Path | None, Parameter(help="The run folder; runs/FOLDER-NAME of the recipe by default.")]
ForceData = Annotated[
    bool, Parameter(negative="", help="With --resume, go on although the data are not those of before.")
]
Device = Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, ...; CUDA where there is one by default.")]


def free_path(path: Path, half_done: Callable[[Path], bool]) -> Path:
    """The path itself, or with the first number that makes it new or half done: samples, samples-2, samples-3, ..."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists() or half_done(each))


def default_run_dir(recipe: Path) -> Path:
    """Where a recipe is trained unless told: by the folder that it is in and its own name, runs/digits-multistage.

    A recipe of the folder one works in is called by its name alone, and one that is just called recipe by its folder.
    A run folder in the place of a recipe is that itself.
    """
    if recipe.is_dir():
        return recipe
    folder, name = recipe.resolve().parent, recipe.stem
    if name == "recipe":
        return Path("runs") / (folder.name or name)
    return Path("runs") / (name if folder == Path.cwd() or not folder.name else f"{folder.name}-{name}")


def convention_named(name: str | None) -> "Convention | None":
    if name is None or name in ("exact", "paper", "fvcore"):
        return name
    raise UnknownNameError(unknown("counting convention", name, ("exact", "paper", "fvcore")))


def seeds_of(text: str) -> list[int]:
    numbers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise MsdkError(f"--seeds {text}: write single seeds and ranges, for example 0-63 or 1,5,9")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


@contextlib.contextmanager
def interruptible(kept: Callable[[], str]) -> Generator[None]:
    """Where Ctrl-C ends what is done within, the command says what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(*(error.args or (kept(),))) from None


def kept_of_run(place: Path) -> Callable[[], str]:
    """What is kept of training in a run folder, and how to go on."""

    def kept() -> str:
        from msdk.runs.folder import checkpoints

        found = checkpoints(place)
        if found:
            return f"{found[-1]} is kept; the same command with --resume goes on from there"
        return "nothing was trained yet; the same command begins anew"

    return kept


# --- recipes ----------------------------------------------------------------------------------------------------------


def load(path: Path, overrides: list[str] | None, also: "Sequence[Check]" = ()) -> "Recipe":
    from msdk.recipe import load_recipe, recipe_file

    return load_recipe(recipe_file(path), overrides or (), also=also)


def is_base(path: Path, error: RecipeError, others: Sequence[Path]) -> bool:
    """Whether a file of several is only what others of them extend, as `*.toml` names it too; says so."""
    from msdk.recipe import lacking

    lacks = lacking(path, error, [other for other in others if other.is_file()])
    if lacks:
        display.warn(f"{path} is passed over: others here extend it, and alone it has no {', no '.join(lacks)}")
    return bool(lacks)


def with_edges(
    recipe: "Recipe",
    *,
    device: str | None = None,
    run: Path | None = None,
    like: "Sequence[tuple[Recipe, Recipe]]" = (),
    cache: bool = True,
) -> "tuple[Recipe, Clusters | None]":
    """The recipe with its stage edges, see `msdk.clustering.with_edges`; tells what a clustering found."""
    if not recipe.clustered:
        return recipe, None  # without torch
    from msdk.clustering import with_edges as find

    first = this_rank().first
    with display.bar(quiet=not first) as report:
        ready, clusters = find(recipe, device=device, run=run, like=like, cache=cache, progress=report)
    tell_edges(clusters)
    return ready, clusters


def tell_edges(clusters: "Clusters | None") -> None:
    """Says what a clustering found, once for all processes."""
    if clusters is None or not this_rank().first:
        return
    for name, warning in clusters.warnings():
        display.warn(f"{name}: {warning}")
    (found,) = clusters.strategies
    edges = ", ".join(f"{edge:.4f}" for edge in found.edges_t)
    origin = "found before; --no-cache finds them anew" if found.cached else "msdk cluster keeps them"
    display.warn(f"stage edges by {found.name}: t = {edges} ({origin})")
