"""The terminal: what a person sees on stdout, and progress on stderr. rich is imported when something is shown.

All that commands print goes through here, and all of it is text: a title, a path or a message in brackets is no markup,
and control characters are shown escaped. tests/cli/test_display.py holds the command line to it.
"""

import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdk.errors import MsdkError, cut, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from msdk.clustering import Clusters
    from msdk.preparing import Prepared
    from msdk.preparing.surveying import Survey
    from msdk.pretrained.converting import Converted
    from msdk.registry.describing import Description
    from msdk.report import Grid
    from msdk.training import Step
    from msdk.training.encoding import Encoded
    from msdk.training.latents import Notes

PIPE_WIDTH = 150
STYLES = {"title": "table.title", "head": "table.header", "note": "table.caption"}
"""Of the lines of a table, by their roles."""


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


def prose(text: str) -> None:
    """A sentence on stdout, folded to the width of the terminal."""
    from msdk.report.layout import folded

    for line in folded(printable(text), min(_console().width, 120)):
        say(line)


def hint(*words: object, overrides: Sequence[str] | None = None) -> None:
    """The command that is likely to come next, as it can be typed, with the same --set."""
    settings = [word for each in overrides or () for word in ("--set", each)]
    say(f"next: msdk {shlex.join([*map(str, words), *settings])}")


def show_lines(text: str) -> None:
    """A text of several lines on stdout, such as a file."""
    sys.stdout.write(printable(text.rstrip("\n"), keep="\n\t") + "\n")


def show(*grids: "Grid") -> None:
    """Tables on stdout, in the width of the terminal."""
    console = _console()
    for index, grid in enumerate(grids):
        if index:
            console.print()
        for text, role in grid.lines(console.width):
            console.print(_text("", text, STYLES.get(role, "")), soft_wrap=True)


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


def show_prepared(made: "Prepared") -> None:
    classes = f", {made.classes:,} classes" if made.classes else ""
    kept = f" ({made.kept:,} of them were there)" if made.kept else ""
    colour = "grey" if made.channels == 1 else "colour"
    say(
        f"{made.path}: {made.images:,} images{kept} of {made.size}x{made.size} in {colour}{classes}, by {made.protocol}"
    )
    if made.jpeg:
        warn(
            f"{made.jpeg:,} of the pictures were JPEG, whose blocks and blurred colours are learned as well; scores "
            "against images that were never JPEG cannot be compared with those against these"
        )
    kind = "zip" if made.path.suffix == ".zip" else "tar"
    fields = {"name": kind, "path": str(made.path), "size": made.size, "channels": made.channels}
    fields |= {"protocol": made.protocol, "sha256": made.sha256[:16]}
    told = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())
    say(f"a recipe reads them by: data = {{ {told} }}")
    hint("data", "info", made.path)


def show_encoded(made: "Encoded") -> None:
    kept = f" ({made.kept:,} of them were there)" if made.kept else ""
    shape = "x".join(map(str, made.shape))
    more = [*(["with variances"] if made.moments else []), *(["mirrored, too"] if made.mirrored else [])]
    say(f"{made.path}: latents of {made.images:,} images{kept}, {', '.join([shape, *more])}")
    say(f"training reads them by: --set training.latents={json.dumps(str(made.path), ensure_ascii=False)}")


def show_latents(path: Path, notes: "Notes", *, as_json: bool) -> None:
    if as_json:
        from msdk.recipe.results import to_json

        print_json({"path": str(path), **to_json(notes)})
        return
    shape = "x".join(map(str, notes.shape))
    say(f"{path}: latents of {notes.images:,} images, {shape}, encoded in {notes.precision}")
    say(f"variances: {'kept' if notes.moments else 'none'}; mirrored images: {'kept' if notes.mirrored else 'none'}")
    say(f"autoencoder: {notes.autoencoder.get('name')}, SHA-256 of its weights {notes.autoencoder_sha256}")
    say(f"data: {notes.data.get('name')}{f', {notes.protocol}' if notes.protocol else ''}, SHA-256 {notes.data_sha256}")


def show_part(part: "Description") -> None:
    from msdk.report import Grid, paragraphs

    console = _console()
    told = "\n".join(paragraphs(part.description, console.width))
    rest = f"  ({part.singular} of {part.owner} {part.version})\n{part.file}\n\n{told}"
    console.print(_text(rest, printable(part.name), "bold"), soft_wrap=True)
    if part.fields:
        console.print()
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
    if made.stages:
        hint("sample", str(made.folder))


def warn(text: str) -> None:
    _console(stderr=True).print(_text(f" {text}", "msdk:", "bold yellow"), soft_wrap=True)


def note(text: str) -> None:
    """A line of progress on stderr."""
    _console(stderr=True).print(_text(text), soft_wrap=True)


def fail(text: str) -> None:
    _console(stderr=True).print(_text(f" {text}", "msdk:", "bold red"), soft_wrap=True)


def failed(error: BaseException) -> int:
    """Tells an error; 2 for a mistake of the user, 3 for a fault of a plugin. One of msdk's own is raised on."""
    from msdk.registry.faults import fault_in, written_trace

    fault = fault_in(error)
    if fault is None and not isinstance(error, MsdkError):
        raise error
    fail(str(error) if isinstance(error, MsdkError) else cut(f"{type(error).__name__}: {error}", 2000))
    if fault is None:
        return 2
    trace = written_trace(fault.error)
    where = f" in {fault.place}" if fault.place else ""
    there = f"its trace is in {trace}" if trace else "its trace could not be written"
    fail(f"that is a fault of {fault.who}{where}, for its author to mend; {there}")
    return 3


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
            room = max(console.width - 40, 16)  # the bar, the share and the time left are seen beside it
            tasks[name] = progress.add_task(cut(printable(name), room), total=total)
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
    """A live line of stage losses, images/s and time left; where there is no terminal, some ten plain lines in all."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[losses]}", markup=False),
        TextColumn("{task.fields[rate]:.0f} images/s"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    state: dict[str, Any] = {"tenth": 0}

    def line(step: "Step") -> None:
        tenth = step.logged * 10 // step.iterations
        if tenth > state["tenth"]:  # and never twice the same losses, nor any before there are some
            state["tenth"] = tenth
            losses = _losses(step, 10**6)
            text = f"iteration {step.logged}/{step.iterations}  {losses}  {step.images_per_second:.0f} images/s"
            console.print(text, soft_wrap=True)

    def watch(step: "Step") -> None:
        if not console.is_terminal:
            line(step)
            return
        if "task" not in state:
            progress.start()
            state["task"] = progress.add_task("", total=step.iterations, completed=step.iteration, losses="", rate=0.0)
        # Beside what always stands there: the counter, the rate, the time left, and some of the bar.
        room = console.width - len(f"training  {step.iteration}/{step.iterations}  images/s 0:00:00") - 18
        progress.update(
            state["task"], completed=step.iteration, losses=_losses(step, room), rate=step.images_per_second
        )
        if step.iteration >= step.iterations:
            progress.stop()

    try:
        yield watch
    finally:
        progress.stop()


def _losses(step: "Step", room: int) -> str:
    """The losses of the stages, or the mean loss, as there is room; nothing before the first of them."""
    if not step.logged:
        return ""

    def by_stage(losses: "Sequence[float]") -> str:
        return " / ".join("-" if loss != loss else f"{loss:.4f}" for loss in losses)

    texts = [f"loss by stage {by_stage(step.loss_by_stage)}", f"loss {step.loss:.4f}"]
    if any(loss == loss for loss in step.held_out_by_stage):
        texts.insert(0, f"{texts[0]}, held out {by_stage(step.held_out_by_stage)}")
    return next((text for text in texts if len(text) <= room), "")
