"""How much each stage is used: by the sampler's network calls, by the images that training draws, by length of time."""

from collections import Counter
from collections.abc import Sequence

from msdk.partition import Partition
from msdk.recipe import Recipe
from msdk.samplers.tracing import Call
from msdk.schedules.base import Schedule


def stage_calls(trace: Sequence[Call], stages: int) -> list[int]:
    """Network calls in each stage, guided ones twice."""
    calls = Counter[int]()
    for call in trace:
        calls[call.stage] += call.evaluations
    return [calls[index] for index in range(stages)]


def stage_lengths(partition: Partition, schedule: Schedule) -> list[float]:
    """Share of the schedule's time that each stage covers."""
    whole = schedule.t_max - schedule.t_min
    return [(high - low) / whole for low, high in partition.times(schedule)]


def stage_shares(recipe: Recipe, trace: Sequence[Call]) -> dict[str, list[float]]:
    """The share of each stage: "sampling" of the network calls, "training" of the images drawn, "length" of time."""
    schedule, partition = recipe.schedule, recipe.partition()
    calls = stage_calls(trace, len(partition))
    return {
        "sampling": [count / sum(calls) for count in calls],
        "training": recipe.training_shares(),
        "length": stage_lengths(partition, schedule),
    }
