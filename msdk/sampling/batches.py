"""Sampling: from seeds to images, by the loop of `msdk.samplers.base`."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from msdk.arguments import as_annotated
from msdk.batch import Condition
from msdk.denoiser import Denoiser
from msdk.denoiser.memory import enough_memory
from msdk.errors import PartError
from msdk.samplers.base import Denoise, Sampler, run
from msdk.sampling.guides import guide_of
from msdk.sampling.noise import BrownianNoise, SeededNoise
from msdk.sampling.settings import Label, NoiseSource, Settings, class_number, settings_of
from msdk.threads import network_macs, threads_for
from msdk.wrappers.base import Wrapper, wrapped
from msdk.wrappers.inpaint import Inpaint, Known


@as_annotated
def sample(
    denoiser: Denoiser,
    sampler: Sampler | str | None = None,
    steps: int | None = None,
    seeds: Sequence[int] | None = None,
    *,
    batch_size: int | None = None,
    label: Label | Tensor | Condition | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    decode: bool = True,
    noise: NoiseSource | None = None,
    wrap: Sequence[Wrapper] | None = None,
    known: Known | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "images c *axes"]:
    """Draws one image per seed, as the denoiser's recipe says where nothing else is said.

    So `sample(load_run(R))` draws what `msdk sample R` draws.

    Args:
        denoiser: In eval mode, on the device to use.
        sampler: How to go from noise to an image: a sampler, or the name of one: the recipe's own where it is
            that, else with its default settings. Must be given where the denoiser knows no recipe; so must `steps` and
            `seeds`.
        steps: Intervals of its time grid.
        seeds: One per image; an image depends on its seed, not on the batch it is in.
        batch_size: Images per network call, 64 by default; twice as many where it is guided, one of an adaptive
            sampler.
        label: Class numbers, one for all images or int64 [images]; -1 is no class. Or names of classes, likewise, where
            the data of the run had names. By default a class-conditional denoiser draws class `seed % classes`. Or a
            whole condition, with an entry for each image.
        guidance: Weight of classifier-free guidance, see `msdk.samplers.guidance`; 1, the default, is the plain
            conditional estimate.
        guidance_interval: Guided where low < ratio <= high; everywhere by default.
        decode: Whether latents become images; false returns what the network sees.
        noise: Of stochastic samplers: "fresh" draws, the default, or "brownian", see `msdk.sampling.noise`.
        wrap: Put around the network, each around the one before, see `msdk.wrappers`.
        known: What is known of every image, which is then kept, see `msdk.wrappers.inpaint`.
        progress: Told (intervals done, intervals in all).

    Returns:
        Images, on the CPU, nominally in [-1, 1].

    Raises:
        PartError: A label that the denoiser does not know, guidance without classes, a known image of a model of
            latents, a sampler that cannot run the denoiser's schedule in so many steps, or something missing that no
            recipe says.
        UnknownNameError: There is no sampler of that name.
    """
    settings = settings_of(
        denoiser.recipe,
        sampler=sampler,
        steps=steps,
        seeds=seeds,
        batch_size=batch_size,
        label=label,
        guidance=guidance,
        guidance_interval=guidance_interval,
        noise=noise,
        wrap=wrap,
    )
    return torch.cat([images for _, images in draw(denoiser, settings, decode=decode, known=known, progress=progress)])


@torch.no_grad()
def draw(
    denoiser: Denoiser,
    settings: Settings,
    *,
    decode: bool = True,
    known: Known | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "images c *axes"]]]:
    """Draws by settings, whatever the denoiser's recipe says: any number of images needs the memory of one batch.

    Args and errors are those of `sample`.

    Yields:
        Seeds of a batch, and its images on the CPU, nominally in [-1, 1].
    """
    sampler, steps, seeds, guide = settings.sampler, settings.steps, settings.seeds, settings.guidance
    schedule, device, dtype = denoiser.schedule, denoiser.place.device, denoiser.place.dtype
    condition = conditions(denoiser.classes, seeds, settings.label, denoiser.class_names)
    another = None if settings.guide is None or guide.weight == 1 else guide_of(denoiser, settings.guide)
    if condition is None and guide.weight != 1 and another is None:
        raise PartError("guidance needs a class-conditional denoiser, but this one has no classes: leave guidance at 1")
    if known is not None and denoiser.autoencoder is not None:
        raise PartError("a part of an image can be known to a model of pixels alone, and this one draws latents")
    if known is not None:
        known.check(len(seeds), len(denoiser.shape))
    if known is not None and denoiser.unit_range:
        known = Known((known.image + 1) / 2, known.mask)
    if any(wrapper.pixels for wrapper in settings.wrap) and (denoiser.autoencoder is not None or denoiser.unit_range):
        raise PartError("a wrapper is for pixels in [-1, 1], and this denoiser sees latents, or pixels in [0, 1]")
    sampler.check(schedule, steps)
    if sampler.feeds != schedule.feeds:
        raise PartError(
            f"{type(sampler).__name__} feeds the network {sampler.feeds} times the channels of the image, and one of "
            f"the schedule {type(schedule).__name__} takes {schedule.feeds} times as many: "
            + ("use gddim" if schedule.feeds == 2 else "use another sampler")
        )
    times = sampler.times(schedule, steps)
    batch_size = 1 if sampler.adaptive else settings.batch_size  # steps that suit one image must not depend on others
    starts = range(0, len(seeds), batch_size)
    work = network_macs(denoiser.network, denoiser.shape, min(batch_size, len(seeds)))
    total = len(starts) * (len(times) - 1)

    def advance(batches: int) -> Callable[[int], None] | None:
        before = batches * (len(times) - 1)
        return None if progress is None else lambda steps, tell=progress: tell(before + steps, total)

    for index, start in enumerate(starts):
        chunk = list(seeds[start : start + batch_size])
        source = BrownianNoise(chunk, schedule) if settings.noise == "brownian" else SeededNoise(chunk)
        denoise: Denoise = denoiser
        places = range(start, start + len(chunk))
        if condition is not None or another is not None:
            own = (condition or Condition()).select(torch.tensor(places)).to(device)
            denoise = guide.around(denoiser, schedule, own, another)
        like = torch.empty(len(chunk), *denoiser.shape, device=device, dtype=dtype)
        denoise = wrapped(denoise, schedule, settings.wrap)
        if known is not None:
            # The noise that sampling starts from, so what is known goes along a path of its own, down from the start.
            kept = known.select(places, len(denoiser.shape))
            denoise = Inpaint(kept, SeededNoise(chunk)(like)).around(denoise, schedule)
        with threads_for(work), enough_memory("a batch of samples does", "lower sampling.batch_size"):
            x = sampler.start(schedule, source, like)
            x = run(sampler, denoise, schedule, times, x, source, advance(index))
            if decode:
                x = denoiser.decode(x)
                x = 2 * x - 1 if denoiser.unit_range else x
        yield chunk, x.cpu()


def conditions(
    classes: int, seeds: Sequence[int], label: Label | Tensor | Condition | None, names: Sequence[str] = ()
) -> Condition | None:
    """What each image is conditioned on, on the CPU; None for nothing. See `class_labels`."""
    if not isinstance(label, Condition):
        labels = class_labels(classes, seeds, label, names)
        return None if labels is None else Condition(labels)
    sizes = {len(value) for value in (label.label, label.augment, *(label.text or ())) if value is not None}
    if sizes != {len(seeds)}:
        raise PartError(f"a condition has one entry for each of {len(seeds)} images, got {sorted(sizes)}")
    return label.to("cpu")


def class_labels(
    classes: int, seeds: Sequence[int], label: Label | Tensor | None, names: Sequence[str] = ()
) -> Int[Tensor, " images"] | None:
    """The class of each image on the CPU, or None for a denoiser without classes.

    Raises:
        PartError: Labels for a denoiser without classes, another number of them than images, or unknown ones.
        UnknownNameError: A name that is none of `names`.
    """
    if not classes:
        if label is not None:
            raise PartError("this denoiser takes no class labels: leave `label` out, or set the encoder's `classes`")
        return None
    if label is None:
        return torch.tensor([seed % classes for seed in seeds])
    if isinstance(label, str):
        label = class_number(label, names)
    elif isinstance(label, Sequence):
        label = [class_number(each, names) if isinstance(each, str) else each for each in label]
    found = torch.as_tensor(label).cpu()
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise PartError(f"class labels are whole numbers, got {found.dtype}")
    if found.ndim and found.shape != (len(seeds),):
        raise PartError(f"label is one class, or one for each of {len(seeds)} images, got {tuple(found.shape)}")
    found = found.long().expand(len(seeds))
    unknown = sorted({int(number) for number in found if not -1 <= number < classes})
    if unknown:
        raise PartError(f"there is no class {unknown[0]}: use 0 .. {classes - 1}, or -1 for no class")
    return found
