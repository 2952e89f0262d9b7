"""`msdk-hf`: runs as diffusers pipelines and back, and model cards."""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from msdk.errors import MsdkError, RunError

app = App(name="msdk-hf", help="Runs as diffusers pipelines, and model cards.", result_action="return_value")

Out = Annotated[Path, Parameter(help="The new folder or file.")]


@app.command
def export(run: Path, /, *, out: Out, weights: Literal["ema", "raw"] = "ema") -> None:
    """Write a run as a diffusers pipeline with a model card.

    Examples: msdk-hf export runs/a --out pipeline

    Parameters
    ----------
    run
        A run folder.
    weights
        ema for the averaged weights, raw for the last ones.
    """
    from msdk_hf.pipeline import export as write

    print(f"wrote {out}: {write(run, out, weights=weights)}")


@app.command(name="import")
def import_(folder: Path, /, *, data: Path, size: int, out: Out) -> None:
    """Make a run folder of a diffusers DDPM pipeline on disk.

    Examples: msdk-hf import ddpm-cifar10-32 --data cifar10.zip --size 32 --out runs/ddpm

    Parameters
    ----------
    folder
        Of the pipeline, or of its UNet2DModel.
    data
        A zip of images, for training that goes on.
    size
        Side of an image in pixels.
    """
    from msdk_hf.pipeline import import_unet

    place = import_unet(folder, out, {"name": "zip", "path": str(data.resolve()), "size": size})
    print(f"wrote {place}; draw images by: msdk sample {place}")


@app.command
def card(run: Path, /, *, out: Out, licence: str = "") -> None:
    """Write a model card with the budget table.

    Examples: msdk-hf card runs/a --out README.md --licence mit

    Parameters
    ----------
    run
        A run folder.
    licence
        As the hub spells it.
    """
    from msdk_hf.card import model_card

    if out.exists():
        raise RunError(f"{out} exists: choose another --out")
    out.write_text(model_card(run, licence=licence), encoding="utf-8")
    print(f"wrote {out}")


def main() -> NoReturn:
    """Exit code 0 done, 2 wrong input."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except (MsdkError, CycloptsError) as error:
        print(f"msdk-hf: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
