"""`msdk sample`."""

import contextlib
import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from msdk.cli import display
from msdk.cli.options import (
    AsJson,
    Device,
    Force,
    Set,
    free_path,
    interruptible,
    seeds_of,
)
from msdk.distributed import this_rank
from msdk.errors import RunError


def sample(
    run: Path,
    /,
    *,
    seeds: Annotated[str | None, Parameter(help="0-63 or 1,5,9; one image each. The recipe's by default.")] = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="A folder for grid.png and one PNG per seed, or a .zip, .npz or .safetensors; RUN/samples, then "
            "RUN/samples-2, ... by default."
        ),
    ] = None,
    sampler: Annotated[
        str | None, Parameter(help="Another sampler, with its default settings; `msdk list samplers` has them.")
    ] = None,
    steps: Annotated[int | None, Parameter(help="Intervals of the time grid. The recipe's by default.")] = None,
    label: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="The class of every image, by its number or name; -1 for none. By default seed modulo the classes.",
        ),
    ] = None,
    guidance: Annotated[
        float | None, Parameter(help="Weight of classifier-free guidance. The recipe's by default.")
    ] = None,
    explain: Annotated[
        bool, Parameter(negative="", help="Print each network call with its stage, and draw nothing.")
    ] = False,
    offload: Annotated[
        bool, Parameter(negative="", help="Hold only the decoder in use: less memory, more time.")
    ] = False,
    inpaint: Annotated[
        tuple[Path, Path] | None,
        Parameter(help="IMAGE MASK, pictures of the model's size: where the mask is white, every image is IMAGE."),
    ] = None,
    force: Force = False,
    device: Device = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Draw images from a trained run. What a killed process has drawn is kept: the same command goes on.

    Examples: msdk sample runs/digits-multistage --seeds 0-15 --out more --sampler heun --steps 18
    / msdk sample runs/digits-conditional --label 3 --guidance 2
    / msdk sample runs/digits-multistage --inpaint half.png mask.png
    / torchrun --nproc-per-node 2 -m msdk sample runs/mine --seeds 0-49999 --out images.zip

    Parameters
    ----------
    run
        A run folder that `msdk train` or `msdk run` made.
    """
    numbers = None if seeds is None else seeds_of(seeds)
    if not (run / "recipe.toml").is_file():
        raise RunError(f"{run} is not a run folder: it has no recipe.toml. `msdk train` makes one.")
    from msdk.recipe import checked, uncalled, undertrained
    from msdk.runs import refuse_other_recipe, run_recipe

    loaded = run_recipe(run, overrides or ())
    from msdk.sampling import overridden

    number = None if label is None else _class_of(run, label)
    recipe = overridden(loaded, sampler=sampler, steps=steps, label=number, guidance=guidance)
    recipe = checked(recipe, f"{run / 'recipe.toml'}, sampled in another way,")
    refuse_other_recipe(run, recipe)  # an override of the networks would change nothing
    from msdk.runs.writer import tidy
    from msdk.sampling.drawing import half_done

    rank = this_rank()
    for sentence in (*uncalled(recipe), *undertrained(recipe)) if rank.first else ():
        display.warn(sentence)
    place = out or (run / "samples" if force else free_path(run / "samples", half_done))
    if not explain and place.exists() and not force and not half_done(place):
        tidy(place)
        raise RunError(f"{place} exists: replace it with --force, or choose another --out")
    if explain:
        from msdk.sampling.drawing import trace

        display.show_calls(trace(run, recipe), as_json=as_json)
        return
    from msdk.sampling.drawing import write_samples
    from msdk.wrappers.inpaint import read_known

    known = None if inpaint is None else read_known(*inpaint, recipe.data.shape)
    kept = f"what was drawn is kept in {place}.partial; the same command goes on"
    with (
        interruptible(lambda: kept if half_done(place) else "nothing was drawn; the same command begins anew"),
        display.bar() if rank.first else contextlib.nullcontext(lambda *_: None) as report,
    ):
        folder = write_samples(
            run,
            recipe,
            seeds=numbers,
            out=place,
            device=device,
            offload=offload,
            known=known,
            replace=force,
            progress=lambda done, total: report("sampling", done, total),
        )
    if not rank.first:
        return
    count = len(numbers) if numbers is not None else recipe.sampling.images
    sheet = folder / "grid.png"  # what is no picture has none
    if as_json:
        display.print_json({"folder": str(folder), "grid": str(sheet) if sheet.is_file() else None, "images": count})
    else:
        look = f"look at {sheet}" if sheet.is_file() else f"they are in {folder}"
        display.say(f"drew {count} images; {look}")


def _class_of(run: Path, label: str) -> int:
    """The number of a class that is given by its number or name; a number where it may be both."""
    from msdk.runs import class_names
    from msdk.sampling import class_number

    names = class_names(run)
    if not re.fullmatch(r"-?[0-9]{1,18}", label):
        return class_number(label, names)
    number = int(label)
    if label in names and names.index(label) != number:
        display.warn(f"--label {label} is class {number}; the class that is named '{label}' is {names.index(label)}")
    return number
