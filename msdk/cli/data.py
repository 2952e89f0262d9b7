"""`msdk data prepare`, `msdk data encode`, `msdk data info`."""

import functools
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import AsJson, Device, Force, Set, interruptible, load
from msdk.distributed import this_rank, together
from msdk.errors import MsdkError

data = App(name="data", help="Prepare data sets, and look at them.")


@data.command(name="info")
def data_info(path: Path, /, *, overrides: Set = None, as_json: AsJson = False) -> None:
    """Tell what a data set holds, image by image, as training would read it: what is passed over, refused, and why.

    Examples: msdk data info pictures / msdk data info pictures.zip --json / msdk data info recipes/digits/base.toml

    Parameters
    ----------
    path
        A folder of images, a .zip, or what plugins read; latents; or a recipe or run folder, whose data are meant.
    """
    if (path / "latents.json").is_file():
        from msdk.training.latents import Latents, read_notes

        notes = read_notes(path)
        Latents(path, notes)  # told where a file is damaged
        display.show_latents(path, notes, as_json=as_json)
        return
    from msdk.preparing.surveying import dataset_at, survey

    of_recipe = path.suffix.lower() == ".toml" or (path / "recipe.toml").is_file()
    if overrides and not of_recipe:
        raise MsdkError("--set overrides a key of a recipe, but this is none: leave it out")
    if of_recipe:
        from msdk.training.labels import training_labels

        recipe = load(path, overrides)
        dataset, check = recipe.data, functools.partial(training_labels, recipe)
    else:
        dataset, check = dataset_at(path), None
    with display.bar() as report:
        found = survey(
            dataset,
            fitted=not of_recipe,
            check=check,
            progress=lambda done, total: report("looking", done, total),
        )
    if as_json:
        display.print_json(found.as_json())
        return
    display.show_survey(found)


@data.command(name="prepare")
def data_prepare(
    archive: str,
    source: Path,
    /,
    *,
    out: Path,
    protocol: str | None = None,
    size: int | None = None,
    split: str | None = None,
    grey: Annotated[bool, Parameter(negative="")] = False,
    raw: Annotated[bool, Parameter(negative="")] = False,
    workers: int | None = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make the file that training reads of an archive as it was published. A call that was stopped is gone on with.

    Examples: msdk data prepare cifar10 cifar-10-python.tar.gz --out cifar10.zip /
    msdk data prepare cifar10 cifar-10-python.tar.gz --size 16 --out data/cifar16-train.zip /
    msdk data prepare celeba64 img_align_celeba.zip --out celeba64.zip --protocol celeba:crop128 /
    msdk data prepare folder pictures --size 32 --out pictures.zip

    Parameters
    ----------
    archive
        cifar10, celeba32, celeba64, celeba256, ffhq64, imagenet64, or folder for any images.
    source
        Where it lies: the file that was downloaded, or the folder that it was unpacked to.
    out
        What to write: a .zip, or a .tar in the layout of webdataset.
    protocol
        How pictures become squares: celeba:crop140, imagenet:dhariwal, ...; docs/data.md has all of them.
    size
        Side of the images in pixels; that of the archive's name by default.
    split
        train, valid, test or all, where the archive has splits; train by default.
    grey
        Convert to grey.
    raw
        Keep pixels as they are (BMP) instead of PNG: larger files, nothing to decode.
    workers
        Threads; as many as there are CPUs by default. They change no byte.
    """
    from msdk.preparing import prepare

    with display.bar() as report:
        made = prepare(
            archive,
            source,
            out,
            protocol=protocol,
            size=size,
            channels=1 if grey else 3,
            split=split,
            format="raw" if raw else "png",
            workers=workers,
            force=force,
            progress=lambda done, total: report("preparing", done, total),
        )
    if as_json:
        display.print_json(made.as_json())
    else:
        display.show_prepared(made)


@data.command(name="encode")
def data_encode(
    recipe: Path,
    /,
    *,
    out: Path,
    device: Device = None,
    batch: int = 32,
    workers: int | None = None,
    force: Force = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Keep the latents of a recipe's data, so that training need not encode images. A call that was stopped goes on.

    Examples: msdk data encode recipes/celebahq256/ldm-multistage.toml --out celebahq.latents /
    torchrun --nproc-per-node 4 -m msdk data encode R --out L

    Parameters
    ----------
    recipe
        A recipe with an [autoencoder], or a run folder.
    out
        The folder to write, for training.latents.
    batch
        Images that are encoded at a time.
    workers
        Threads that read images ahead; up to 4 for data in files by default.
    """
    rank = this_rank()
    with (
        interruptible(lambda: f"what was encoded is kept beside {out}; the same command goes on"),
        together(rank) as group,
        display.bar(quiet=not rank.first) as report,
    ):
        loaded = group.agreed(lambda: load(recipe, overrides))
        from msdk.training.encoding import encode_here

        made = encode_here(
            loaded,
            out,
            device=device,
            batch_size=batch,
            workers=workers,
            force=force,
            progress=lambda done, total: report("encoding", done, total),
            group=group,
        )
    if not rank.first:
        return
    if as_json:
        display.print_json(made.as_json())
    else:
        display.show_encoded(made)
