"""Images in many zip or tar files, read as one."""

import bisect
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import attrs

from msdk.datasets.base import FileSource, ImageFiles, Source
from msdk.datasets.listing import HIDDEN, NO_IMAGE, hidden, suffix
from msdk.datasets.tar import Tar
from msdk.datasets.zip import Zip
from msdk.encoders.base import Shape
from msdk.errors import DataError

SHARDS: Mapping[str, type[Zip | Tar]] = {".zip": Zip, ".tar": Tar}
"""Ending of a shard -> how it is read."""


class _Shards(FileSource):
    """Sources one after another, with the names of what lies beside their files."""

    parallel = True

    def __init__(self, sources: Mapping[Path, FileSource], beside: Sequence[str], shape: Shape) -> None:
        super().__init__(shape)
        self._sources = list(sources.values())
        self._ends = list(itertools.accumulate(map(len, self._sources)))
        self.digest = hashlib.sha256("".join(source.digest for source in self._sources).encode()).hexdigest()
        self.problems = [problem for source in self._sources for problem in source.problems]
        passed: dict[str, list[str]] = {}
        for name in beside:
            passed.setdefault(HIDDEN if hidden(name) else NO_IMAGE, []).append(name)
        for source in self._sources:
            for reason, names in source.passed_over.items():
                passed.setdefault(reason, []).extend(names)
        self.passed_over = passed
        labels = [source.labels for source in self._sources]
        known = [each for each in labels if each is not None]
        self.labels = list(itertools.chain(*known)) if len(known) == len(labels) else None
        self.unlabelled = next((source.unlabelled for source in self._sources if source.labels is None), "")
        # One shard may have fewer classes than another.
        named = [source.class_names or () for source in self._sources]
        longest = max(named, key=len)
        for place, names in zip(sources, named, strict=True):
            differs = next(((a, b) for a, b in zip(names, longest, strict=False) if a != b), None)
            if differs:
                self.problems.append(
                    f"{place} calls a class {differs[0]!r} that another file calls {differs[1]!r}: give them one "
                    "list of class_names"
                )
        protocols = {source.protocol for source in self._sources}
        self.protocol = protocols.pop() if len(protocols) == 1 else ""
        self.jpeg = sum(source.jpeg for source in self._sources)
        self.class_names = longest if longest and all(named) and not self.problems else None

    def __len__(self) -> int:
        return self._ends[-1]

    def _at(self, index: int) -> tuple[FileSource, int]:
        number = bisect.bisect_right(self._ends, index)
        return self._sources[number], index - (self._ends[number - 1] if number else 0)

    def name(self, index: int) -> str:
        source, within = self._at(index)
        return source.name(within)

    def content(self, index: int, most: int) -> bytes:
        source, within = self._at(index)
        return source.content(within, most)


@attrs.frozen(kw_only=True)
class Shards(ImageFiles):
    """All zip or tar files of a folder as one data set, in the order of their names.

    Each is as `zip` or `tar` reads it. Classes are known where every shard has them.

    Args:
        path: The folder.
        size: Side of every image in pixels.
        channels: 3 for colour, 1 for grey; images are converted.
        protocol: What the images were made by, as `msdk data prepare` notes it; others are refused.
        sha256: Digest of the data, or how it begins; others are refused.
    """

    def look(self) -> Source:
        if not self.path.is_dir():
            raise DataError(f"there is no folder {self.path}: set data.path")
        files, beside = _sorted_out(self.path)
        if not files:
            raise DataError(f"the folder {self.path} holds no .zip and no .tar, which shards are")
        opened = {
            file: SHARDS[suffix(file.name)](path=file, size=self.size, channels=self.channels).look() for file in files
        }
        return _Shards(opened, beside, self.shape)

    @classmethod
    def found_at(cls, path: Path) -> Self | None:
        if not path.is_dir():
            return None
        files, beside = _sorted_out(path)
        return cls(path=path) if files and not any(map(Path.is_dir, map(path.joinpath, beside))) else None


def _sorted_out(path: Path) -> tuple[list[Path], list[str]]:
    """The shards of a folder, and the names of everything else."""
    names = sorted(each.name for each in path.iterdir())
    shards = [name for name in names if suffix(name) in SHARDS and not hidden(name)]
    return [path / name for name in shards], [name for name in names if name not in set(shards)]
