"""`msdk plugin`: begin a package with parts of one's own, and see how those installed look from outside."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from msdk.cli import display
from msdk.cli.options import AsJson

plugins = App(name="plugin", help="Write plugins, and see what is wrong with those installed.")


@plugins.command
def new(
    name: str,
    /,
    *,
    kind: Annotated[str, Parameter(help="What it registers: encoder, decoder, sampler, ... as `msdk list` has them.")],
    out: Annotated[Path | None, Parameter(help="The folder; NAME by default.")] = None,
) -> None:
    """Write a complete package with one part, a test that calls the kit, and a README.

    Examples: msdk plugin new my-lab --kind encoder

    Parameters
    ----------
    name
        Of the package and of the part, for example my-lab.
    """
    from msdk.authoring.scaffolding import scaffold

    folder = out or Path(name)
    files = scaffold(name, kind, folder)
    for file in files:
        display.say(f"wrote {file}")
    display.say(f"next: cd {folder} && pip install -e . pytest && pytest")


@plugins.command
def doctor(*, as_json: AsJson = False) -> int:
    """Examine every installed plugin: parts, versions, import time, and each fault with its cause and cure.

    Exits 1 where something is wrong.

    Examples: msdk plugin doctor / msdk plugin doctor --json
    """
    from msdk.authoring.doctor import examine, switched

    with display.spinner("examining plugins") as say:
        found = examine(lambda name: say(f"importing {name}"))
    told = switched()
    if told:
        display.warn(told)
    if as_json:
        display.print_json([plugin.as_json() for plugin in found])
    else:
        from msdk.report import plugins_grid

        display.show(plugins_grid([plugin.as_json() for plugin in found]))
    return int(any(plugin.findings for plugin in found))
