"""Recipe -> Denoiser: the only place that joins the parts."""

import torch

from msdk.denoiser import Denoiser, StagedNetwork
from msdk.errors import PartError
from msdk.partition import Partition
from msdk.recipe import Recipe


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
    info = recipe.encoder.info(recipe.shape)
    count = len(recipe.decoders) if recipe.sharing == "separate" else 1
    with torch.random.fork_rng(devices=[]), torch.device("meta" if str(device) == "meta" else "cpu"):
        torch.manual_seed(recipe.training.seed)  # on the CPU, so that every device starts from the same weights
        encoders = [recipe.encoder.build(recipe.shape) for _ in range(count)]
        decoders = [decoder.build(info, recipe.shape) for decoder in recipe.decoders]
    network = StagedNetwork(encoders, decoders)
    return Denoiser(network, partition, recipe.schedule, recipe.parameterization, recipe.shape).to(device)
