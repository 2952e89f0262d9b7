"""Plans of training on many cards as tables: a step by its stages, and how it scales with the number of machines."""

from typing import TYPE_CHECKING

from msdk.recipe.quantities import significant, written
from msdk.report.figures import percent, title_of
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from msdk.budgeting import Budget
    from msdk.budgeting.requested import Plan, StepPlan

HOW = {
    "ddp": "each process has all weights, and gradients are summed up (ddp)",
    "fsdp": "each process has its share of the weights, which are put together for each use (fsdp)",
}


def plan_grids(one: "Budget") -> list[Grid]:
    """Both tables of a budget that has a plan."""
    return [] if one.plan is None else [plan_grid(one), sweep_grid(one)]


def plan_grid(one: "Budget") -> Grid:
    """A step on many cards, stage by stage."""
    plan = one.plan
    assert plan is not None
    step = plan.step
    computing = sum(stage.compute_seconds for stage in plan.stages)
    rows = [
        (
            str(stage.index),
            significant(stage.images),
            percent(stage.presence),
            _ms(stage.compute_seconds),
            written(stage.bytes, "B"),
            _ms(stage.communication_seconds),
        )
        for stage in plan.stages
    ]
    rows.append(("all stages share", "-", "-", "-", written(plan.shared_bytes, "B"), _ms(plan.shared_seconds)))
    if step.compute_seconds > computing:
        rows.append(("waiting for the slowest", "-", "-", _ms(step.compute_seconds - computing), "-", "-"))
    rows.append(
        (
            "all",
            f"{step.images * step.processes:,}",
            "-",
            _ms(step.compute_seconds),
            written(plan.bytes, "B"),
            _ms(step.communication_seconds),
        )
    )
    head = ("stage", "images a step", "in a step", "compute ms", "sent when it is", "communication ms")
    title = title_of(one, f"a step on {_cards(one, step)}")
    return Grid(title, head, tuple(rows), (*_found(one, plan), *_grounds(one, plan)))


def _found(one: "Budget", plan: "Plan") -> list[str]:
    """What follows, in sentences."""
    step, memory = plan.step, plan.memory
    node = "" if plan.efficiency_of_node is None else f", {percent(plan.efficiency_of_node)} against one machine"
    parts = [f"held {written(memory.held, 'B')}"]
    parts += [f"gathered {written(memory.gathered, 'B')}"] if memory.gathered else []
    fits = "within" if memory.peak <= memory.card else "MORE THAN"
    cost = "" if step.cost is None else f", which cost {significant(step.cost)} at {plan.price:g} a card and hour"
    return [
        f"A step takes {_ms(step.seconds)} ms: {_ms(step.compute_seconds)} ms of computing by the process with most to "
        f"do, and {_ms(step.exposed_seconds)} ms of communication that no computing hides. "
        f"{significant(step.images_per_second)} images/s.",
        f"Efficiency {percent(step.efficiency)} against one card that takes as long for an image and talks to none"
        f"{node}.",
        f"Memory of a process, {step.images:,} images: peak {written(memory.peak, 'B')} ({', '.join(parts)}), {fits} "
        f"the card's {written(memory.card, 'B', padded=False)}.",
        f"The whole training takes {significant(step.hours)} hours{cost}.",
    ]


def _grounds(one: "Budget", plan: "Plan") -> list[str]:
    """What is counted and what is assumed, in sentences."""
    estimate, step = one.estimate, plan.step
    assert estimate is not None
    wires = f"{written(plan.link, 'B/s')} one way by {plan.wire} inside a machine, by the card's maker"
    hops = f"{plan.hop_seconds * 1e6:g} us a hop"
    if step.nodes > 1:
        wires += f"; {written(8 * plan.bandwidth, 'bit/s')} one way between machines, shared by {step.gpus} cards each"
        hops += f", {plan.far_hop_seconds * 1e6:g} us between machines"
    return [
        f"Counted: FLOPs; and what process 0 of {step.processes:,} sends in the real step, rehearsed on tensors "
        f"without storage: {HOW[plan.parallel]}; {significant(plan.collectives)} collectives of "
        f"{written(plan.bytes, 'B')} in a mean step, for which a process sends {written(plan.sent_bytes, 'B')}; "
        f"{percent(plan.hidden)} of the bytes are asked for while there is still something to compute, and may go on "
        "beside it.",
        "A decoder communicates whole where a step has one image of it, and not at all where it has none.",
        f"Assumed: {percent(estimate.utilisation)} of {written(estimate.peak_flops_per_second, 'FLOP/s')}, however "
        f"few images a card has; {wires}; rings in two levels, {hops}; nothing else on the wires. Reading of data, "
        "checkpoints and what a machine loses are not in it.",
    ]


def sweep_grid(one: "Budget") -> Grid:
    """The same training on fewer machines."""
    plan = one.plan
    assert plan is not None
    priced = plan.price is not None
    rows = tuple(
        (
            f"{step.nodes} x {step.gpus}",
            f"{step.images:,}",
            _ms(step.compute_seconds),
            _ms(step.communication_seconds),
            _ms(step.exposed_seconds),
            _ms(step.seconds),
            significant(step.images_per_second),
            percent(step.efficiency),
            significant(step.hours),
            *([significant(step.cost or 0.0)] if priced else []),
        )
        for step in plan.sweep
    )
    head = (
        "machines x cards",
        "images each",
        "compute ms",
        "communication ms",
        "not hidden ms",
        "step ms",
        "images/s",
        "efficiency",
        "hours",
        *(["cost"] if priced else []),
    )
    notes = ("The batch stays the same, so that all of these train the same run.",)
    if plan.parallel == "fsdp" and len(plan.sweep) > 1:
        notes += (f"Collectives are those of {plan.step.processes:,} processes; fewer pad shares a little less.",)
    return Grid(title_of(one, f"scaling on {one.estimate.gpu if one.estimate else 'cards'}"), head, rows, notes)


def _cards(one: "Budget", step: "StepPlan") -> str:
    machines = "one machine" if step.nodes == 1 else f"{step.nodes} machines"
    name = one.estimate.gpu if one.estimate else "card"
    return f"{machines} with {step.gpus} {name}"


def _ms(seconds: float) -> str:
    return significant(1e3 * seconds)
