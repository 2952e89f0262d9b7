"""Which network calls a sampler makes: the step, time and stage of each, known before any network runs."""

from collections.abc import Sequence

import attrs

from msdk.partition import Partition
from msdk.samplers.base import Sampler, call_times
from msdk.samplers.guidance import Guidance
from msdk.schedules.base import Schedule


@attrs.frozen
class Call:
    """One network call of a sampler: the interval it serves (`step`), its time and ratio, and the stage it goes to.

    `evaluations` is what it costs: 2 where it is guided, which evaluates the network with and without the class. Where
    another network guides, `of_another` is what it costs of that.
    """

    step: int
    t: float
    ratio: float
    stage: int
    evaluations: int = 1
    of_another: int = 0


def explain(
    partition: Partition,
    schedule: Schedule,
    sampler: Sampler,
    steps: int,
    guidance: Guidance | None = None,
    times: Sequence[Sequence[float]] | None = None,
) -> list[Call]:
    """Every network call that sampling makes, in order, with its stage and its evaluations; runs no network.

    Args:
        partition: The stages.
        schedule: Gives the ratio of a time.
        sampler: Whose calls.
        steps: Intervals of its time grid.
        guidance: Guided calls evaluate twice; unguided when not given.
        times: What `call_times` says of this sampler, where that is known: without it, torch is imported.
    """
    guidance = guidance or Guidance()

    def call(step: int, t: float) -> Call:
        ratio = schedule.ratio(t)
        return Call(step, t, ratio, partition.at(t, schedule), guidance.evaluations(ratio), guidance.of_another(ratio))

    return [
        call(step, t)
        for step, inner in enumerate(call_times(sampler, schedule, steps) if times is None else times)
        for t in inner
    ]
