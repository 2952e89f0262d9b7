"""`msdk pretrained convert|list`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import (
    AsJson,
    Force,
)
from msdk.errors import UnknownNameError

if TYPE_CHECKING:
    pass


pretrained = App(name="pretrained", help="Use checkpoints that others have published.")


@pretrained.command(name="convert")
def convert_checkpoint(
    file: Path,
    /,
    *,
    family: Annotated[str, Parameter(help="edm, vp, ve, iddpm, score_sde, ldm, multistage-edm, ...")],
    out: Annotated[Path, Parameter(help="The run folder to make.")],
    config: Annotated[
        str | None,
        Parameter(help="The original's constructor settings: a JSON file, or a name of `msdk pretrained list`."),
    ] = None,
    weights: Annotated[str, Parameter(help="raw, or ema for the averages that score_sde and LDM save too.")] = "raw",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a run folder of a published checkpoint: .safetensors, or a torch file of tensors alone.

    Without --config, the published configuration whose names and shapes are the file's. No code of the file is run.

    Examples: msdk pretrained convert checkpoint_26.pth --family score_sde --weights ema --out runs/ncsnpp

    Parameters
    ----------
    file
        The checkpoint.
    """
    from msdk.errors import unknown
    from msdk.runs import refuse_existing

    if weights not in ("raw", "ema"):
        raise UnknownNameError(unknown("kind of weights", weights, ("raw", "ema")))
    refuse_existing(out, force=force)
    from msdk.pretrained.converting import convert, read_config

    settings = read_config(Path(config)) if config is not None and config.endswith(".json") else config
    with display.spinner(f"converting {file}"):
        made = convert(file, family, out, config=settings, weights=weights, force=force)
    if as_json:
        display.print_json(made.as_json())
    else:
        display.show_converted(made)


@pretrained.command(name="list")
def list_published(*, as_json: AsJson = False) -> None:
    """List the published configurations that `convert` knows by name.

    Examples: msdk pretrained list
    """
    from msdk.pretrained.published import PUBLISHED
    from msdk.report import Grid

    if as_json:
        display.print_json(PUBLISHED)
        return
    rows = tuple((family, name) for family, configs in PUBLISHED.items() for name in configs)
    display.show(Grid("Published configurations", ("family", "name"), rows, numbers=2))
