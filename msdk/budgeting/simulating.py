"""Running a network on tensors without storage, and following what memory it would take.

A denoiser is copied to fake CPU tensors, which know their size and hold nothing, and every storage is followed from the
operator that makes it to the moment when nobody holds it any more. What operators use inside, allocators round up and
libraries keep for themselves is not seen. What the program itself makes of numbers (`torch.tensor` of times and stages)
holds them, and so does what is computed of it alone: by it images are routed, as on the host of a device.
"""

import contextlib
import copy
import weakref
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from msdk.denoiser import Denoiser
from msdk.errors import MsdkError, PartError


class Live(TorchDispatchMode):
    """Follows the storages of all tensors that operators return, until each of them is freed.

    Attributes:
        now: Bytes of the storages that are alive.
        peak: The largest `now` so far.
        operator: The last operator that was called.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake = fake
        self.now = self.peak = 0
        self.operator = "none"
        self._known: dict[int, weakref.ref[Any]] = {}
        self._weights: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.operator = str(func)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        numbers = sum(not isinstance(tensor, FakeTensor) for tensor in given)
        if numbers and numbers == len(given):
            with unset_fake_temporarily():
                result = func(*args, **(kwargs or {}))
        elif numbers:
            arguments: Any = tree_map(self._faked, (args, kwargs or {}))
            result = func(*arguments[0], **arguments[1])
        else:
            result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        if func is torch.ops.aten._to_copy.default and self.is_weight(args[0]):
            self._weights.add(id(result.untyped_storage()))
        return result

    def _faked(self, value: Any) -> Any:
        """Numbers of the program beside images: as if they were none. What the network hides stays what it is."""
        if (
            isinstance(value, Tensor)
            and not isinstance(value, FakeTensor)
            and id(value.untyped_storage()) in self._known
        ):
            return self.fake.from_tensor(value, static_shapes=True)
        return value

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def freed(_: object) -> None:
            del self._known[key]
            self._weights.discard(key)
            self.now -= size

        self._known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)

    def hold(self, module: nn.Module) -> None:
        """Takes a module's parameters and buffers for weights."""
        self._weights.update(id(tensor.untyped_storage()) for tensor in tensors_of(module))

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor is a weight, a view of one, or a copy in another dtype, as autocast makes them."""
        return id(tensor.untyped_storage()) in self._weights

    @contextlib.contextmanager
    def saving(self) -> Generator[dict[int, int]]:
        """Storage -> bytes of what is saved for a backward pass inside the block, weights left out."""
        found: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if not self.is_weight(tensor):
                storage = tensor.untyped_storage()
                found[id(storage)] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield found


@contextlib.contextmanager
def simulated(denoiser: Denoiser) -> Generator[tuple[Denoiser, Live]]:
    """A copy of a denoiser on fake CPU tensors, laid out as training lays it out, and what follows their storages.

    Raises:
        PartError: Something inside cannot be simulated.
    """
    mode, running = FakeTensorMode(), list[str]()
    live = Live(mode)
    with torch.random.fork_rng(devices=[]), mode, live:
        memo: dict[int, Any] = {}
        for tensor in (*tensors_of(denoiser), *computed(denoiser)):
            layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
            fake = torch.empty(tensor.shape, dtype=tensor.dtype, memory_format=layout)
            trained = tensor.requires_grad
            memo[id(tensor)] = nn.Parameter(fake, trained) if isinstance(tensor, nn.Parameter) else fake
        copied = copy.deepcopy(denoiser, memo)
        live.hold(copied)
        for name, part in copied.named_modules():
            part.register_forward_pre_hook(lambda part, _, name=name: running.append(f"{name} ({type(part).__name__})"))
            part.register_forward_hook(lambda *_: running.pop() and None)
        try:
            yield copied, live
        except MsdkError:
            raise
        except Exception as error:
            where = running[-1] if running else "the network"
            raise PartError(
                f"the memory of {where} cannot be simulated: {live.operator} failed with {type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}. Its forward must not read or branch on values of "
                "tensors, nor hold tensors that are neither parameters nor buffers; an operator of your own needs "
                "torch.library.register_fake"
            ) from error


def tensors_of(module: nn.Module) -> Iterable[Tensor]:
    """Parameters and buffers."""
    yield from module.parameters()
    yield from module.buffers()


def computed(module: nn.Module) -> Iterable[Tensor]:
    """Tensors that modules hold beside those, as `weight_norm`, `spectral_norm` and pruning keep what they compute."""
    for part in module.modules():
        yield from (value for value in vars(part).values() if isinstance(value, Tensor))
