"""Sums of gradients over processes that each have all weights, sent while the backward pass computes the next ones.

Buckets are made of weights in the reverse order of their registration, about that in which a backward pass reaches
them. One is sent when all its gradients are there and the buckets before it were sent; what is not sent when the pass
is over follows then. All processes run the same modules in the same order (`msdk.training.dealing`), so the same
gradients are there in all of them, and they send the same buckets in the same order without talking.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from msdk.distributed import Group

BUCKET = 25 * 2**20
"""Bytes that are sent together: fewer take as long each, more keep the first of them waiting (as DDP has it)."""


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """In their order, the next bucket where one is full or the dtype is another."""
    found: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if found and (held > BUCKET or tensor.dtype != found[-1].dtype):
            yield found
            found, held = [], 0
        found.append(tensor)
        held += tensor.nbytes
    if found:
        yield found


class GradientSums:
    """The gradients of one step after another.

    Args:
        trained: Has `network`, and names its weights; those that one stage alone uses are told by their names.
        group: The processes.
    """

    def __init__(self, trained: nn.Module, group: Group) -> None:
        self.group = group
        named = [(name, weight) for name, weight in trained.named_parameters() if weight.requires_grad]
        self.weights = [weight for _, weight in reversed(named)]
        self.stages = {weight: stage_of(name, trained) for name, weight in named}
        self.known: set[Tensor] = set()  # had a gradient before: others are not waited for
        self.expected: list[list[Tensor]] = []
        self.places: dict[Tensor, int] = {}
        self.missing: list[int] = []
        self.sent: list[tuple[list[Tensor], Callable[[], None]]] = []
        if group.rank.count > 1:
            for weight in self.weights:
                weight.register_post_accumulate_grad_hook(self._ready)

    def expect(self, stages: Collection[int]) -> None:
        """Tells that the last backward pass of a step comes, of images of these stages."""
        if self.group.rank.count == 1:
            return
        wanted = [each for each in self.weights if each in self.known and self.stages[each] in (None, *stages)]
        self.sent, self.expected = [], list(buckets(wanted))
        self.places = {weight: place for place, bucket in enumerate(self.expected) for weight in bucket}
        self.missing = [len(bucket) for bucket in self.expected]

    def _ready(self, weight: Tensor) -> None:
        self.known.add(weight)
        place = self.places.pop(weight, None)
        if place is not None:
            self.missing[place] -= 1
            while len(self.sent) < len(self.expected) and not self.missing[len(self.sent)]:
                self._send(self.expected[len(self.sent)])

    def _send(self, bucket: list[Tensor]) -> None:
        self.sent.append((bucket, self.group.add_up([weight.grad for weight in bucket if weight.grad is not None])))

    def finish(self) -> None:
        """Sends what is left; afterwards all gradients are sums, as far as their device is concerned."""
        if self.group.rank.count == 1:
            return
        self.places = {}
        done = {weight for bucket, _ in self.sent for weight in bucket}
        for bucket in buckets([each for each in self.weights if each.grad is not None and each not in done]):
            self._send(bucket)
        for _, put in self.sent:
            put()
        self.sent = []


def stages_of(trained: nn.Module) -> dict[str, int | None]:
    """Name of each weight -> the stage that alone uses it, if one does."""
    return {name: stage_of(name, trained) for name, _ in trained.named_parameters()}


def stage_of(name: str, trained: nn.Module) -> int | None:
    """The stage that alone uses a weight; None where several do."""
    own = re.match(r"network\.(encoders|adapters|decoders)\.(\d+)\.", name)
    several = cast("nn.ModuleList", trained.get_submodule("network.encoders"))
    return int(own[2]) if own and (own[1] == "decoders" or len(several) > 1) else None
