"""Recipe -> Denoiser: the only place that joins the parts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from msdk.arguments import as_annotated
from msdk.autoencoders.base import Autoencoder
from msdk.decoders.base import Decoder
from msdk.denoiser import Denoiser, StagedNetwork
from msdk.denoiser.declared import Declared, built, try_latents_on_meta, try_on_meta
from msdk.denoiser.memory import enough_memory
from msdk.denoiser.weights import put_weights, read_weights, settle
from msdk.encoders.adapter import Adapter
from msdk.encoders.base import Encoder, Shape
from msdk.errors import PartError, RunError
from msdk.parameterizations.base import Parameterization
from msdk.partition import Partition
from msdk.recipe import Recipe, check_axes, noise_range, recipe_of
from msdk.schedules.base import Schedule

Make = Callable[[str, Callable[[], nn.Module]], nn.Module]
"""`make("decoders.1", build)`: a part, which begins the names of its weights so; `build()` builds it on the CPU."""


def make_now(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    """Builds a part."""
    return build()


AUTOENCODER = "autoencoder.safetensors"
"""Where a run folder keeps the weights of its autoencoder."""


def pick_device(name: str | None) -> str:
    """The device of that name, or CUDA where there is one and the CPU elsewhere.

    Raises:
        PartError: This machine has no such device; the message names those it has.
    """
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if name is None:
        return "cuda" if cuda else "cpu"
    known = ["cpu", *(["cuda", *cuda] if cuda else [])]
    if name not in known:
        raise PartError(f"there is no device '{name}' here. Known: {', '.join(known)}.")
    return name


def known_device(device: str | torch.device) -> torch.device:
    """The device that is meant.

    Raises:
        PartError: There is none of that name.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise PartError(f"there is no device '{device}': cpu, cuda, cuda:1 and meta are some") from error
    if found.type == "cuda":
        pick_device(str(found))
    return found


@as_annotated
def build(
    recipe: Recipe | str | Path,
    device: str | torch.device = "cpu",
    partition: Partition | None = None,
    *,
    make: Make = make_now,
) -> Denoiser:
    """Builds the denoiser of a recipe, with the initial weights of its training seed.

    An autoencoder has the weights that the recipe names; initial ones where it names none, which is enough for budgets.

    Args:
        recipe: A checked recipe, or the file of one. The denoiser knows it, so that `msdk.sample` draws as it says.
        device: Where parameters live; "meta" builds without memory, for counting.
        partition: Stage edges, for a recipe whose clustering has not run; the recipe's own otherwise.
        make: Makes encoders, adapters and decoders, see `msdk.denoiser.offloading`.

    Raises:
        PartError: The stage edges are not known yet, parts do not fit, or not into memory, or there is no such device.
        RunError: The autoencoder's weights are missing, damaged, or another autoencoder's.
    """
    recipe, device = recipe_of(recipe), known_device(device)
    partition = recipe.partition() if partition is None else partition
    autoencoder = None
    if recipe.autoencoder is not None:
        autoencoder = build_autoencoder(recipe.autoencoder, recipe.data.shape, device, seed=recipe.training.seed)
        try_latents_on_meta(recipe.autoencoder, autoencoder, recipe.data.shape)
    parts = Parts(
        encoders=recipe.built_encoders,
        decoders=recipe.decoders,
        schedule=recipe.schedule,
        parameterization=recipe.parameterization,
        shape=recipe.shape,
        adapter=recipe.adapter,
    )
    with enough_memory("the networks do", "lower their widths (channels, width), depths or classes"):
        denoiser = join(parts, partition, device, seed=recipe.training.seed, autoencoder=autoencoder, make=make)
    _freeze(denoiser.network, recipe)
    denoiser.recipe = recipe.with_partition(partition)
    return denoiser


def _freeze(network: StagedNetwork, recipe: Recipe) -> None:
    """What the recipe does not train (`stages.train`, `stages.train_encoder`) asks for no gradient."""
    for kind, parts in (("encoder", network.encoders), ("adapter", network.adapters), ("decoder", network.decoders)):
        for index, part in enumerate(parts):
            if recipe.freezes(kind, index):
                part.requires_grad_(False)


def build_autoencoder(
    spec: Autoencoder, shape: Shape, device: str | torch.device = "cpu", *, seed: int = 0
) -> nn.Module:
    """Builds an autoencoder for images of a shape, with the weights that its spec names.

    Raises:
        PartError: The images do not suit it.
        RunError: The weights are missing, damaged, or another autoencoder's.
    """
    meta = str(device) == "meta"
    with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
        torch.manual_seed(seed)
        autoencoder = built(spec, partial(spec.build, shape))
    refuse_lazy(autoencoder)
    settle(autoencoder)
    if spec.weights is not None and not meta:
        path = weights_file(spec)
        put_weights(autoencoder, read_weights(path), path, "autoencoder")
    return autoencoder.to(device)


def weights_file(spec: Autoencoder) -> Path:
    """The file that holds an autoencoder's weights.

    Raises:
        RunError: The spec names none, or there is no such file; the message says how to get one.
    """
    advice = "`msdk pretrained convert FILE --family vq --out X` makes one from a published checkpoint"
    if spec.weights is None:
        raise RunError(
            "training on latents needs a trained autoencoder: set autoencoder.weights to the .safetensors file of one; "
            f"{advice}"
        )
    path = spec.weights / AUTOENCODER if spec.weights.is_dir() else spec.weights
    if not path.is_file():
        raise RunError(f"autoencoder.weights names {path}, but there is no such file; {advice}")
    return path


@attrs.frozen(kw_only=True)
class Parts:
    """The parts of a denoiser, see `Recipe`; of encoders one for all stages, or one for each."""

    encoders: tuple[Encoder, ...]
    decoders: tuple[Decoder, ...]
    schedule: Schedule
    parameterization: Parameterization
    shape: Shape
    adapter: Adapter | None = None


def join(
    parts: Parts,
    partition: Partition,
    device: str | torch.device = "cpu",
    *,
    seed: int = 0,
    autoencoder: nn.Module | None = None,
    make: Make = make_now,
) -> Denoiser:
    """Builds the networks of the parts and puts them together, behind an autoencoder that is already built.

    Raises:
        PartError: Parts do not fit, one is lazy, or two weights share memory without being one.
    """
    levels = noise_range(parts.parameterization, parts.schedule)
    if levels is not None:
        for part in parts.encoders:
            part.check_noise(*levels)
    for part in (*parts.encoders, *parts.decoders):
        check_axes(part, parts.shape)
    infos, shape, adapter = [part.info(parts.shape) for part in parts.encoders], parts.shape, parts.adapter
    fed = (shape[0] * parts.schedule.feeds, *shape[1:])
    with torch.random.fork_rng(devices=[]), torch.device("meta" if str(device) == "meta" else "cpu"):
        torch.manual_seed(seed)  # on the CPU, so that every device starts from the same weights
        encoders = [
            make(f"encoders.{k}", partial(built, encoder, partial(encoder.build, fed)))
            for k, encoder in enumerate(parts.encoders)
        ]
        adapters = (
            []
            if adapter is None
            else [
                make(f"adapters.{k}", partial(built, adapter, partial(adapter.build, info)))
                for k, info in enumerate(infos)
            ]
        )
        adapted = infos if adapter is None else [adapter.info(info) for info in infos]
        decoders = [
            make(f"decoders.{k}", partial(built, decoder, partial(decoder.build, adapted[k % len(adapted)], shape)))
            for k, decoder in enumerate(parts.decoders)
        ]
    declared = Declared(parts.encoders, parts.decoders, infos, shape)
    declared.networks(encoders, decoders)
    network = StagedNetwork(encoders, decoders, adapters, declared)
    refuse_lazy(network)
    settle(network)
    try_on_meta(network, declared)
    denoiser = Denoiser(
        network,
        partition,
        parts.schedule,
        parts.parameterization,
        shape,
        infos[0].classes,
        unit_range=parts.encoders[0].unit_range,
        autoencoder=autoencoder,
    )
    return denoiser.to(device)


def refuse_lazy(network: nn.Module) -> None:
    """Raises `PartError` where weights have no shape yet: they could be neither counted nor trained nor saved."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            raise PartError(
                f"{name} is of a lazy module, whose shape is known only after a first call: a part's `build` must call "
                "it once, or give the sizes (Conv2d instead of LazyConv2d)"
            )
