"""`msdk runs`, `msdk compare`."""

from pathlib import Path

from msdk.cli import display
from msdk.cli.options import AsJson, Force
from msdk.errors import RunError


def runs(folder: Path = Path("runs"), /, *, as_json: AsJson = False) -> None:
    """List the runs of a folder: how far they are, their loss, and what they cost so far.

    Examples: msdk runs / msdk runs /scratch/experiments --json

    Parameters
    ----------
    folder
        Where run folders lie, also in folders of it; a run folder is listed alone.
    """
    from msdk.browsing import runs_below

    found = runs_below(folder)
    if as_json:
        display.print_json([run.as_json() for run in found])
        return
    from msdk.report.comparisons import runs_grid

    if found:
        display.show(runs_grid(found, folder))
    else:
        display.say(f"no runs in {folder}: msdk train RECIPE makes one")


def compare(*run: Path, out: Path | None = None, force: Force = False, as_json: AsJson = False) -> None:
    """Put runs side by side: settings that differ, losses by stage, samples, and FLOPs spent.

    What their numbers have in common is told: other data, another loss or other stages cannot be compared.

    Examples: msdk compare runs/digits-unified runs/digits-multistage --out comparison.html

    Parameters
    ----------
    run
        Run folders, two or more; the first is what others are compared with.
    out
        Also write it: .html has curves and samples; .png and .svg are the curves; .md, .json.
    """
    from msdk.browsing import compare as beside
    from msdk.report.comparisons import comparison_file, comparison_grids

    if out is not None and out.exists() and not force:
        raise RunError(f"{out} exists: give another name, or --force to replace it")
    found = beside(run)
    if out is not None:
        from msdk.runs.files import write_bytes

        write_bytes(out, comparison_file(found, out.suffix))
    if as_json:
        display.print_json(found.as_json())
        return
    display.show(*comparison_grids(found))
    if out is not None:
        display.say(f"written: {out}")
