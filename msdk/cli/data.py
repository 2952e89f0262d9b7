"""`msdk data info`."""

import functools
from pathlib import Path

from cyclopts import App

from msdk.cli import display
from msdk.cli.options import AsJson, Set, load
from msdk.errors import MsdkError

data = App(name="data", help="Look at data sets.")


@data.command(name="info")
def data_info(path: Path, /, *, overrides: Set = None, as_json: AsJson = False) -> None:
    """Tell what a data set holds, image by image, as training would read it: what is passed over, refused, and why.

    Examples: msdk data info pictures / msdk data info pictures.zip --json / msdk data info recipes/digits/base.toml

    Parameters
    ----------
    path
        A folder of images, a .zip, or what plugins read; or a recipe or run folder, whose data are meant.
    """
    from msdk.surveying import dataset_at, survey

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
