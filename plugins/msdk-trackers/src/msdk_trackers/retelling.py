"""A run of a tracker that shows each step once, though its library takes nothing back and may lose what was told last.

A run that goes on is told anew from what its folder has: numbers from metrics.jsonl, images from those kept beside it.
"""

import abc
import importlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import attrs

from msdk.errors import MsdkError
from msdk.recipe import to_data
from msdk.trackers.base import Log, Numbers, scalars, told

if TYPE_CHECKING:
    from torch import Tensor

    from msdk.recipe import Recipe

Line = tuple[int, dict[str, float]]
"""A step and its numbers, by stage `NAME/STAGE`."""


def library(name: str, tracker: str) -> Any:
    """A library, imported.

    Raises:
        MsdkError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MsdkError(
            f"the tracker '{tracker}' needs the package {name}, which cannot be imported ({error}): pip install "
            f"'msdk-trackers[{tracker}]', or leave it out of the recipe's trackers"
        ) from error


@attrs.define
class Retelling(Log):
    """What the trackers have in common. `folder` is theirs, in the run folder.

    Args:
        run_dir: The run folder.
        recipe: What is trained.
        folder: Of the tracker.
    """

    run_dir: Path
    recipe: "Recipe"
    folder: Path
    before: str = attrs.field(init=False)
    """The name of the run that an earlier process told; empty without one. Read now: a new run replaces the folder."""
    begun: bool = attrs.field(init=False, default=False)
    shown: int = attrs.field(init=False, default=0)
    """The last step that the library has and is not to be told again."""

    def __attrs_post_init__(self) -> None:
        try:
            self.before = str(json.loads((self.folder / "run.json").read_bytes())["name"])
        except (OSError, ValueError, TypeError, KeyError):
            self.before = ""

    @abc.abstractmethod
    def _begin(self, steps: Sequence[int]) -> int:
        """Opens the library's run, where the steps that were told are `steps`, and `_name`s it.

        Returns the last step that it has; where it would show anything else, none of it is left: 0.
        """

    @abc.abstractmethod
    def _tell(self, lines: Iterable[Line]) -> None:
        """Shows numbers."""

    @abc.abstractmethod
    def _show(self, name: str, step: int, file: Path) -> None:
        """Shows an image: a PNG file that stays where it is."""

    @abc.abstractmethod
    def _end(self) -> None:
        """Writes what is still to be written."""

    def log(self, step: int, numbers: Numbers) -> None:
        self._start([])
        if step > self.shown:
            self._tell([(step, dict(scalars(numbers)))])

    def image(self, name: str, step: int, image: "Tensor") -> None:
        self._start([])
        file = self.folder / "images" / str(step) / f"{quote(name, safe='')}.png"
        _write_png(file, image)
        if step > self.shown:
            self._show(name, step, file)

    def rewind(self, step: int) -> None:
        for at, file in self._images():
            if at > step:
                file.unlink()
        lines = [(at, dict(scalars(numbers))) for at, numbers in told(self.run_dir, step)]
        self._start([at for at, _ in lines])
        images = [(at, file) for at, file in self._images() if at > self.shown]
        lines = [line for line in lines if line[0] > self.shown]
        # Some libraries want ascending steps; numbers go in one piece up to the next image.
        for at, file in images:
            self._tell([line for line in lines if line[0] <= at])
            lines = [line for line in lines if line[0] > at]
            self._show(unquote(file.stem), at, file)
        self._tell(lines)

    def close(self) -> None:
        if self.begun:
            self._end()

    def _start(self, steps: Sequence[int]) -> None:
        if not self.begun:
            self.shown = self._begin(steps)
            self.begun = True

    def _name(self, name: str) -> None:
        """Keeps the name of the library's run, for whoever goes on with it."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps({"name": name}), encoding="utf-8")

    def _images(self) -> list[tuple[int, Path]]:
        """Those of the folder, in the order of their steps."""
        found = [(int(file.parent.name), file) for file in (self.folder / "images").glob("*/*.png")]
        return sorted(found)

    def _swept(self) -> None:
        """Removes all of the tracker's folder but the images that were kept for telling."""
        for each in self.folder.iterdir() if self.folder.is_dir() else ():
            if each.name != "images":
                shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()

    def _settings(self) -> dict[str, Any]:
        """The recipe, as a library's settings of a run."""
        return to_data(self.recipe)


def new_name(run_dir: Path) -> str:
    """A name for a run that no other has."""
    return f"{run_dir.resolve().name}-{secrets.token_hex(4)}"


def flat(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Tables and lists of data by their paths, as `--set` takes them."""
    if isinstance(data, dict | list) and data:
        items: Iterable[tuple[Any, Any]] = data.items() if isinstance(data, dict) else enumerate(data)
        for key, value in items:
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, data


def _write_png(file: Path, image: "Tensor") -> None:
    from PIL import Image

    pixels = image.detach().cpu().movedim(0, -1).numpy()
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file)
