"""The collectives that a program asks for, recorded while it runs: on real processes or on pretended ones."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from msdk.budgeting.backward import RULES
from msdk.budgeting.wires import Kind, Sent
from msdk.errors import PartError

_SPACES = ("c10d", "_c10d_functional", "_c10d_functional_autograd")
"""Where torch's collectives live; the second has those of DTensor."""

_SILENT = ("wait_tensor", "barrier", "monitored_barrier_")
"""What sends nothing that counts."""

_KINDS: Mapping[str, Kind] = {
    "allreduce": "all_reduce",
    "all_reduce": "all_reduce",
    "allgather": "all_gather",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "broadcast": "broadcast",
}
"""What names of operators begin with, once underscores are off."""

_FLOPS: Mapping[Any, Any] = {**flop_registry, **RULES}


class Recorder(TorchDispatchMode):
    """Inside its `with`, notes every collective and how many FLOPs were done before it."""

    def __init__(self) -> None:
        super().__init__()
        self._flops = 0
        self._found: list[tuple[Kind, int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        result = func(*args, **named)
        rule = _FLOPS.get(func.overloadpacket)
        if rule is not None:
            self._flops += rule(*args, **named, out_val=result)
        elif func.namespace in _SPACES:
            self._note(func._opname, (*args[:2], result))
        return result

    def _note(self, name: str, tensors: tuple[Any, ...]) -> None:
        if name in _SILENT:
            return
        kinds: list[Kind] = [kind for start, kind in _KINDS.items() if name.lstrip("_").startswith(start)]
        if not kinds:
            raise PartError(f"a training step sends by torch's {name}, of which budgets do not know what it takes")
        # What goes in and what comes out: the larger one is the whole.
        size = max(sum(_bytes(leaf) for leaf in tree_leaves(each)) for each in tensors)
        self._found.append((kinds[0], size, self._flops))

    @property
    def sent(self) -> tuple[Sent, ...]:
        """What was noted, in its order."""
        whole = self._flops or 1
        return tuple(Sent(kind, size, done / whole) for kind, size, done in self._found)


def _bytes(value: object) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
