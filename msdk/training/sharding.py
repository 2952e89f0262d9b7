"""Weights in shards (`training.parallel = "fsdp"`): of each weight, gradient, moment and average a process keeps rows.

torch's FSDP2 gathers the weights of one unit when it runs, forward and backward, and lets go of them behind it; each
process gets its rows of the summed gradients. Units are encoders, adapters and decoders, and inside them what their
networks give as `shard_units()`: modules that are called as such, and not within a function that is recomputed as a
whole. All processes run the same units in the same order, by the way images are dealt (`msdk.training.dealing`).
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from msdk.batch import Batch
from msdk.errors import PartError
from msdk.objectives.base import Draw, Loss

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser, StagedNetwork
    from msdk.distributed import Group


class Trained(nn.ModuleDict):
    """All that is trained, `network` and `objective`; called, the loss of every image, [batch].

    One module that runs all others: FSDP2 wants a root.
    """

    def forward(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        return cast("Loss", self["objective"]).loss(batch, draw, denoiser)


def shard(trained: Trained, device: torch.device, processes: int) -> None:
    """Cuts all weights into rows, in place; each process calls it, with the same weights.

    Raises:
        PartError: A weight cannot be cut, or belongs to several units.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    units = [*_units(cast("StagedNetwork", trained["network"])), trained]
    _refuse_uncut(trained, units)
    for parameter in trained.parameters():
        parameter.data = parameter.data.contiguous()  # rows are cut from memory
    mesh = init_device_mesh(device.type, (processes,))
    for unit in units:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        sharded = cast("FSDPModule", unit)
        # The loss of a process is already a share of the mean over the whole batch: sums, not means.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
    # Nobody here changes an output in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)


def _units(network: "StagedNetwork") -> list[nn.Module]:
    """Innermost first."""
    found: list[nn.Module] = []
    for part in (*network.encoders, *network.adapters, *network.decoders):
        inner: Any = getattr(part, "shard_units", None)
        found += [*(inner() if callable(inner) else ()), part]
    return list(dict.fromkeys(unit for unit in found if any(True for _ in unit.parameters())))


def _refuse_uncut(trained: Trained, units: Sequence[nn.Module]) -> None:
    advice = 'set training.parallel to "ddp"'
    modules = dict(trained.named_modules(remove_duplicate=False))
    owners: dict[int, nn.Module] = {}
    kinds: dict[nn.Module, tuple[str, torch.dtype]] = {}
    for name, parameter in trained.named_parameters(remove_duplicate=False):
        path, told = name, name.removeprefix("network.")
        while modules[path := path.rpartition(".")[0]] not in units:
            pass
        if owners.setdefault(id(parameter), modules[path]) is not modules[path]:
            raise PartError(f"{told} is one weight of several parts, which fsdp gathers one by one: {advice}")
        if parameter.ndim == 0:
            raise PartError(f"{told} is a number without an axis, which fsdp cannot cut into rows: {advice}")
        first, dtype = (
            kinds.setdefault(modules[path], (told, parameter.dtype)) if parameter.requires_grad else ("", None)
        )
        if dtype not in (None, parameter.dtype):
            raise PartError(f"{first} and {told} are numbers of two kinds, which fsdp cannot sum: {advice}")


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this process keeps; all of one that is not cut."""
    cut = cast("Any", tensor)
    return cut.to_local() if hasattr(tensor, "to_local") else tensor


def first_row(tensor: Tensor) -> int:
    """Where the rows begin that this process keeps; 0 of a tensor that is not cut."""
    if not hasattr(tensor, "to_local"):
        return 0
    mesh = cast("Any", tensor).device_mesh
    each = -(-tensor.shape[0] // mesh.size())
    return min(mesh.get_local_rank() * each, tensor.shape[0])


@torch.no_grad()
def put(target: Tensor, whole: Tensor) -> None:
    """Copies what belongs to a process of a whole tensor."""
    own = local(target)
    first = first_row(target)
    own.copy_(whole[first : first + len(own)] if own is not target else whole)


@torch.no_grad()
def clip(gradients: Iterable[Tensor], most: float, group: "Group") -> None:
    """Scales gradients in rows so that the norm of all of them is at most `most`, as torch's `clip_grad_norm_` does."""
    own = [local(each) for each in gradients]
    squares = torch.stack([each.square() for each in torch._foreach_norm(own)]).sum()  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    group.add_up([squares])
    factor = (most / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(own, factor)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
