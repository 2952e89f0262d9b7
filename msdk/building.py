"""Recipe -> Denoiser: the only place that joins the parts."""

import attrs
import torch

from msdk.decoders.base import Decoder
from msdk.denoiser import Denoiser, StagedNetwork
from msdk.encoders.adapter import Adapter
from msdk.encoders.base import Encoder, Shape
from msdk.errors import PartError
from msdk.parameterizations.base import Parameterization
from msdk.partition import Partition
from msdk.recipe import Recipe, lowest_noise
from msdk.schedules.base import Schedule


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


def build(recipe: Recipe, device: str | torch.device = "cpu", partition: Partition | None = None) -> Denoiser:
    """Builds the denoiser of a recipe, with the initial weights of its training seed.

    Args:
        recipe: A checked recipe.
        device: Where parameters live; "meta" builds without memory, for counting.
        partition: Stage edges, for a recipe whose clustering has not run; the recipe's own otherwise.

    Raises:
        PartError: The stage edges are not known yet, or parts do not fit.
    """
    partition = recipe.partition() if partition is None else partition
    return join(
        Parts(
            encoder=recipe.encoder,
            decoders=recipe.decoders,
            schedule=recipe.schedule,
            parameterization=recipe.parameterization,
            shape=recipe.shape,
            separate=recipe.sharing == "separate",
            adapter=recipe.adapter,
        ),
        partition,
        device,
        seed=recipe.training.seed,
    )


@attrs.frozen(kw_only=True)
class Parts:
    """The parts of a denoiser, see `Recipe`."""

    encoder: Encoder
    decoders: tuple[Decoder, ...]
    schedule: Schedule
    parameterization: Parameterization
    shape: Shape
    separate: bool = False
    adapter: Adapter | None = None


def join(parts: Parts, partition: Partition, device: str | torch.device = "cpu", *, seed: int = 0) -> Denoiser:
    """Builds the networks of the parts and puts them together.

    Raises:
        PartError: Parts do not fit.
    """
    parts.encoder.check_noise(lowest_noise(parts.parameterization, parts.schedule))
    info, shape, adapter = parts.encoder.info(parts.shape), parts.shape, parts.adapter
    count = len(parts.decoders) if parts.separate else 1
    with torch.random.fork_rng(devices=[]), torch.device("meta" if str(device) == "meta" else "cpu"):
        torch.manual_seed(seed)  # on the CPU, so that every device starts from the same weights
        encoders = [parts.encoder.build(shape) for _ in range(count)]
        adapters = [] if adapter is None else [adapter.build(info) for _ in range(count)]
        adapted = info if adapter is None else adapter.info(info)
        decoders = [decoder.build(adapted, shape) for decoder in parts.decoders]
    network = StagedNetwork(encoders, decoders, adapters)
    denoiser = Denoiser(
        network,
        partition,
        parts.schedule,
        parts.parameterization,
        shape,
        info.classes,
        unit_range=parts.encoder.unit_range,
    )
    return denoiser.to(device)
