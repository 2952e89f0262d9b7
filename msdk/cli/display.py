"""The terminal: what a person sees on stdout, and progress on stderr. rich is imported when something is shown.

All that commands print goes through here, and all of it is text: a title, a path or a message in brackets is no markup,
and control characters are shown escaped. tests/cli/test_display.py holds the command line to it.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msdk.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from msdk.clustering import Clusters
    from msdk.pretrained.converting import Converted
    from msdk.registry.describing import Description
    from msdk.report import Grid
    from msdk.surveying import Survey
    from msdk.training import Step

PIPE_WIDTH = 150


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    # A pipe has no width of its own, and a table folded to 80 columns is hard to read there.
    piped = not stderr and not sys.stdout.isatty() and "COLUMNS" not in os.environ
    width = PIPE_WIDTH if piped else None
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def _text(text: str, prefix: str = "", style: str = "") -> "Text":
    from rich.text import Text

    return Text.assemble((prefix, style), printable(text, keep="\n\t"))


def any_encoding() -> None:
    """From now on what a terminal or pipe cannot encode is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """A line on stdout; never folded, so that paths can be copied."""
    sys.stdout.write(printable(text) + "\n")


def show_lines(text: str) -> None:
    """A text of several lines on stdout, such as a file."""
    sys.stdout.write(printable(text.rstrip("\n"), keep="\n\t") + "\n")


def show(grid: "Grid") -> None:
    _console().print(grid.rich())


def show_clusters(clusters: "Clusters") -> None:
    from msdk.report import clusters_grid

    show(clusters_grid(clusters))


def show_survey(survey: "Survey") -> None:
    from msdk.report import survey_grids

    for grid in survey_grids(survey):
        show(grid)
    if survey.usable:
        # Quoted as in JSON, which TOML reads as well.
        told = {key: json.dumps(value, ensure_ascii=False) for key, value in survey.data.items() if value is not None}
        fields = ", ".join(f"{key} = {value}" for key, value in told.items())
        say(f"a recipe reads them by: data = {{ {fields} }}")


def show_part(part: "Description") -> None:
    from msdk.report import Grid

    rest = f"  ({part.singular} of {part.owner} {part.version})\n{part.file}\n\n{part.description}"
    _console().print(_text(rest, printable(part.name), "bold"), soft_wrap=True)
    if part.fields:
        rows = tuple(
            (field.name, field.type, "required" if field.required else json.dumps(field.default), field.help)
            for field in part.fields
        )
        show(Grid("Fields", ("field", "type", "default", "meaning"), rows, numbers=4))


def show_calls(found: "list[dict[str, Any]]", *, as_json: bool) -> None:
    from msdk.report import calls_grid

    if as_json:
        print_json(found)
    else:
        show(calls_grid(found))


def show_converted(made: "Converted") -> None:
    text = f"{made.config}: {made.params:,} parameters"
    if made.stages:
        text += f", {made.stages} stage" + ("s" if made.stages > 1 else "") + f"; run folder {made.folder}"
        text += f" ({made.process})" + (", with its autoencoder" if made.autoencoder else "")
    else:
        fields = ", ".join(f"{key} = {json.dumps(value)}" for key, value in (made.autoencoder or {}).items())
        text += f"; a recipe points to it by: autoencoder = {{ {fields} }}"
    say(text)
    if made.averages:
        warn("the file has averaged weights too, which published scores are of: --weights ema takes them")
    if made.latents:
        warn("the file has no autoencoder that is known, so samples are latents: set [autoencoder] in its recipe.toml")


def warn(text: str) -> None:
    _console(stderr=True).print(_text(f" {text}", "msdk:", "bold yellow"), soft_wrap=True)


def fail(text: str) -> None:
    _console(stderr=True).print(_text(f" {text}", "msdk:", "bold red"), soft_wrap=True)


def print_json(data: object) -> None:
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


@contextmanager
def spinner(text: str) -> Generator[Callable[[str], None]]:
    console = _console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(_text(text)) as status:
        yield lambda text: status.update(_text(text))


@contextmanager
def bar(*, quiet: bool = False) -> Generator[Callable[[str, int, int], None]]:
    """A progress bar per named piece of work, on stderr; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = _console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def report(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(printable(name), total=total)
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

    console = _console(stderr=True)
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
