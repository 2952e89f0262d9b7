"""How long collectives take between the cards of several machines: a model with stated assumptions. Imports no torch.

A collective of n bytes among G cards of a machine and N machines goes in two levels, as NCCL's rings and trees do:
cards of a machine add up or gather over their own links, then each card exchanges its G-th part with the cards of its
number in other machines, and all G share what their machine has to the others. By rings, each card sends

    all-reduce        2 (G-1)/G n inside,  2 (N-1)/N n/G between
    all-gather          (G-1)/G n inside,    (N-1)/N n/G between  (reduce-scatter and broadcast alike)

(Patarasuk and Yuan 2009, bandwidth optimal all-reduce algorithms for clusters of workstations.) Each hop takes its
latency as well, one after the other inside a machine, and as in a tree between machines.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

from msdk.budgeting.cards import Card
from msdk.errors import MsdkError

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "broadcast"]


@attrs.frozen
class Sent:
    """One collective of a training step.

    Attributes:
        kind: What is done.
        size: Bytes of the whole: what is summed up, what all have after a gathering or had before a scattering.
        at: When it is asked for: share of the step's own FLOPs that are done by then.
    """

    kind: Kind
    size: int
    at: float = 1.0


@attrs.frozen
class Wires:
    """What lies between the cards.

    Attributes:
        nodes: Machines.
        gpus: Cards in each of them.
        link: Bytes/s that a card sends to others of its machine, in one direction.
        bandwidth: Bytes/s that a machine sends to other ones, in one direction.
        hop: Seconds of latency of a hop inside a machine.
        far_hop: Seconds of latency of a hop between machines.
    """

    nodes: int
    gpus: int
    link: float
    bandwidth: float
    hop: float
    far_hop: float

    @property
    def processes(self) -> int:
        return self.nodes * self.gpus

    def seconds(self, sent: Sent) -> float:
        """How long a collective takes that has the wires for itself."""
        rounds = 2 if sent.kind == "all_reduce" else 1
        inside = (self.gpus - 1) / self.gpus * sent.size / self.link + (self.gpus - 1) * self.hop
        between = (self.nodes - 1) / self.nodes * sent.size / self.bandwidth
        return rounds * (inside + between + math.ceil(math.log2(self.nodes)) * self.far_hop)

    def total(self, sent: Sequence[Sent]) -> float:
        """How long all collectives of a step take, one after the other."""
        return math.fsum(self.seconds(each) for each in sent)

    def finished(self, sent: Sequence[Sent], compute: float) -> float:
        """How long a step takes whose own work takes `compute` seconds, with its collectives beside it.

        One collective is under way at a time. A gathering may begin as soon as the one before it is in use, and work
        waits for it; a sum begins when it is asked for, and only the end of the step waits for it.
        """
        late = free = used = 0.0
        for each in sent:
            now = each.at * compute + late
            if each.kind in ("all_gather", "broadcast"):
                free = max(free, used) + self.seconds(each)
                late += max(free - now, 0.0)
                used = max(now, free)
            else:
                free = max(free, now) + self.seconds(each)
        return max(compute + late, free)


MOST = 1024
"""Processes that are planned for."""


def wires_of(card: Card, nodes: int, gpus: int, bandwidth: float) -> Wires:
    """What lies between so many cards.

    Raises:
        MsdkError: There are none of them, or more than are planned for.
    """
    for name, count in (("--nodes", nodes), ("--gpus", gpus)):
        if count < 1:
            raise MsdkError(f"{name} {count}: must be at least 1")
    if not bandwidth > 0:
        raise MsdkError(f"a bandwidth of {bandwidth:g} is none: give what a machine sends to others, above 0: 400G")
    if nodes * gpus > MOST:
        count = f"{nodes * gpus:,} processes"
        raise MsdkError(f"--nodes {nodes} with --gpus {gpus} are {count}: plans are made for at most {MOST:,}")
    hop = HOPS["NVLink" if card.wire != "PCIe" else "PCIe"]
    return Wires(nodes, gpus, card.link, bandwidth, hop, HOPS["network"])


HOPS: Mapping[str, float] = {"NVLink": 3.4e-6, "PCIe": 5.7e-6, "network": 14e-6}
"""Seconds of latency of a hop, as NCCL's own tuning has them (src/graph/tuning.cc, rings, protocol Simple)."""

BANDWIDTH = 400e9 / 8
"""Bytes/s between machines where nothing is said: one port of 400 Gbit/s for each machine."""


def sent_by_a_process(sent: Sequence[Sent], processes: int) -> float:
    """Bytes that a process sends in rings over all: 2 (W-1)/W of what is summed up, half of that elsewhere."""
    share = (processes - 1) / processes
    return math.fsum((2 if each.kind == "all_reduce" else 1) * share * each.size for each in sent)
