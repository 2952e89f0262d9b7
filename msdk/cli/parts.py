"""`msdk list` and `msdk show`."""

from msdk.cli import display
from msdk.cli.options import AsJson
from msdk.errors import MsdkError


def list_parts(kind: str | None = None, /, *, as_json: AsJson = False) -> None:
    """List the parts that recipes can name.

    Examples: msdk list / msdk list encoders / msdk list samplers --json

    Parameters
    ----------
    kind
        One kind of part, in singular or plural; all kinds when not given.
    """
    from msdk.registry import registries, registry_of
    from msdk.registry.describing import summary
    from msdk.registry.lookup import broken_plugins

    asked = [registry_of(kind)] if kind else list(registries().values())
    found = [
        {
            "kind": one.kind,
            "name": part,
            "owner": origin.owner,
            "version": origin.version,
            "target": origin.target,
            "description": summary(origin),
        }
        for one in asked
        for part in one.names()
        for origin in (one.origin(part),)
    ]
    for plugin in broken_plugins():
        display.warn(f"the plugin {plugin.owner} is left out: {plugin.reason}")
    if as_json:
        display.print_json(found)
        return
    from msdk.report import parts_grids

    display.show(*parts_grids(found))


def show(kind: str, name: str | None = None, /, *, as_json: AsJson = False) -> None:
    """Show one part, or a table of recipes: what it does, where it comes from, and its fields with their defaults.

    A kind alone is shown as Markdown, and so are `tables`.

    Examples: msdk show encoder ddpmpp / msdk show training / msdk show sampler heun --json
    / msdk show clusterings > clusterings.md

    Parameters
    ----------
    kind
        encoder, decoder, schedule, sampler, ...; or recipe, stages, adapter, training, sampling, budget: a table.
    name
        A name that `msdk list` prints; without it, what every part of the kind must have, and msdk's own.
    """
    from msdk.recipe.describing import TABLES, describe_table, tables_page
    from msdk.registry.describing import describe, kind_page

    if name is None and kind not in TABLES:
        if as_json:
            raise MsdkError(f"--json shows one part: name it, msdk show {kind} NAME --json")
        display.show_lines(tables_page() if kind == "tables" else kind_page(kind))
        return
    shown = describe_table(kind) if name is None else describe(kind, name)
    if as_json:
        display.print_json(shown.as_json())
    else:
        display.show_part(shown)
