"""Weights in shards (`training.parallel = "fsdp"`): of each weight, gradient, moment and average a process keeps rows.

torch's FSDP2 gathers the weights of one unit when it runs, forward and backward, and lets go of them behind it; each
process gets its rows of the summed gradients. Units are encoders, adapters and decoders, and inside them what their
networks give as `shard_units()`: modules that are called as such, and not within a function that is recomputed as a
whole. All processes run the same units in the same order, by the way images are dealt (`msdk.training.dealing`).
"""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes  # pyright: ignore[reportPrivateUsage]

from msdk.batch import Batch
from msdk.errors import PartError
from msdk.objectives.base import Draw, Loss
from msdk.optimizers.base import Optimizer
from msdk.runs.shards import first_row

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser, StagedNetwork
    from msdk.distributed import Group


class Trained(nn.ModuleDict):
    """All that is trained, `network` and `objective`; called, the loss of every image, [batch].

    One module that runs all others: FSDP2 wants a root.
    """

    def forward(self, batch: Batch, draw: Draw, denoiser: "Denoiser") -> Tensor:
        return cast("Loss", self["objective"]).loss(batch, draw, denoiser)


def shard(trained: Trained, device: torch.device, group: "Group") -> None:
    """Cuts all weights into rows, in place; each process calls it, with the same weights.

    Raises:
        PartError: A weight cannot be cut, or belongs to several units.
    """
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    units = [*_units(cast("StagedNetwork", trained["network"])), trained]
    _refuse_uncut(trained, units)
    for parameter in trained.parameters():
        parameter.data = parameter.data.contiguous()  # rows are cut from memory
    if group.handle is None:
        mesh = init_device_mesh(device.type, (group.rank.count,))
    else:
        mesh = DeviceMesh.from_group(group.handle, device.type)
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
        inner: Callable[[], Sequence[nn.Module]] | None = getattr(part, "shard_units", None)
        found += [*(() if inner is None else inner()), part]
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
            raise PartError(f"{first} and {told} are numbers of two kinds, which fsdp cannot gather at once: {advice}")


def refuse_whole(rule: Optimizer) -> None:
    """Raises `PartError` where an optimiser moves a weight otherwise if it is given its rows as weights of their own.

    It is tried: what looks at a weight as a whole (its norm, its axes) cannot be given rows.
    """
    with _disable_current_modes():  # with numbers also where a step is rehearsed on tensors without storage
        generator = torch.Generator().manual_seed(0)
        start, *gradients = (torch.randn(4, 3, dtype=torch.float64, generator=generator) for _ in range(4))
        moved: list[Tensor] = []
        for cuts in ((slice(0, 4),), (slice(0, 3), slice(3, 4))):
            weights = [nn.Parameter(start[cut].clone()) for cut in cuts]
            optimizer = rule.build(weights, 1e-2)
            for gradient in gradients:
                for weight, cut in zip(weights, cuts, strict=True):
                    weight.grad = gradient[cut].clone()
                optimizer.step()
            moved.append(torch.cat([weight.detach() for weight in weights]) - start)
        same = torch.allclose(*moved, rtol=1e-6, atol=1e-12)
    if not same:
        raise PartError(
            f"{type(rule).__name__} looks at whole weights, of which each process has rows alone with fsdp: set "
            'training.parallel to "ddp", or use another training.optimizer'
        )


@torch.no_grad()
def rows(parameter: nn.Parameter) -> nn.Parameter:
    """The rows of a weight that this process keeps, in the same memory: a weight of its own for an optimiser."""
    return nn.Parameter(local(parameter), requires_grad=parameter.requires_grad)


def take_gradients(trained: nn.Module, own: Sequence[nn.Parameter]) -> None:
    """Hands the gradients of weights that are cut over to their rows."""
    for weight, mine in zip(trained.parameters(), own, strict=True):
        mine.grad, weight.grad = None if weight.grad is None else local(weight.grad), None


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this process keeps; all of one that is not cut."""
    return cast("Any", tensor).to_local() if is_cut(tensor) else tensor


def is_cut(tensor: Tensor) -> bool:
    """Whether this process keeps rows of a tensor: torch's DTensor, which takes half a second to import."""
    return hasattr(tensor, "to_local")


def as_rows_of(value: Tensor, weight: Tensor) -> Tensor:
    """What belongs to the rows of a weight, as a tensor that is cut like it; itself where it has another shape."""
    if not is_cut(weight) or value.shape != local(weight).shape or not value.ndim:
        return value
    from torch.distributed.tensor import DTensor

    cut = cast("DTensor", weight)
    return DTensor.from_local(
        value, cut.device_mesh, cut.placements, run_check=False, shape=cut.shape, stride=cut.stride()
    )


@torch.no_grad()
def put(target: Tensor, whole: Tensor) -> None:
    """Copies what a process keeps of a whole tensor."""
    if is_cut(target):
        own, first = local(target), first_row(target)
        own.copy_(whole[first : first + len(own)])
    else:
        target.copy_(whole)


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on the CPU; of one that is cut, all processes call it at once."""
    return (cast("Any", tensor).full_tensor() if is_cut(tensor) else tensor).detach().cpu()


@torch.no_grad()
def norm_of(gradients: Sequence[Tensor], group: "Group | None" = None) -> Tensor:
    """The norm of all gradients; of rows, with those of all processes of a group. Does not wait for the device."""
    squares = torch.stack([gradient.square() for gradient in torch._foreach_norm(list(gradients))]).sum()  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    if group is not None:
        group.add_up([squares])()
    return squares.sqrt()


@torch.no_grad()
def clip(gradients: Sequence[Tensor], norm: Tensor, most: float) -> None:
    """Scales rows of gradients so that all of all processes have at most this norm, as `clip_grad_norm_` does."""
    torch._foreach_mul_(list(gradients), (most / (norm + 1e-6)).clamp(max=1.0))  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
