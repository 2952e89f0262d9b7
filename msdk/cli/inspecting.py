"""`msdk inspect`: what a run has learnt."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import AsJson, Device
from msdk.errors import MsdkError, PlotError

inspecting = App(name="inspect", help="Look into what a run has learnt.")


@inspecting.command(name="h-space")
def h_space(
    run: Path,
    /,
    *,
    checkpoint: Annotated[int | None, Parameter(help="Its iteration; the newest one by default.")] = None,
    beside: Annotated[Path | None, Parameter(help="Another run on the same images, at the same noise levels.")] = None,
    images: Annotated[int, Parameter(help="Held-out images, or where none are, those that train.")] = 256,
    levels: Annotated[int, Parameter(help="Noise levels in all, shared out over the stages.")] = 12,
    out: Annotated[Path | None, Parameter(help="The picture, .png or .svg; h-space.png in the run by default.")] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Compare the encoder's deepest features between noise levels and between stages, by CKA.

    Examples: msdk inspect h-space runs/shared / msdk inspect h-space runs/shared --beside runs/separate --out h.svg

    Parameters
    ----------
    run
        A run folder.
    """
    place = run / "h-space.png" if out is None else out
    if place.suffix not in (".png", ".svg"):
        raise MsdkError(f"--out {place}: pictures are .png or .svg")
    if not place.parent.is_dir() and out is not None:
        raise MsdkError(f"--out {place}: there is no folder {place.parent}")
    from msdk.inspecting import h_space as look
    from msdk.report import h_space_grids, h_space_plot
    from msdk.runs.files import write_bytes

    with display.bar() as report:
        found = look(
            run, checkpoint=checkpoint, beside=beside, images=images, levels=levels, device=device, progress=report
        )
    missing = ""
    try:
        write_bytes(place, h_space_plot(found, place.suffix.removeprefix(".")))
    except PlotError as error:
        missing = str(error)
    if as_json:
        display.print_json(found.as_json())
        return
    display.show(*h_space_grids(found))
    display.say(missing or f"wrote {place}")
