"""What a budget has beside counts: limits, memory, speed, plans for a card, and the ledger of a run."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from msdk.recipe.quantities import prefix_of, si_prefix, significant, written
from msdk.report.figures import apart, percent, scaled, title_of
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from msdk.budgeting import Budget
    from msdk.budgeting.cards import Card
    from msdk.budgeting.ledger import Ledger


LOOKED_AT_BY = {"memory": "--memory or --check", "hours": "--gpu or --measure", "cost": "--gpu and --price"}
"""Limit -> the options that say what a recipe has."""


def limits_grid(one: "Budget") -> Grid:
    """What a recipe allows itself, and what it has."""
    rows = tuple(
        (
            limit.key,
            written(limit.limit, limit.unit),
            "not asked for" if limit.found is None else written(limit.found, limit.unit),
            "-" if limit.found is None else percent(limit.found / limit.limit) if limit.limit else "-",
            "EXCEEDED" if limit.exceeded else "",
        )
        for limit in one.limits
    )
    asked = {limit.key: LOOKED_AT_BY[limit.key] for limit in one.limits if limit.found is None}
    notes = tuple(f"{key} needs {flags}." for key, flags in asked.items())
    return Grid(title_of(one, "limits"), ("of [budget]", "at most", "found", "of the limit", ""), rows, notes)


def memory_grid(one: "Budget") -> Grid:
    """What one recipe holds in memory."""
    memory = one.memory
    assert memory is not None
    rows = tuple(
        (
            str(stage.index),
            written(stage.activations_per_image, "B"),
            written(stage.activations, "B"),
            written(stage.peak, "B"),
        )
        for stage in memory.stages
    )
    held = ", ".join(f"{name} {written(size, 'B')}" for name, size in attrs.asdict(memory.held).items() if size)
    notes = (
        f"Held throughout training: {held}.",
        f"Peak of training {written(memory.peak, 'B')}: {memory.batch:,} images a step, {memory.micro_batch:,} at "
        f"a time, {memory.dtype}.",
        f"Peak of sampling {written(memory.sampling_peak, 'B')}: {memory.sampling_batch:,} images at a time.",
        "Simulated: what libraries and allocators hold for themselves comes on top.",
    )
    head = ("stage", "activations of an image", "of a micro-batch", "peak of a step in this stage alone")
    return Grid(title_of(one, "memory"), head, rows, notes)


def timing_grid(one: "Budget") -> Grid:
    """How fast one recipe is where it was measured."""
    timing = one.timing
    assert timing is not None
    rows = tuple(
        (
            str(stage.index),
            significant(stage.sampling_images_per_second),
            percent(stage.sampling_utilisation),
            significant(stage.training_images_per_second),
            percent(stage.training_utilisation),
        )
        for stage in timing.stages
    )
    notes = (
        f"Measured on {timing.name} ({timing.device}, {timing.threads} threads), {timing.dtype}, "
        f"{timing.batch:,} images at a time.",
        f"Utilisation is of {written(timing.matmul_flops_per_second, 'FLOP/s')}, the fastest product of matrices "
        "there in the same run.",
        f"The whole training would take {significant(timing.hours)} hours at these rates, without reading of data.",
    )
    head = ("stage", "calls, images/s", "of peak", "training, images/s", "of peak")
    return Grid(title_of(one, "speed"), head, rows, notes)


def estimate_grid(one: "Budget") -> Grid:
    """What training would take on a card that is not at hand."""
    estimate, training = one.estimate, one.training
    assert estimate is not None
    assert training is not None
    flops = [each.forward_flops + each.backward_flops + each.recompute_flops for each in training.stages]
    prefix, unit = prefix_of(training.total_flops, "FLOPs")
    price = estimate.price

    def row(name: str, flops: float, hours: float) -> tuple[str, ...]:
        money = () if price is None else (significant(price * hours),)
        return (name, scaled(flops, unit), significant(hours), *money)

    rows = [
        row(str(stage.index), of_stage, hours)
        for stage, of_stage, hours in zip(training.stages, flops, estimate.hours_by_stage, strict=True)
    ]
    encoded = training.autoencoder_flops
    if encoded:
        rows.append(row("encoding of latents", encoded, estimate.hours - sum(estimate.hours_by_stage)))
    rows.append(row("all", training.total_flops + encoded, estimate.hours))
    memory = one.memory
    fits = ""
    if memory is not None:
        peak, whole = written(memory.peak, "B"), written(estimate.memory, "B", padded=False)
        words = "within" if memory.peak <= estimate.memory else "MORE THAN"
        fits = f"The peak of a training step, {peak}, is {words} the card's {whole}."
    notes = (
        f"{estimate.title}: {written(estimate.peak_flops_per_second, 'FLOP/s')} dense in {estimate.rate}, of which "
        f"{percent(estimate.utilisation)} are assumed to be reached. Source: {estimate.source}.",
        "Forward, backward and what is recomputed; reading of data, sampling and evaluation are not in it.",
        *([fits] if fits else []),
    )
    head = ("stage", f"{prefix}FLOPs", "hours", *([] if price is None else [f"cost at {price:g} an hour"]))
    return Grid(title_of(one, f"training on {estimate.gpu}"), head, tuple(rows), notes)


def cards_grid(cards: "Iterable[Card]") -> Grid:
    """The cards that training can be planned for."""
    rates = ("fp32", "tf32", "fp16", "bf16")
    rows = tuple(
        (
            card.name,
            f"{card.memory / 2**30:g}",
            *(significant(card.peak[rate] / 1e12) if rate in card.peak else "-" for rate in rates),
            f"{card.link / 1e9:g} {card.wire}",
            card.source,
        )
        for card in cards
    )
    notes = (
        "TFLOP/s, dense, by the makers' own documents. float32 is multiplied as TF32 where a card has that.",
        "GB/s: what a card sends to others of its machine, in one direction, and by which wire.",
        "msdk budget RECIPE --gpu NAME --utilisation 0.35 --price 2 plans training on one, with --gpus 8 on eight.",
    )
    return Grid("Cards", ("card", "GiB", *rates, "GB/s", "source"), rows, notes)


def ledger_grid(one: "Budget") -> Grid:
    """What a run has spent so far, beside what its recipe predicts for the same iteration."""
    assert one.ledger is not None
    return spent_grid(one.ledger, title_of(one, "ledger"))


def beside_training(ledger: "Ledger") -> list[str]:
    """Sentences on what looking at a training took, apart from what it spent, and what stopping saved."""
    found: list[str] = []
    if ledger.validation is not None:
        took, images = written(ledger.validation.total_flops, "FLOPs"), sum(ledger.validation.images_by_stage)
        found.append(f"Looking at held-out images took {took} more: {images:,} forward passes.")
    if ledger.sampling is not None:
        took, calls = written(ledger.sampling.total_flops, "FLOPs"), sum(ledger.sampling.calls_by_stage)
        found.append(f"Contact sheets took {took} more: {calls:,} network calls.")
    if ledger.stopping is not None:
        stopping = ledger.stopping
        since = [
            f"stage {stage} since iteration {at:,}"
            for stage, at in enumerate(stopping.iteration_by_stage)
            if at is not None
        ]
        kept = f"{', '.join(since)} with the weights of its best look".capitalize()
        whole = "all iterations would have taken" if stopping.ended else "the same iterations would have taken"
        less = "less" if stopping.saved_flops >= 0 else "more"
        amount = written(abs(stopping.saved_flops), "FLOPs")
        ended = "; training ended by it" if stopping.ended else ""
        found.append(f"{kept}{ended}: {amount} {less} than {whole}.")
    return found


def spent_grid(ledger: "Ledger", title: str) -> Grid:
    """What a ledger says, stage by stage."""
    spent, predicted = ledger.spent, ledger.predicted
    prefix, unit = si_prefix(max(*spent.total_flops_by_stage, *predicted.total_flops_by_stage, 1))
    rows = tuple(
        (
            str(index),
            f"{seen:,}",
            f"{round(expected):,}",
            scaled(flops, unit),
            scaled(likely, unit),
            apart(flops, likely),
        )
        for index, (seen, expected, flops, likely) in enumerate(
            zip(
                ledger.images_by_stage,
                predicted.images_by_stage,
                spent.total_flops_by_stage,
                predicted.total_flops_by_stage,
                strict=True,
            )
        )
    )
    total, expected = ledger.total_flops, predicted.total_flops
    notes = (
        f"After {ledger.iteration:,} iterations: {written(total, 'FLOPs')} spent, {written(expected, 'FLOPs')} "
        f"predicted, {apart(total, expected)}. Forward, backward and what is recomputed, convention exact.",
        *beside_training(ledger),
    )
    head = ("stage", "images seen", "predicted", f"{prefix}FLOPs spent", "predicted", "difference")
    return Grid(title, head, rows, notes)
