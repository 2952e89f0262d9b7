"""From a run to files of samples: image by image, so that any number fits in memory and a killed process goes on."""

import contextlib
import itertools
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from msdk.batch import Shape
from msdk.denoiser import Denoiser
from msdk.denoiser.building import pick_device
from msdk.distributed import this_rank, together
from msdk.errors import RunError, RunFaultError, nearest
from msdk.recipe import Recipe
from msdk.recipe.results import parsed
from msdk.recipe.structuring import to_data
from msdk.registry.describing import in_words
from msdk.registry.faults import whose
from msdk.runs import latest, load_run, run_recipe
from msdk.runs.files import remove_whole, sweep, write_json, written_whole
from msdk.runs.writer import one_writer
from msdk.samplers.tracing import Call
from msdk.sampling.batches import class_labels, draw
from msdk.sampling.diagnosis import culprit
from msdk.sampling.guides import guide_told
from msdk.sampling.pictures import grid, picture, to_pixels
from msdk.sampling.settings import Settings, settings_of
from msdk.wrappers.inpaint import Known

if TYPE_CHECKING:
    pass

KINDS = {
    "": "a folder with one PNG per seed and grid.png",
    ".zip": "PNGs in EDM's layout, which a recipe's data can name",
    ".npz": "uint8 [images, h, w, c], seeds and classes, as ADM's evaluation reads them",
    ".safetensors": "uint8 [images, c, h, w], seeds and classes",
}
"""What samples can be written as, by suffix. What is no picture (`drawable`) is one .npy per seed in a folder."""

SETTINGS, FACTS = "settings.json", "samples.json"
SHOWN = 256
"""Images in grid.png at most."""


def write_samples(
    place: Path,
    recipe: Recipe,
    *,
    seeds: Sequence[int] | None = None,
    out: Path | None = None,
    device: str | None = None,
    offload: bool = False,
    known: Known | None = None,
    replace: bool = False,
    keep: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws the recipe's images from a run, one per seed, and writes them; returns where they are.

    Images are kept in `OUT.partial` as they come, so a process that was killed goes on with those that are missing. The
    processes of torchrun share the seeds; an image depends on its seed alone, so the result is the same.

    Args:
        place: The run folder.
        recipe: Its sampler and sampling are used.
        seeds: One per image; the recipe's when not given.
        out: Where to, of a kind in `KINDS`; `samples` in the run folder when not given.
        device: Where to sample; each process has a GPU of its own where that is `cuda`.
        offload: Whether only the decoder in use is loaded, which takes less memory and more time.
        known: What is known of every image, see `msdk.wrappers.inpaint`.
        replace: Whether samples that were begun there with other settings are begun anew.
        keep: Whether samples that are there and were drawn just so are left as they are.
        progress: Told (intervals done, intervals in all) of this process.

    Raises:
        RunError: Other things are in the way, or samples drawn by other settings are half done there, or another
            process draws there; or the run's weights, or an image, are not finite.
    """
    settings, rank, out = settings_of(recipe, seeds=seeds), this_rank(), out or place / "samples"
    seeds = list(settings.seeds)
    refuse_other_things(out)
    suffix = PICTURE if drawable(recipe.data.shape) else ARRAY
    if out.suffix == ".zip" and suffix == ARRAY:
        raise RunError(f"{out} holds PNGs, and {list(recipe.data.shape)} is no picture: choose .safetensors or .npz")
    if known is not None:
        known.check(len(seeds), len(recipe.data.shape))
    partial = _partial(out)
    device = rank.device(pick_device(device))
    with together(rank) as group, one_writer(out) if rank.first else contextlib.nullcontext():
        if rank.first:
            sweep(_facts_of(out))
        facts = _facts(place, recipe, seeds, known)  # a damaged ledger is told before anything is drawn
        if keep and _is_done(out, facts):
            if rank.first and half_done(out):
                remove_whole(partial)
            return out
        if rank.first:
            _begin(partial, _settings(place, recipe, known), replace=replace)
        group.wait()
        missing = [seed for seed in dict.fromkeys(seeds) if not _file(partial, seed, suffix).is_file()]
        group.wait()  # before anybody draws, so that all deal out the same seeds
        share = missing[rank.index :: rank.count]
        if share:
            denoiser = load_run(place, device=device, offload=offload)
            places = [seeds.index(seed) for seed in share]
            own = None if known is None else known.select(places, len(denoiser.shape))
            drawn = draw(denoiser, attrs.evolve(settings, seeds=share), known=own, progress=progress)
            for chunk, images in drawn:
                refuse_not_finite(denoiser, settings, chunk, images)
                for seed, image in zip(chunk, to_pixels(images), strict=True):
                    _keep(_file(partial, seed, suffix), image)
        group.wait()
        if rank.first:
            labels = class_labels(recipe.classes, seeds, recipe.sampling.label)
            samples = Samples(partial, suffix, tuple(seeds), None if labels is None else tuple(labels.tolist()))
            _finish(samples, out, facts)
        group.wait()
    return out


def kind_of(out: Path) -> str:
    """The suffix that says what samples are written as; none for a folder.

    Raises:
        RunError: Samples cannot be written as what the suffix says.
    """
    if out.suffix in KINDS:
        return out.suffix
    if not out.suffix[1:].isalpha():  # a folder like run-1.5
        return ""
    known = ", ".join(f"{suffix or 'no suffix'} ({what})" for suffix, what in KINDS.items())
    raise RunError(f"samples cannot be written as '{out.suffix}'.{nearest(out.suffix, KINDS)} Known: {known}.")


def refuse_other_things(out: Path) -> None:
    """Raises `RunError` where writing samples would replace something else than samples of ours."""
    if not out.exists():
        return
    if kind_of(out):
        if out.is_dir():
            raise RunError(f"{out} is a folder: choose another --out")
        # The facts come after the file, and what was half done goes last.
        if _seeds_of(_facts_of(out)) is None and not half_done(out):
            raise RunError(
                f"{out} is not known to be samples of msdk (there is no {_facts_of(out).name} beside it), so it is not "
                "replaced: choose another --out"
            )
        return
    if not out.is_dir():
        raise RunError(f"{out} is a file, so no folder of samples can be there: choose another --out")
    seeds = _seeds_of(out / FACTS) or ()
    ours = {FACTS, "grid.png", *(_file(out, seed, suffix).name for seed in seeds for suffix in (PICTURE, ARRAY))}
    other = next((file.name for file in out.iterdir() if file.name not in ours), None)
    if other is not None:
        raise RunError(
            f"{out} holds other things than samples of msdk ({other!r}), so it is not replaced: choose another --out"
        )


@attrs.frozen
class _Drawn:
    """What samples.json of msdk says for sure."""

    run: str
    checkpoint: str
    seeds: tuple[int, ...]

    @classmethod
    def _heard(cls, found: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: value for key, value in found.items() if key in attrs.fields_dict(cls)}


def _seeds_of(file: Path) -> tuple[int, ...] | None:
    """The seeds of samples that are done; None where the file is not there, or not ours."""
    try:
        return parsed(file.read_bytes(), file, _Drawn, "what msdk says of samples").seeds
    except (OSError, RunError):
        return None


def _facts_of(out: Path) -> Path:
    """Where the facts of samples in one file are."""
    return out.with_name(f"{out.stem}.{FACTS}")


def _partial(out: Path) -> Path:
    """Where samples are kept until all are there."""
    return out.with_name(f"{out.name}.partial")


def _is_done(out: Path, facts: dict[str, Any]) -> bool:
    """Whether samples are there, and these are their facts."""
    try:
        content = (_facts_of(out) if kind_of(out) else out / FACTS).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return out.exists() and content == json.dumps(facts, indent=2) + "\n"


def half_done(out: Path) -> bool:
    """Whether samples were begun there by a process that did not come to its end."""
    return (_partial(out) / SETTINGS).is_file()


# --- half done --------------------------------------------------------------------------------------------------------


def _settings(place: Path, recipe: Recipe, known: Known | None) -> dict[str, Any]:
    """What decides what an image looks like, given its seed."""
    free = ("images", "seed", "batch_size")
    sampling = {key: value for key, value in to_data(recipe.sampling).items() if key not in free}
    # What changes nothing is not named, so that samples which an earlier msdk began can be finished.
    told = {} if known is None else {"known": known.digest()}
    if not sampling["wrap"]:
        del sampling["wrap"]
    sampling |= guide_told(recipe, sampling)
    return {
        "run": str(place.resolve()),
        "checkpoint": latest(place).name,
        "schedule": to_data(recipe.schedule),
        "samplers": [to_data(part) for part in (recipe.samplers or (recipe.sampler,))],
        "sampling": sampling,
        "edges": list(recipe.partition().edges),
        **told,
    }


def _begin(partial: Path, settings: dict[str, Any], *, replace: bool) -> None:
    if (partial / SETTINGS).is_file():
        try:
            found = json.loads((partial / SETTINGS).read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            found = None
        if found != json.loads(json.dumps(settings)):
            if not replace:
                raise RunError(
                    f"{partial} holds samples that were begun with other settings: finish them with those, begin anew "
                    "with --force, or choose another --out"
                )
            remove_whole(partial)
    elif partial.exists() and any(not file.match(".*.tmp") for file in partial.iterdir()):
        raise RunError(f"{partial} is in the way: it holds other things than samples")
    partial.mkdir(parents=True, exist_ok=True)
    for left in partial.glob(".*.tmp"):  # of a process that was killed while it wrote one
        left.unlink()
    write_json(partial / SETTINGS, settings)


PICTURE, ARRAY = ".png", ".npy"
"""What one image is kept as: a picture where it is one, and otherwise its numbers, uint8 [channels, *axes]."""


def drawable(shape: Shape) -> bool:
    """Whether an image of that shape is a picture, grey or in colour."""
    return len(shape) == 3 and shape[0] in (1, 3)


def _file(folder: Path, seed: int, suffix: str) -> Path:
    return folder / f"{seed:06d}{suffix}"


def refuse_not_finite(
    denoiser: Denoiser, settings: Settings, seeds: Sequence[int], images: Float[Tensor, "images c *axes"]
) -> None:
    """Raises `RunError` where an image is none: written, it would be black or noise, without a word."""
    finite = images.isfinite().flatten(1).all(1).tolist()
    bad = [str(seed) for seed, fine in zip(seeds, finite, strict=True) if not fine]
    if bad:
        part = culprit(denoiser, settings, int(bad[0]))
        who = whose(type(part))
        if who is not None:
            raise RunFaultError(f"the image of seed {bad[0]} is not finite: {in_words(part)} makes it so", who)
        raise RunError(
            f"the images of seeds {', '.join(bad[:8])}{', ...' if len(bad) > 8 else ''} are not finite, so they are "
            "not written: take more steps, less guidance, or another sampler. What was drawn before is kept."
        )


def _keep(path: Path, image: UInt8[Tensor, " c *axes"]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if path.suffix == PICTURE:
                picture(image).save(file, format="png")
            else:
                np.save(file, image.numpy(), allow_pickle=False)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        reason = error.strerror or error
        raise RunError(f"{path} cannot be written: {reason}. What was drawn before is kept.") from error


def _facts(place: Path, recipe: Recipe, seeds: Sequence[int], known: Known | None) -> dict[str, Any]:
    """What was drawn, and the network calls that made each image."""
    calls = trace(place, recipe)
    return {
        **_settings(place, recipe, known),
        "seeds": list(seeds),
        "nfe": sum(call["evaluations"] + call.get("of_another", 0) for call in calls),
        "trace": calls,
    }


def trace(place: Path, recipe: Recipe) -> list[dict[str, Any]]:
    """The network calls that make an image, in order, with the exact MACs of each where the run's ledger has them."""
    own = _macs_by_stage(place, len(recipe.partition()))
    guide = recipe.sampling.guide
    if guide is None:
        partition, theirs = recipe.partition(), own
    else:
        partition = run_recipe(guide.run).partition()
        theirs = _macs_by_stage(guide.run, len(partition))

    def told(call: Call) -> dict[str, Any]:
        found = attrs.asdict(call)
        if not call.of_another:
            del found["of_another"]
        if own is None or (call.of_another and theirs is None):
            return {**found, "macs": None}
        macs = call.evaluations * own[call.stage]
        if theirs is not None:
            macs += call.of_another * theirs[partition.at(call.t, recipe.schedule)]
        return {**found, "macs": macs}

    return [told(call) for call in recipe.calls()]


@attrs.frozen
class _Prices:
    """What is of use here in ledger.json."""

    macs_per_image_by_stage: tuple[int, ...]

    @classmethod
    def _heard(cls, found: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: value for key, value in found.items() if key in attrs.fields_dict(cls)}


def _macs_by_stage(place: Path, stages: int) -> tuple[int, ...] | None:
    """As the run's ledger has them; None for a run that was not trained here."""
    file = place / "ledger.json"
    try:
        content = file.read_bytes()
    except OSError:
        return None
    macs = parsed(content, file, _Prices, "a ledger, as training writes it").macs_per_image_by_stage
    if len(macs) != stages:
        raise RunError(f"{file} is of another run: it has the MACs of {len(macs)} stages instead of {stages}")
    return macs


# --- done -------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Samples:
    """Finished images in a folder.

    Attributes:
        folder: Where their files are.
        suffix: `PICTURE` or `ARRAY`.
        seeds: One per image.
        labels: The class of each, -1 for none; None of a model without classes.
    """

    folder: Path
    suffix: str
    seeds: tuple[int, ...]
    labels: tuple[int, ...] | None

    def file(self, seed: int) -> Path:
        """The file of one image."""
        return _file(self.folder, seed, self.suffix)

    def pixels(self) -> "Iterator[np.ndarray[Any, np.dtype[np.uint8]]]":
        """[*axes, c] of one image after the other."""
        from PIL import Image

        for seed in self.seeds:
            if self.suffix == ARRAY:
                yield np.moveaxis(np.load(self.file(seed), allow_pickle=False), 0, -1)
                continue
            with Image.open(self.file(seed)) as image:
                found = np.asarray(image)
            yield found if found.ndim == 3 else found[:, :, None]


def _finish(samples: Samples, out: Path, facts: dict[str, Any]) -> None:
    """Makes the wanted file or folder of what is there."""
    kind = kind_of(out)
    if not kind:
        with written_whole(out) as temporary:
            temporary.mkdir()
            for seed in set(samples.seeds):
                shutil.copyfile(samples.file(seed), temporary / samples.file(seed).name)
            if samples.suffix == PICTURE:
                first = attrs.evolve(samples, seeds=samples.seeds[:SHOWN])
                shown = torch.from_numpy(np.stack(list(first.pixels()))).permute(0, 3, 1, 2)
                grid(shown).save(temporary / "grid.png")
            (temporary / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    else:
        with written_whole(out) as temporary, temporary.open("wb") as file:
            {".zip": _write_zip, ".npz": _write_npz, ".safetensors": _write_safetensors}[kind](file, samples)
        write_json(_facts_of(out), facts)
    remove_whole(samples.folder)


def _write_zip(file: IO[bytes], samples: Samples) -> None:
    names = [f"{index // 1000:05d}/img{index:08d}.png" for index in range(len(samples.seeds))]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, seed in zip(names, samples.seeds, strict=True):
            archive.writestr(_entry(name), samples.file(seed).read_bytes())
        labels = None if samples.labels is None else [list(pair) for pair in zip(names, samples.labels, strict=True)]
        archive.writestr(_entry("dataset.json"), json.dumps({"labels": labels, "seeds": list(samples.seeds)}))


def _entry(name: str) -> zipfile.ZipInfo:
    """Of a zip, without the time of day: the same images make the same file."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    return entry


def _numbers(samples: Samples) -> "dict[str, np.ndarray[Any, Any]]":
    found = {"seeds": np.asarray(samples.seeds, dtype=np.int64)}
    return found if samples.labels is None else {**found, "labels": np.asarray(samples.labels, dtype=np.int64)}


def _write_npz(file: IO[bytes], samples: Samples) -> None:
    images, first = _peeked(samples.pixels())
    numbers = _numbers(samples)
    arrays = {"arr_1": numbers["labels"]} if "labels" in numbers else {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as entry:
            shape = (len(samples.seeds), *first.shape)
            np.lib.format.write_array_header_1_0(entry, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for image in images:
                entry.write(np.ascontiguousarray(image).tobytes())
        for name, values in {**arrays, "seeds": numbers["seeds"]}.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, values)


def _write_safetensors(file: IO[bytes], samples: Samples) -> None:
    # The format is a header of JSON and the bytes, so images can follow each other without being held together.
    images, first = _peeked(samples.pixels())
    *axes, channels = first.shape
    header: dict[str, Any] = {}
    end = 0

    def entry(name: str, dtype: str, shape: list[int], size: int) -> None:
        nonlocal end
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size

    numbers = _numbers(samples)
    for name, values in numbers.items():
        entry(name, "I64", [len(values)], values.nbytes)
    count = len(samples.seeds)
    entry("images", "U8", [count, channels, *axes], count * first.size)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for values in numbers.values():
        file.write(values.astype("<i8").tobytes())
    for image in images:
        file.write(np.ascontiguousarray(np.moveaxis(image, -1, 0)).tobytes())


def _peeked(
    images: "Iterable[np.ndarray[Any, np.dtype[np.uint8]]]",
) -> "tuple[Iterator[np.ndarray[Any, np.dtype[np.uint8]]], np.ndarray[Any, np.dtype[np.uint8]]]":
    """The images again, and the first of them, whose shape is that of all."""
    rest = iter(images)
    first = next(rest)
    return itertools.chain([first], rest), first
