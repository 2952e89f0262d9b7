"""The protocol of scores: what decides a number, and what a reader must know of it."""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from msdk import __version__
from msdk.datasets.base import Source
from msdk.evaluation.references import jpeg_share
from msdk.evaluation.scores import (
    Cost,
    ExtractorStamp,
    ImagesStamp,
    ReferenceStamp,
)
from msdk.evaluation.task import Task
from msdk.extractors.base import Extractor, Opened
from msdk.recipe.results import to_json
from msdk.recipe.structuring import to_data
from msdk.sampling.drawing import trace
from msdk.sampling.guides import guide_told


def images_stamp(task: Task, files: Source | None) -> ImagesStamp:
    """What is judged."""
    options, recipe = task.options, task.recipe
    averages = recipe.training.kept_averages
    average = to_data(averages[0]) if options.weights == "ema" and averages and files is None else None
    drawn: dict[str, Any] | None = None
    if files is None:
        free = ("images", "seed", "batch_size", "steps", "nfe", "steps_per_stage")
        sampling = {key: value for key, value in to_data(recipe.sampling).items() if key not in free}
        sampling |= guide_told(recipe, sampling)
        drawn = {
            "samplers": [to_data(part) for part in (recipe.samplers or (recipe.sampler,))],
            "steps": list(recipe.sampling.steps_per_stage or (recipe.steps,)),
            "nfe": sum(call.evaluations + call.of_another for call in recipe.calls()),
            **sampling,
            "precision": "float32",
            **({} if task.mixed is None else {"mixed": dict(task.mixed)}),
            "seeds": [options.seed, options.seed + task.count - 1],
        }
    place = None
    if files is not None:
        told = {"sha256": files.digest, "images": len(files), "protocol": files.protocol}
        share = jpeg_share(files)
        place = {**told, "jpeg": share} if share else told
    return ImagesStamp(
        run=str(task.run.resolve()),
        checkpoint=task.checkpoint,
        weights="files" if files is not None else "ema" if average is not None else "raw",
        average=average,
        drawn=drawn,
        files=place,
        shape=tuple(task.recipe.data.shape),
        count=task.count,
    )


def request(task: Task, opened: Mapping[str, Opened], images: ImagesStamp, reference: ReferenceStamp) -> str:
    """SHA-256 of all that decides the numbers."""
    stamps = {key: to_json(extractor_stamp(task.extractors[key], each)) for key, each in opened.items()}
    found = {
        "metrics": [to_data(metric) for metric in task.metrics],
        "extractors": stamps,
        "images": {key: value for key, value in to_json(images).items() if key != "run"},
        "repeats": task.options.repeats,
        "reference": to_json(reference),
    }
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def extractor_stamp(extractor: Extractor, opened: Opened) -> ExtractorStamp:
    """What makes features; where the file of its weights lies says nothing, its digest does."""
    told = dict(to_data(extractor))
    return ExtractorStamp(
        name=told.pop("name"),
        settings={key: value for key, value in told.items() if key != "weights"},
        sha256=opened.digest,
    )


def versions(opened: Mapping[str, Opened]) -> dict[str, str]:
    """Of what computes."""
    needed = {"inception": "torch-fidelity", "dinov2": "timm"}
    others = {needed[key]: importlib.metadata.version(needed[key]) for key in opened if key in needed}
    return {"msdk": __version__, "torch": str(torch.__version__), "numpy": np.__version__, **others}


def notes_of(task: Task, images: ImagesStamp, reference: ReferenceStamp) -> list[str]:
    """What a reader must know of all scores."""
    found: list[str] = []
    for what, share in (("real images", reference.jpeg), ("samples", (images.files or {}).get("jpeg"))):
        if share:
            found.append(
                f"{100 * share:.0f} % of the {what} were JPEG: scores with images that never were cannot be compared "
                "with these"
            )
    if task.options.repeats == 1 and any(metric.reads != "denoiser" for metric in task.metrics):
        found.append("one range of seeds: a claim needs the spread over three (--repeats 3)")
    return found


def cost_of(task: Task, seconds: float) -> Cost:
    """What drawing took, by the run's ledger."""
    drawn = 0 if task.files is not None or not task.extractors else task.count
    calls = trace(task.run, task.recipe) if drawn else []
    macs = None if any(call["macs"] is None for call in calls) else drawn * sum(call["macs"] for call in calls)
    return Cost(
        images=drawn,
        nfe=sum(call["evaluations"] + call.get("of_another", 0) for call in calls),
        macs=macs,
        flops=None if macs is None else 2 * macs,
        seconds=seconds,
    )
