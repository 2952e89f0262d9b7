"""Does what `msdk recipe check` calls good ever end in a traceback? Every field, at its edges, is set and run.

Recipes are small ones on the digits, one for each registered part. Every field of recipe, training, sampling and part
is set to values at the edge of its type and beyond, alone and in swapped pairs. Right: the recipe is refused in words,
or it is trained for two steps and sampled in two, and what stops there is one of msdk's own errors.

Prints one JSON line: how many attacks of each case were refused, fine, told late (refused when it ran, in words), slow
(more than 20 s) or faults; stderr has all but the first two.

`python benchmarks/bench_attack.py` tries all, some 20,000, in about an hour; `--runs 20` that many of each case, drawn
by `--seed`; `--only samplers` those cases alone.
"""

import argparse
import collections
import copy
import json
import math
import random
import sys
import time
import traceback
import typing
from collections.abc import Iterator
from typing import Any

import attrs

import msdk
from msdk.errors import MsdkError, RecipeError
from msdk.recipe import Recipe, structure
from msdk.registry import registries

Data = dict[str, Any]
Place = tuple[str | int, ...]

FLOATS = (0.0, -1.0, 1e-300, 1e-12, 0.5, 1.0, 7.0, 1e6, 1e30, 1e300, math.nan, math.inf, -math.inf)
INTS = (0, -1, 1, 2, 3, 5, 8, 1000, 2**31, 2**40, 2**63 - 1, 10**30)
WRONG = ("nonsense", True, [], {}, [1, 2, 3])

BASE: Data = {
    "data": {"name": "digits"},
    "schedule": {"name": "vp-linear"},
    "parameterization": {"name": "edm", "sigma_data": 0.75},
    "weighting": {"name": "edm", "sigma_data": 0.75},
    "stages": {"edges_ratio": [0.3, 2.5]},
    "encoder": {"name": "ddpmpp", "channels": 8, "channel_mult": [1, 1], "blocks": 1, "attention": [4], "classes": 10},
    "decoders": [{"name": "ddpmpp", "channels": width} for width in (8, 4, 4)],
    "training": {"iterations": 2, "batch_size": 4, "log_every": 1, "checkpoint_every": 100},
    "sampler": {"name": "dpmpp-2m", "grid": "uniform-t"},
    "sampling": {"steps": 2, "images": 2, "batch_size": 2},
}
"""The shipped digits recipe, in small."""
CASES: tuple[Data, ...] = (
    {},
    {"encoder": {"name": "ncsnpp"}, "schedule": {"name": "ve"}, "parameterization": {"name": "score"}},
    {"encoder": {"name": "ddpm"}, "decoders": [{"name": "ddpm"}] * 3, "schedule": {"name": "vp-discrete"}},
    {"encoder": {"name": "song-ddpmpp"}, "decoders": [{"name": "song-ddpmpp"}] * 3, "schedule": {"name": "edm"}},
    {"encoder": {"name": "song-ncsnpp"}, "decoders": [{"name": "song-ncsnpp"}] * 3},
    {"encoder": {"name": "adm"}, "decoders": [{"name": "adm"}] * 3, "parameterization": {"name": "iddpm"}},
    {"encoder": {"name": "ldm", "head_width": 4}, "decoders": [{"name": "ldm", "head_width": 4}] * 3},
    {"encoder": {"name": "subspace"}, "decoders": [{"name": "subspace"}] * 3},
    {"encoder": {"name": "dit"}, "decoders": [{"name": "dit", "depth": 1}] * 3},
    {"encoder": {"name": "uvit"}, "decoders": [{"name": "uvit"}] * 3},
    {"encoder": {"name": "iunet", "head_width": 4}, "decoders": [{"name": "iunet", "head_width": 4}] * 3},
    {"adapter": {"channels": [8, 8]}, "sharing": "separate"},
    {"encoders": [{"name": "ddpmpp"}, {"name": "ddpm"}, {"name": "ddpmpp"}], "sharing": "separate"},
)
"""Other networks; single parts are put in by `cases`."""

SMALL: Data = {"channels": 8, "channel_mult": [1, 1], "blocks": 1, "attention": [4], "width": 16, "heads": 2}
SMALL["patch"] = 2


def small(part: type, table: Data) -> Data:
    """The table of a network with those of its fields small that can be."""
    names = {field.name: field for field in attrs.fields(part)}
    found = {key: value for key, value in SMALL.items() if key in names and "decoders" not in part.__module__}
    if "decoders" in part.__module__:
        found = {key: SMALL[key] for key in ("channels",) if key in names}
    if "depth" in names:
        found["depth"] = 2
    return {"name": table["name"], **found, **table}


RUNS = ("progressive-distillation",)
"""Parts that need the folder of a trained run."""


def cases() -> Iterator[tuple[str, Data]]:
    """(What it is, a small good recipe)."""
    every = registries()
    for case in CASES:
        data = copy.deepcopy({**BASE, **case})
        if "encoders" in data:
            del data["encoder"]
            data["encoders"] = [small(every["encoders"].get(each["name"]), each) for each in data["encoders"]]
        else:
            data["encoder"] = small(every["encoders"].get(data["encoder"]["name"]), data["encoder"])
        data["decoders"] = [small(every["decoders"].get(each["name"]), each) for each in data["decoders"]]
        named = data["encoder"]["name"] if "encoder" in data else "encoders"
        yield f"network {named}" if case else "base", data
    places = {
        "schedules": ("schedule",),
        "parameterizations": ("parameterization",),
        "weightings": ("weighting",),
        "noise_levels": ("training", "noise"),
        "samplers": ("sampler",),
        "objectives": ("training", "objective"),
        "optimizers": ("training", "optimizer"),
        "lr_schedules": ("training", "lr_schedule"),
        "combinations": ("training", "gradients"),
    }
    for kind, place in places.items():
        for name in every[kind].names():
            if name in RUNS:
                continue
            data = copy.deepcopy(BASE)
            if kind in ("samplers", "objectives") and name.startswith("pfgm"):
                data["schedule"] = {"name": "pfgm"}
            if name in ("gddim", "cld"):
                data["schedule"], data["sampler"] = {"name": "cld"}, {"name": "gddim"}
            if kind == "samplers" and name.startswith("flow"):
                data["schedule"] = {"name": "rectified-flow"}
            if name == "hybrid-vlb":
                data["schedule"] = {"name": "vp-discrete"}
                data["decoders"] = [{**each, "variance": True} for each in data["decoders"]]
                data["parameterization"] = {"name": "eps"}
            if kind == "objectives" and name == "cld":
                data["parameterization"] = {"name": "eps"}
            if kind == "objectives" and name == "consistency":
                data["parameterization"] = {"name": "consistency", "floor": 0.002}
            if kind == "samplers":
                data["sampling"]["steps"] = {"predictor-corrector": 25, "ddpm": 4}.get(name, 4)
            put(data, place, {"name": name})
            yield f"{kind} {name}", data
    for name in every["wrappers"].names():
        data = copy.deepcopy(BASE)
        data["sampling"]["wrap"] = [{"name": name}]
        yield f"wrappers {name}", data
    for name in every["clusterings"].names():
        data = copy.deepcopy(BASE)
        data["stages"] = {"clustering": {"name": name}}
        if name == "two-stage":
            del data["decoders"][2]
        yield f"clusterings {name}", data


def put(data: Data, place: Place, value: object) -> None:
    """Sets what stands at a place, whatever was there."""
    *way, last = place
    inner: Any = data
    for step in way:
        inner = inner[step] if isinstance(step, int) else inner.setdefault(step, {})
    inner[last] = value


def fields_of(value: object, place: Place = ()) -> Iterator[tuple[Place, Any, Any]]:
    """(Place, type, value) of every field of a recipe, at whatever depth."""
    if isinstance(value, tuple):
        for index, item in enumerate(typing.cast("tuple[object, ...]", value)):
            yield from fields_of(item, (*place, index))
    elif attrs.has(type(value)):
        attrs.resolve_types(type(value))
        for field in attrs.fields(type(value)):
            inner = getattr(value, field.name)
            here = (*place, field.name.rstrip("_"))
            if field.eq:
                yield here, field.type, inner
            yield from fields_of(inner, here)


def edges(kind: Any, value: Any) -> list[Any]:
    """Values at the edge of a type and beyond it."""
    text = str(kind)
    found: list[Any] = list(WRONG)
    if "Literal" in text:
        found += [each for one in (kind, *typing.get_args(kind)) for each in typing.get_args(one) if type(each) is str]
    if "tuple" in text:
        one = FLOATS if "float" in text else INTS
        size = len(value) if isinstance(value, tuple) else 2
        found += [[each] * max(size, 1) for each in one]
        found += [[*range(1, size + 1)], [*range(size, 0, -1)], [1] * 9, [*(value or ()), *(value or ())][::-1]]
    elif "float" in text:
        found += FLOATS
    elif "int" in text:
        found += INTS
    elif "bool" in text:
        found += [False]
    elif "Path" in text or "str" in text:
        found += ["", ".", "/dev/null", "a\0b", "x" * 5000]
    return found


KEPT = {("use",), ("budget", "compare")}
"""Fields that name files to be run or read, which tests/recipe/test_hostile.py attacks."""

PAIRS = (
    ("beta_min", "beta_max"),
    ("sigma_min", "sigma_max"),
    ("z_min", "z_max"),
    ("churn_low", "churn_high"),
    ("iterations", "warmup"),
)


def attacks(data: Data, recipe: Recipe) -> Iterator[tuple[str, Data]]:
    """(What was set, the recipe with it)."""
    seen = set[str]()
    for place, kind, value in fields_of(recipe):
        if place in KEPT:
            continue
        for edge in edges(kind, value):
            what = f"{'.'.join(map(str, place))} = {edge!r}"
            if what in seen:
                continue
            seen.add(what)
            changed = copy.deepcopy(data)
            try:
                put(changed, place, edge)
            except (IndexError, KeyError, TypeError):
                continue  # inside of a default list or part
            yield what[:120], changed
    fields = {place: value for place, _, value in fields_of(recipe)}
    for low, high in PAIRS:
        for place, value in fields.items():
            other = (*place[:-1], high)
            if place[-1] == low and other in fields:
                changed = copy.deepcopy(data)
                put(changed, place, fields[other])
                put(changed, other, value or 0.0)
                yield f"{'.'.join(map(str, place))} and {high} swapped", changed


def affordable(recipe: Recipe) -> Recipe:
    """The recipe with its length and batches cut to what an attack can wait for."""
    training, sampling = recipe.training, recipe.sampling
    batch = min(training.batch_size, 8)
    training = attrs.evolve(
        training,
        iterations=min(training.iterations, 2),
        batch_size=batch,
        accumulation=training.accumulation if batch == training.batch_size else 1,
    )
    sampling = attrs.evolve(sampling, images=min(sampling.images, 2), batch_size=min(sampling.batch_size, 2))
    return attrs.evolve(recipe, training=training, sampling=sampling)


def used(recipe: Recipe) -> None:
    """Clusters where edges are to be found, trains for two steps, and samples."""
    from msdk.denoiser.building import build
    from msdk.training.drawing import Feed
    from msdk.training.labels import training_labels
    from msdk.training.step import TrainingStep, in_training

    if recipe.clustered:
        recipe = recipe.with_partition(msdk.cluster(recipe).partition())
    recipe = recipe.with_partition(recipe.partition())
    denoiser = build(recipe, "cpu")
    recipe.training.loss.check(recipe)
    source = recipe.data.open()
    training_labels(recipe, source)
    step = TrainingStep(recipe, in_training(denoiser))
    feed = Feed(recipe, denoiser, source)
    for iteration in range(2):
        work = feed(iteration)
        step(work.batch, work.draw, iteration, work.hand)
    msdk.sample(denoiser.eval())


class Slow(BaseException):
    """Longer than an attack can wait, which is no fault."""


@attrs.define
class Outcome:
    """What became of one attack."""

    case: str
    what: str
    kind: str
    detail: str = ""


def outcome(case: str, what: str, data: Data, seconds: int = 20) -> Outcome:
    """Refused, fine, told late (one of msdk's errors), slow, or a fault."""
    try:
        recipe = structure(data, case)
    except RecipeError:
        return Outcome(case, what, "refused")
    except Exception as error:
        return Outcome(case, what, "fault in check", brief(error))
    import signal

    def stop(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        used(affordable(recipe))
    except MsdkError as error:
        return Outcome(case, what, "told late", f"{type(error).__name__}: {error}"[:300])
    except Slow:
        return Outcome(case, what, "slow")
    except Exception as error:
        return Outcome(case, what, "fault", brief(error))
    finally:
        signal.alarm(0)
    return Outcome(case, what, "fine")


def brief(error: BaseException) -> str:
    """Where and what."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/msdk/" in frame.filename]
    where = f"{frames[-1].filename.split('/msdk/')[-1]}:{frames[-1].lineno} " if frames else ""
    return f"{where}{type(error).__name__}: {str(error)[:200]}"


OWN = {
    "network": ("encoder", "encoders", "decoders", "adapter", "sharing"),
    "schedules": ("schedule",),
    "parameterizations": ("parameterization",),
    "weightings": ("weighting",),
    "noise_levels": ("training.noise",),
    "samplers": ("sampler",),
    "objectives": ("training.objective",),
    "optimizers": ("training.optimizer",),
    "lr_schedules": ("training.lr_schedule",),
    "combinations": ("training.gradients",),
    "wrappers": ("sampling.wrap",),
    "clusterings": ("stages",),
}
"""Kind of case -> the keys that it is about: what else its recipe has is attacked in "base"."""


def tries(case: str, data: Data) -> list[tuple[str, Data]]:
    """The attacks of a case, itself first."""
    found = list(attacks(data, structure(data, case)))
    own = OWN.get(case.split()[0])
    return [("as it is", data), *(each for each in found if own is None or each[0].startswith(own))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    import resource

    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, resource.RLIM_INFINITY))
    drawn, started = random.Random(options.seed), time.perf_counter()
    counts: dict[str, collections.Counter[str]] = {}
    for case, data in cases():
        if options.only not in case:
            continue
        all_of_it = tries(case, data)
        chosen = drawn.sample(all_of_it, min(options.runs, len(all_of_it))) if options.runs else all_of_it
        for what, changed in chosen:
            found = outcome(case, what, changed)
            counts.setdefault(case.split()[0], collections.Counter())[found.kind] += 1
            if found.kind not in ("refused", "fine"):
                print(f"{found.kind:15} {case:28} {what[:70]:70} {found.detail[:230]}", file=sys.stderr, flush=True)
    seconds = round(time.perf_counter() - started)
    results = {kind: dict(counter) for kind, counter in counts.items()}
    print(json.dumps({"seed": options.seed, "seconds": seconds, "torch": torch.__version__, "results": results}))


if __name__ == "__main__":
    main()
