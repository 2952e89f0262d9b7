"""From features to numbers, and what these may be called."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from msdk.denoiser import Denoiser
from msdk.evaluation.extracting import joined, kept
from msdk.evaluation.held_out import shown_to_denoiser
from msdk.evaluation.references import Reference
from msdk.evaluation.scores import (
    ExtractorStamp,
    ReferenceStamp,
    Score,
)
from msdk.evaluation.stamping import extractor_stamp
from msdk.evaluation.task import Task
from msdk.extractors.base import Extracted, Extractor, Opened
from msdk.metrics.base import Evidence, Found, Metric, Number
from msdk.recipe.structuring import to_data


def scored_by(
    task: Task,
    partial: Path,
    parts: Sequence[range],
    references: Mapping[str, Reference],
    denoiser: Denoiser | None,
    opened: Mapping[str, Opened],
    stamp: ReferenceStamp,
) -> tuple[Score, ...]:
    """All numbers of all metrics."""
    found: list[Score] = []
    looked: dict[str, Extracted] = {}
    for metric in task.metrics:
        extractor = task.of(metric)
        if extractor is None:
            shown = shown_to_denoiser(cast("Denoiser", denoiser), task.recipe, getattr(metric, "images", None))
            found += _told(task, metric, [metric.score(shown)], len(shown.hashes), stamp.images, None)
            continue
        key = str(to_data(extractor)["name"])
        if key not in looked:
            looked = {key: joined(kept(partial, "generated", parts, key), task.count)}  # of one extractor at a time
        generated, real, count = looked[key], references[key], task.options.images
        features = real.extracted if metric.reads == "features" else None
        ranges = [
            metric.score(Evidence(generated=_some(generated, start, count), reference=features, moments=real.moments))
            for start in range(0, task.count, count)
        ]
        of = extractor_stamp(extractor, opened[key])
        found += _told(task, metric, ranges, count, stamp.images, of)
    return tuple(found)


def _some(extracted: Extracted, start: int, count: int) -> Extracted:
    rows, logits = slice(start, start + count), extracted.logits
    return Extracted(extracted.features[rows], None if logits is None else logits[rows])


def _told(
    task: Task,
    metric: Metric,
    ranges: Sequence[Found],
    images: int,
    references: int,
    extractor: ExtractorStamp | None,
) -> list[Score]:
    of = task.of(metric)
    found: list[Score] = []
    for place, number in enumerate(ranges[0].numbers):
        each = [one.numbers[place] for one in ranges]
        values = tuple(one.value for one in each)
        stds = [one.std for one in each if one.std is not None]
        found.append(
            Score(
                name=_called(metric, of, number, images),
                value=sum(values) / len(values),
                better=number.better,
                std=sum(stds) / len(stds) if stds else None,
                ranges=values,
                metric=to_data(metric),
                images=images,
                references=references,
                extractor=extractor,
                notes=tuple(dict.fromkeys(note for one in ranges for note in one.notes)),
            )
        )
    return found


def _called(metric: Metric, extractor: Extractor | None, number: Number, images: int) -> str:
    """What a number may be called: by its extractor, and of fewer images than published ones are of, by how many."""
    called = metric.called(extractor)
    if number.name:
        label = called.removeprefix(metric.title)
        called = f"{number.name}{label}" if extractor is not None else f"{called} {number.name}"
    fewer = extractor is not None and extractor.protocol and images < extractor.protocol
    return f"{called}-{_short(images)}" if fewer else called


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)
