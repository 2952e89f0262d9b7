"""How long training takes on many cards of many machines, from counts and a model of their wires.

Counted: FLOPs; the collectives of the real step, which one process of so many rehearses (`msdk.budgeting.rehearsing`);
how unevenly batches fall (`msdk.budgeting.attendance`). Assumed: the share of its peak that a card reaches, alike for
few images and many; what the wires carry, with nothing else on them (`msdk.budgeting.wires`). A step takes

    compute of the process with most to do / (peak x utilisation) + what no computation hides of its collectives.

Which decoders a step needs is drawn. What their collectives add does not depend on the others', so that expected bytes
are those that every step has, plus those of each stage times the chance that the batch has an image of it.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import attrs

from msdk.budgeting.attendance import excess, presence
from msdk.budgeting.cards import Card
from msdk.budgeting.costs import Budget
from msdk.budgeting.rehearsing import Rehearsal, rehearse
from msdk.budgeting.requested import Estimate, Parallel, Plan, ProcessMemory, StagePlan, StepPlan
from msdk.budgeting.trials import without_weights
from msdk.budgeting.wires import Sent, Wires, sent_by_a_process
from msdk.denoiser.building import build
from msdk.recipe import Recipe


def plan(
    recipe: Recipe, budget: Budget, estimate: Estimate, card: Card, wires: Wires, parallel: Parallel | None = None
) -> Plan:
    """Plans the training of a recipe on many cards.

    Args:
        recipe: Its stage edges must be known.
        budget: Of the recipe, counted, not read.
        estimate: On one of these cards: its rate, utilisation and price are used, and its precision.
        card: Of which there are so many.
        wires: Between them, see `wires_of`.
        parallel: How processes keep weights; as the recipe says when not given.

    Raises:
        PartError: The batch does not go round the processes, or a part cannot be simulated.
    """
    training, how = budget.training, parallel or recipe.training.parallel
    assert training is not None
    options = attrs.evolve(recipe.training, precision=estimate.dtype, parallel=how)
    recipe, batch = attrs.evolve(recipe, training=options), options.batch_size
    rehearsal = rehearse(recipe, wires.processes)
    shares, rate = recipe.training_shares(), estimate.utilisation * estimate.peak_flops_per_second
    encoding = training.autoencoder_flops / training.images
    flops = [encoding + each.forward + each.backward + each.recompute for each in budget.image_flops]
    alike = batch * sum(share * each for share, each in zip(shares, flops, strict=True)) / rate
    # Sums of gradients are of a step; shared weights are put together for each micro-batch.
    chances = presence(recipe, batch if how == "ddp" else batch // options.accumulation)
    denoiser = build(without_weights(recipe), "meta")

    def step(wires: Wires) -> StepPlan:
        count = wires.processes
        talk = expected(rehearsal, chances, wires.total)
        if options.groups(batch) > 1:
            compute = alike / count + excess(recipe, denoiser, count, flops) / rate
            kinds = [(1.0, compute, rehearsal.together)]
        else:
            kinds = [(shares[k], batch / count * flops[k] / rate, sent) for k, sent in rehearsal.alone.items()]
            compute = sum(share * each for share, each, _ in kinds)
        bare = sum(share * wires.total(sent) for share, _, sent in kinds)
        waits = sum(share * (wires.finished(sent, each) - each) for share, each, sent in kinds)
        exposed = talk.whole * waits / bare if bare else 0.0
        hours = options.iterations * (compute + exposed) / 3600
        return StepPlan(
            nodes=wires.nodes,
            gpus=wires.gpus,
            processes=count,
            images=batch // count,
            compute_seconds=compute,
            communication_seconds=talk.whole,
            exposed_seconds=exposed,
            seconds=compute + exposed,
            images_per_second=batch / (compute + exposed),
            efficiency=alike / count / (compute + exposed),
            hours=hours,
            cost=None if estimate.price is None else estimate.price * hours * count,
        )

    sizes, seconds = expected(rehearsal, chances, _size), expected(rehearsal, chances, wires.total)
    steps = [step(attrs.evolve(wires, nodes=nodes)) for nodes in _up_to(wires, batch // options.accumulation)]
    asked, one = steps[-1], steps[0]
    return Plan(
        parallel=how,
        link=wires.link,
        wire=card.wire,
        bandwidth=wires.bandwidth,
        hop_seconds=wires.hop,
        far_hop_seconds=wires.far_hop,
        stages=tuple(
            StagePlan(
                index=stage,
                images=batch * share,
                presence=chance,
                compute_seconds=batch * share * flops[stage] / wires.processes / rate,
                bytes=round(sizes.by_stage.get(stage, 0)),
                communication_seconds=chance * seconds.by_stage.get(stage, 0),
            )
            for stage, (share, chance) in enumerate(zip(shares, chances, strict=True))
        ),
        shared_bytes=round(sizes.shared),
        shared_seconds=seconds.shared,
        collectives=expected(rehearsal, chances, len).whole,
        bytes=sizes.whole,
        sent_bytes=expected(rehearsal, chances, lambda sent: sent_by_a_process(sent, wires.processes)).whole,
        hidden=_size([each for each in rehearsal.together if each.at < 1]) / (_size(rehearsal.together) or 1),
        step=asked,
        efficiency_of_node=one.seconds / asked.nodes / asked.seconds if asked.nodes > 1 else None,
        memory=ProcessMemory(rehearsal.held, rehearsal.gathered, rehearsal.peak, card.memory),
        price=estimate.price,
        sweep=tuple(steps),
    )


@attrs.frozen
class Expected:
    """A figure of a step's collectives.

    Attributes:
        shared: What every step has.
        by_stage: What a step has besides where a stage is present.
        whole: Expected for a step.
    """

    shared: float
    by_stage: Mapping[int, float]
    whole: float


def expected(rehearsal: Rehearsal, chances: Sequence[float], figure: Callable[[Sequence[Sent]], float]) -> Expected:
    """Takes a figure that adds up over collectives apart: what stages have in common, and what each has for itself.

    With s in common and d_k for each of n stages, steps of one stage have s + d_k, and one of all of them s + sum d_k:
    so s is (the sum of the former - the latter) / (n - 1).
    """
    alone = {stage: figure(sent) for stage, sent in rehearsal.alone.items()}
    stages = rehearsal.stages
    shared = (
        (sum(alone[stage] for stage in stages) - figure(rehearsal.together)) / (len(stages) - 1)
        if len(stages) > 1
        else figure(rehearsal.together)
    )
    own = {stage: each - shared for stage, each in alone.items()}
    return Expected(shared, own, shared + math.fsum(chances[stage] * each for stage, each in own.items()))


def _size(sent: Sequence[Sent]) -> int:
    return sum(each.size for each in sent)


def _up_to(wires: Wires, images: int) -> list[int]:
    """1, 2, 4, ... machines up to all of them, where the images of a micro-batch go round."""
    fewer = [2**power for power in range(wires.nodes.bit_length()) if 2**power < wires.nodes]
    return [nodes for nodes in (*fewer, wires.nodes) if images % (nodes * wires.gpus) == 0]
