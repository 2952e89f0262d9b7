"""`msdk advise`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from msdk.cli import display
from msdk.cli.options import AsJson, Cache, Device, Set, interruptible, seeds_of
from msdk.cli.studies import Helps, Processes, refuse_processes, trained
from msdk.distributed import this_rank, together
from msdk.errors import MsdkError
from msdk.recipe.quantities import written

if TYPE_CHECKING:
    from msdk.advising.probing import Probes


def advise(
    recipe: Path,
    /,
    *,
    budget: Annotated[
        str | None, Parameter(help="Training FLOPs to advise on: 100T; those of the recipe's training by default.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="Folder of the probes; advice/FOLDER-NAME by default.")] = None,
    widths: Annotated[str | None, Parameter(help="Channels of decoders to probe: 16,32,48.")] = None,
    iterations: Annotated[int, Parameter(help="Of each probe.")] = 480,
    seeds: Annotated[str, Parameter(help="Of the probes, three or more.")] = "0-2",
    processes: Processes = 1,
    helps: Helps = False,
    device: Device = None,
    cache: Cache = True,
    overrides: Set = None,
    as_json: AsJson = False,
) -> int:
    """Say whether stages would pay for a recipe's data and a budget: edges, widths, iterations, and what they save.

    Networks are trained for a while, unified and staged, and their losses are extended to the budget. Probes are kept:
    Ctrl-C keeps what was trained, the same command goes on, and another --budget trains nothing.

    Examples: msdk advise recipes/digits/multistage.toml --processes 2
    / msdk advise R --budget 100T --widths 16,32,48 --json

    Parameters
    ----------
    recipe
        A TOML file: a network of several stages, or of one, for which three are found in the data.
    """
    from msdk.advising.asking import concluded, default_folder
    from msdk.advising.probing import Asked, probes_of
    from msdk.report.advising import advice_grids

    refuse_processes(processes)
    folder, rank = out or default_folder(recipe), this_rank()
    kept = f"probes that were trained are kept in {folder}; the same command goes on"
    with interruptible(lambda: kept), together(rank) as group:
        with display.spinner("counting"):
            probes = group.agreed(
                lambda: probes_of(
                    Asked(
                        file=recipe,
                        overrides=overrides or (),
                        budget=budget,
                        widths=None if widths is None else _numbers(widths),
                        iterations=iterations,
                        seeds=seeds_of(seeds),
                        device=device,
                        cache=cache,
                    )
                )
            )
        if rank.first and not helps:
            _announce(probes)
        interrupted = trained(
            probes.trials,
            folder,
            device,
            retry=not helps,  # a helper would train again what fails here
            alone=False,
            group=group,
            others=0 if helps else processes - 1,
            helps=helps,
        )
        if interrupted:
            display.warn(f"interrupted: {kept}")
            return 128 + interrupted
        if helps:
            return 0
        found = concluded(probes, folder, group=group)
    if rank.first and as_json:
        display.print_json(found.as_json())
    elif rank.first:
        display.show(*advice_grids(found))
        display.say("")
        display.prose(found.sentence)
    return 0


def _announce(probes: "Probes") -> None:
    """Says what is to be trained, and where that is more than finding out."""
    whole, iterations = probes.plan.flops, probes.plan.kept[0].price.iterations
    words = f"{len(probes.trials)} probes of {iterations:,} iterations"
    display.note(f"{words}: {written(whole, 'FLOPs')} of training, but for those that are there")
    seeds = len(probes.plan.study.study.seeds)
    if whole > 2 * seeds * probes.budget:
        display.warn(
            f"both networks can be trained for the budget, with {seeds} seeds, for less than the probes take: "
            "`msdk study` does that; or shorten the probes by --iterations"
        )


def _numbers(text: str) -> list[int]:
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(piece.isdigit() and int(piece) for piece in pieces):
        raise MsdkError(f"--widths {text}: write whole numbers above 0, for example 16,32,48")
    return [int(piece) for piece in pieces]
