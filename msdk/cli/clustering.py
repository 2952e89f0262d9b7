"""`msdk cluster`."""

import contextlib
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from msdk.cli import display
from msdk.cli.options import (
    AsJson,
    Cache,
    Device,
    Force,
    Set,
    load,
)
from msdk.errors import MsdkError


def cluster(
    recipe: Path,
    /,
    *,
    strategy: Annotated[
        str | None, Parameter(help="A strategy with default settings; the recipe's own by default.")
    ] = None,
    compare: Annotated[bool, Parameter(negative="", help="Run every strategy and print them side by side.")] = False,
    seed: int = 0,
    run: Annotated[
        Path | None,
        Parameter(
            help="Run folder that `dirichlet` and `acceleration` look at, and `gradient` where it has one stage."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(help="The artefact, with a plot beside it; NAME.clustering.json in this folder by default."),
    ] = None,
    write: Annotated[bool, Parameter(negative="", help="Write the edges into the recipe file as well.")] = False,
    force: Force = False,
    device: Device = None,
    cache: Cache = True,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Find stage edges, and keep them as a file that `stages = { from = ... }` can name.

    With torchrun, processes share the data: torchrun --nproc-per-node 2 -m msdk cluster R

    Examples: msdk cluster recipes/digits/multistage.toml / msdk cluster R --compare --json

    Parameters
    ----------
    recipe
        A TOML file.
    seed
        Seed of everything drawn.
    """
    loaded = load(recipe, overrides)
    artefact = out or (None if compare else Path(f"{recipe.stem}.clustering.json"))
    if write and compare:
        raise MsdkError("--write needs one strategy, but --compare runs them all: leave one of the two out")
    if strategy and compare:
        raise MsdkError("--strategy names one, but --compare runs them all: leave one of the two out")
    from msdk.clustering import cluster as find
    from msdk.clustering import refuse_artefact, write_clusters, write_edges
    from msdk.distributed import this_rank
    from msdk.runs.writer import one_writer

    first = this_rank().first
    if artefact is not None and first:
        refuse_artefact(artefact, force=force)
    with one_writer(artefact) if artefact is not None and first else contextlib.nullcontext():
        with display.bar(quiet=not first) as report:
            clusters = find(
                loaded,
                strategy=strategy,
                compare=compare,
                seed=seed,
                run=run,
                device=device,
                cache=cache,
                progress=report,
            )
        if not first:
            return
        for name, warning in clusters.warnings():
            display.warn(f"{name}: {warning}")
        plot = write_clusters(artefact, clusters, force=force) if artefact is not None else None
    if write:
        write_edges(recipe, clusters)
    if as_json:
        display.print_json(clusters.as_json())
        return
    display.show_clusters(clusters)
    if artefact is not None:
        pointer = "" if compare else f'; a recipe points to it by: stages = {{ from = "{artefact}" }}'
        display.say(f"wrote {artefact}{pointer}")
        missing = 'no plot beside it, as matplotlib is not installed: pip install "msdk-diffusion[plot]"'
        display.say(f"wrote {plot}" if plot else missing)
    if write:
        display.say(f"wrote the edges into {recipe}")
        display.hint("train", recipe, overrides=overrides)
    elif artefact is not None and not compare:
        display.hint("train", recipe, overrides=[*(overrides or ()), f'stages={{ from = "{artefact}" }}'])
