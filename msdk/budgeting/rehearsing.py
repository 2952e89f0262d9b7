"""One process of many runs a real training step without the others, and without weights, to see what it asks for.

torch has a process group that answers by itself, for any number of processes. The step that training takes runs in it,
on tensors without storage, with the images that process 0 is dealt; every collective is recorded, memory is followed.
"""

import contextlib
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from msdk.budgeting.memory import STEP_COUNTER, expected_counts
from msdk.budgeting.recording import Recorder
from msdk.budgeting.simulating import simulated, tensors_of
from msdk.budgeting.training_price import held
from msdk.budgeting.trials import Counts, started, trial, without_weights
from msdk.budgeting.wires import Sent
from msdk.denoiser import Denoiser
from msdk.denoiser.building import build
from msdk.distributed import Group, Rank
from msdk.errors import RunError
from msdk.recipe import Recipe
from msdk.threads import threads_for
from msdk.training.dealing import Hand, deal, refuse_uneven
from msdk.training.step import TrainingStep


@attrs.frozen
class Rehearsal:
    """What a process did in steps of several kinds.

    Attributes:
        alone: Stage -> collectives of a step whose images are all in it; of the stages that training draws.
        stages: As many of these as the images of a micro-batch can be in at once.
        together: Collectives of a step that has images of all of them.
        held: Bytes that process 0 has all the time: weights, gradients, what the optimiser keeps, averages.
        gathered: Bytes of weights that it puts together for a while from the shares of all; 0 where each has them.
        peak: Largest number of bytes in use, that of a step with all stages, or of the dearest where steps have one.
    """

    alone: Mapping[int, tuple[Sent, ...]]
    stages: tuple[int, ...]
    together: tuple[Sent, ...]
    held: int
    gathered: int
    peak: int


@contextlib.contextmanager
def pretended(processes: int) -> Generator[Group]:
    """The group of so many processes of which this one is the first, and the others do not exist.

    Raises:
        RunError: This process belongs to a real group.
    """
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if dist.is_initialized():
        raise RunError("processes that work together cannot pretend to be others: plan on one, without torchrun")
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        yield Group(Rank(0, processes), dist.group.WORLD)
    finally:
        dist.destroy_process_group()


@threads_for(0)
def rehearse(recipe: Recipe, processes: int) -> Rehearsal:
    """Runs training steps as process 0 of so many, in the recipe's way to be parallel.

    Raises:
        PartError: The stage edges are not known yet, the batch does not go round, or a network does what cannot be
            simulated.
    """
    options = recipe.training
    refuse_uneven(options.batch_size, options.accumulation, Rank(0, processes))
    recipe = without_weights(recipe)
    denoiser = build(recipe, "meta").train()
    shares = recipe.training_shares()
    drawn = [stage for stage, share in enumerate(shares) if share > 0]
    size = options.batch_size // options.accumulation
    together = expected_counts(size, shares)
    batches: list[Counts] = [{stage: size} for stage in drawn]
    if len(drawn) > 1:
        batches.append(together)
    dealt = [_dealt(counts, options.accumulation, processes) for counts in batches]
    found: list[tuple[Sent, ...]] = []
    with pretended(processes) as group, simulated(denoiser) as (copied, live):
        step, peaks = started(recipe, copied, group), list[int]()
        kept = _held(recipe, copied, step)
        for hand, parts in (dealt[-1], *dealt):  # the first learns which gradients there are, and sends them late
            live.peak = live.now
            with Recorder() as recorder:
                step(*trial(recipe, copied, parts), 0, hand)
            found.append(recorder.sent)
            peaks.append(live.peak)
    found, peaks, gathered = found[1:], peaks[1:], 0
    if step.sharded:
        # Shares come and go in storages that are resized, which is not followed: so the peak of a process with all
        # weights is taken, less what it holds, more what a process with shares does, and the two units at a time.
        gathered, peaks = max(map(_put_together, found)), []
        with simulated(denoiser) as (copied, live):
            step = started(recipe, copied)
            less = _held(recipe, copied, step, gradients=False)
            for hand, parts in dealt:
                live.peak = live.now
                step(*trial(recipe, copied, parts), 0, hand)
                peaks.append(kept + gathered + live.peak - less)
    alone = dict(zip(drawn, found, strict=False))
    peak = peaks[-1] if options.groups(options.batch_size) > 1 else max(peaks[: len(drawn)])
    return Rehearsal(alone, tuple(together), found[-1], kept, gathered, peak)


def _put_together(sent: Sequence[Sent]) -> int:
    """Most bytes of weights that are whole at a time: of one unit that is in use, and of the next."""
    sizes = [each.size for each in sent if each.kind == "all_gather"]
    return max((sum(sizes[place : place + 2]) for place in range(len(sizes))), default=0)


def _held(recipe: Recipe, denoiser: Denoiser, step: TrainingStep, *, gradients: bool = True) -> int:
    """Bytes that this process has of a step all the time."""
    trained = [weight for weight in step.own if weight.requires_grad]
    found = held(
        recipe.training,
        _bytes(step.own),
        _bytes(trained),
        autoencoder=0 if denoiser.autoencoder is None else _bytes(tensors_of(denoiser.autoencoder)),
        counters=STEP_COUNTER * len(trained),
    )
    return found.total if gradients else found.total - found.gradients


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _dealt(counts: Counts, parts: int, processes: int) -> tuple[Hand, list[Counts]]:
    """What process 0 is dealt of a batch, and the images of each stage in each of its micro-batches."""
    stages = torch.tensor([stage for stage, count in counts.items() for _ in range(count)] * parts)
    hand = deal(stages, Rank(0, processes), parts)
    own = stages[hand.draws].split(list(hand.sizes))
    return hand, [dict(sorted(Counter(part.tolist()).items())) for part in own]
