"""The terminal: what a person sees on stdout, and progress on stderr. rich is imported when something is shown."""

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from msdk.clustering import Clusters
    from msdk.pretrained.converting import Converted
    from msdk.registry.describing import Description
    from msdk.training import Step

PIPE_WIDTH = 150


def stdout() -> "Console":
    from rich.console import Console

    # A pipe has no width of its own, and a table folded to 80 columns is hard to read there.
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=PIPE_WIDTH)


def stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def show(what: "RenderableType") -> None:
    stdout().print(what)


def show_clusters(clusters: "Clusters") -> None:
    from msdk.report import clusters_grid

    show(clusters_grid(clusters).rich())


def show_part(part: "Description") -> None:
    from rich.markup import escape
    from rich.table import Table

    out = stdout()
    out.print(f"[bold]{part.name}[/bold]  ({part.singular} of {part.owner} {part.version})", highlight=False)
    out.print(f"{part.file}\n", highlight=False, soft_wrap=True)
    out.print(escape(part.description), highlight=False)
    if part.fields:
        table = Table("field", "type", "default", "meaning", title="\nFields", title_justify="left")
        for field in part.fields:
            default = "required" if field.required else json.dumps(field.default)
            table.add_row(field.name, escape(field.type), escape(default), escape(field.help))
        out.print(table)


def show_calls(found: "list[dict[str, Any]]", *, as_json: bool) -> None:
    from msdk.report import calls_grid

    if as_json:
        print_json(found)
    else:
        show(calls_grid(found).rich())


def show_converted(made: "Converted") -> None:
    text = f"{made.config}: {made.params:,} parameters"
    if made.stages:
        text += f", {made.stages} stage" + ("s" if made.stages > 1 else "") + f"; run folder {made.folder}"
        text += f" ({made.process})" + (", with its autoencoder" if made.autoencoder else "")
    else:
        fields = ", ".join(f"{key} = {json.dumps(value)}" for key, value in (made.autoencoder or {}).items())
        text += f"; a recipe points to it by: autoencoder = {{ {fields} }}"
    stdout().print(text, highlight=False, soft_wrap=True)
    if made.averages:
        warn("the file has averaged weights too, which published scores are of: --weights ema takes them")
    if made.latents:
        warn("the file has no autoencoder that is known, so samples are latents: set [autoencoder] in its recipe.toml")


def warn(text: str) -> None:
    from rich.markup import escape

    stderr().print(f"[bold yellow]msdk:[/bold yellow] {escape(text)}", highlight=False, soft_wrap=True)


def print_json(data: object) -> None:
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


@contextmanager
def spinner(text: str) -> Generator[Callable[[str], None]]:
    console = stderr()
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(text) as status:
        yield status.update


@contextmanager
def bar(*, quiet: bool = False) -> Generator[Callable[[str, int, int], None]]:
    """A progress bar per named piece of work, on stderr; nothing where stderr is no terminal."""
    from rich.progress import Progress, TaskID

    console = stderr()
    progress = Progress(console=console, transient=True, disable=quiet or not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def report(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total)
        progress.start()
        progress.update(tasks[name], completed=done, total=total)
        if done >= total:
            progress.stop()

    try:
        yield report
    finally:
        progress.stop()


@contextmanager
def training_display() -> "Generator[Callable[[Step], None]]":
    """A live line of stage losses, images/s and time left; plain lines where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (
        TextColumn("training"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[losses]}"),
        TextColumn("{task.fields[rate]:.0f} images/s"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    state: dict[str, Any] = {}

    def watch(step: "Step") -> None:
        losses = "loss by stage " + " / ".join("-" if loss != loss else f"{loss:.4f}" for loss in step.loss_by_stage)
        if not console.is_terminal:
            tenth = step.iteration * 10 // step.iterations
            if tenth != state.get("tenth", 0):
                state["tenth"] = tenth
                console.print(
                    f"iteration {step.iteration}/{step.iterations}  {losses}  {step.images_per_second:.0f} images/s",
                    highlight=False,
                    soft_wrap=True,
                )
            return
        if "task" not in state:
            progress.start()
            state["task"] = progress.add_task("", total=step.iterations, completed=step.iteration, losses="", rate=0.0)
        progress.update(state["task"], completed=step.iteration, losses=losses, rate=step.images_per_second)
        if step.iteration >= step.iterations:
            progress.stop()

    try:
        yield watch
    finally:
        progress.stop()
