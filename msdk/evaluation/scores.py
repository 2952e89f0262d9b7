"""Scores with the protocol that made them: what is written, read back, and put side by side."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from msdk.errors import RunError
from msdk.metrics.base import Better
from msdk.recipe.results import parsed, to_json
from msdk.report.scores import scores_grid

FOLDER = "evaluations"
"""Of a run: one JSON file for each evaluation."""


@attrs.frozen(kw_only=True)
class ExtractorStamp:
    """What made the features: its name, its settings, and the SHA-256 of its weights."""

    name: str
    settings: Mapping[str, Any]
    sha256: str


@attrs.frozen(kw_only=True)
class Score:
    """A number.

    Attributes:
        name: What it may be called: "FID", "FID-2k", "FD-digits", "precision".
        value: The mean over seed ranges.
        better: Which way is better.
        std: Its spread over subsets that the metric drew; None where it drew none.
        ranges: The value of each range of seeds; their spread is what a claim needs.
        metric: Name and settings.
        images: Generated images of a range; of a number without any, real ones.
        references: Real images.
        extractor: What made the features; None where there are none.
        notes: What a reader must know, sentences.
    """

    name: str
    value: float
    better: Better
    std: float | None = None
    ranges: tuple[float, ...] = ()
    metric: Mapping[str, Any]
    images: int
    references: int
    extractor: ExtractorStamp | None = None
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ImagesStamp:
    """What was judged.

    Attributes:
        run: The run folder.
        checkpoint: Its iteration.
        weights: "ema" or "raw".
        average: Settings of the average; None for the last weights.
        drawn: How images were drawn: sampler, steps, network calls, guidance, noise, precision, first and last seed;
            None where files were judged.
        files: Digest and place of images that were drawn elsewhere; None where they were drawn here.
        shape: Of an image.
        count: Images.
    """

    run: str
    checkpoint: int
    weights: str
    average: Mapping[str, Any] | None
    drawn: Mapping[str, Any] | None
    files: Mapping[str, Any] | None
    shape: tuple[int, ...]
    count: int


@attrs.frozen(kw_only=True)
class ReferenceStamp:
    """What it was compared with.

    Attributes:
        data: The data set as a recipe names it.
        sha256: Its digest.
        split: "all" images, the "trained" ones, or those "held-out".
        held_out: The share that is.
        images: How many.
        shape: Of an image.
        protocol: How they were cropped and resized, where the data say so.
        jpeg: The share of images that were JPEG, by 64 of them and by what the data say; None where images are in no
            files.
    """

    data: Mapping[str, Any]
    sha256: str
    split: str
    held_out: float
    images: int
    shape: tuple[int, ...]
    protocol: str
    jpeg: float | None


@attrs.frozen(kw_only=True)
class Cost:
    """What an evaluation took.

    Attributes:
        images: Drawn.
        nfe: Network calls for each.
        macs: Of these calls, by the run's ledger; None of a run without one.
        flops: Twice as many.
        seconds: From beginning to end; of the last process where it went on after an earlier one.
    """

    images: int
    nfe: int
    macs: int | None
    flops: int | None
    seconds: float


@attrs.frozen(kw_only=True)
class Scores:
    """An evaluation: the content of evaluations/NAME.json (docs/contracts.md).

    Attributes:
        name: Of its file.
        scores: The numbers.
        images: What was judged.
        reference: What it was compared with.
        versions: Of msdk, torch, numpy and what extractors need.
        processes: How many made it.
        cost: What it took.
        request: SHA-256 of all that decides the numbers; the same request is answered from the file.
        notes: What a reader must know of all of them, sentences.
    """

    name: str
    scores: tuple[Score, ...]
    images: ImagesStamp
    reference: ReferenceStamp
    versions: Mapping[str, str]
    processes: int
    cost: Cost
    request: str
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        """The value of a score by its name."""
        for score in self.scores:
            if score.name == name:
                return score.value
        raise RunError(f"there is no score '{name}': there are {', '.join(each.name for each in self.scores)}")

    def __repr__(self) -> str:
        return scores_grid(self).brief()

    def _repr_html_(self) -> str:
        return scores_grid(self).html()

    def as_json(self) -> dict[str, Any]:
        """The object of evaluations/NAME.json."""
        return to_json(self)


def read_scores(path: Path) -> Scores:
    """The scores of a file.

    Raises:
        RunError: It cannot be read, or is none of msdk's.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    return parsed(content, path, Scores, "an evaluation, as `msdk evaluate` writes it")


def scores_of(run: Path) -> list[Scores]:
    """All evaluations of a run, in the order of their names; what is damaged is left out."""
    found: list[Scores] = []
    for path in sorted((run / FOLDER).glob("*.json")):
        try:
            found.append(read_scores(path))
        except RunError:
            continue
    return found


SUBJECT = ("run", "checkpoint", "average", "seeds")
"""What two numbers of one column may differ in: whose they are."""


def unlike(a: Scores, b: Scores, name: str) -> list[tuple[str, Any, Any]]:
    """The fields of their stamps on which a score of both differs, with what each has; none where they compare."""
    one, other = (next((each for each in scores.scores if each.name == name), None) for scores in (a, b))
    if one is None or other is None:
        return [("score", one and name, other and name)]
    stamps = [dict(_fields(scores, score)) for scores, score in ((a, one), (b, other))]
    keys = [key for key in dict.fromkeys([*stamps[0], *stamps[1]]) if key.split(".")[-1] not in SUBJECT]
    return [(key, stamps[0].get(key), stamps[1].get(key)) for key in keys if stamps[0].get(key) != stamps[1].get(key)]


def _fields(scores: Scores, score: Score) -> Iterator[tuple[str, Any]]:
    yield from _flat("metric", score.metric)
    yield "images", score.images
    yield "references", score.references
    yield from _flat("extractor", to_json(score.extractor))
    yield from _flat("images", {key: value for key, value in to_json(scores.images).items() if key != "count"})
    reference = to_json(scores.reference)
    del reference["data"]  # where they lie says nothing: the digest does
    yield from _flat("reference", reference)


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            # Where a file of weights lies says nothing: it has a digest.
            if key != "weights" or path not in ("extractor", "metric"):
                yield from _flat(f"{path}.{key}", inner)
    else:
        yield path, value
