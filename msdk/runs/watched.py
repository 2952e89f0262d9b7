"""What a run keeps of those who watch its training: in its checkpoints, for the ledger, and to stop by."""

from collections.abc import Sequence
from typing import Any, cast

import attrs
from attrs.validators import deep_iterable, ge, optional

from msdk.recipe.structuring import FieldError
from msdk.trackers.base import Numbers


@attrs.frozen(kw_only=True)
class Watched:
    """What was looked at, and what follows from it. All but `best` and `waited` have a number for each stage.

    Attributes:
        held_out_images: Held-out images that the loss of a stage was found of, since the first step.
        sampled_calls: Network calls that contact sheets took, since the first step.
        seen: Images that each stage had trained on at the last look.
        best: The smallest held-out loss, of what goes by one of its own (`training.stop.by`): of each stage, or of all;
            None before there is one.
        waited: Looks since that.
        frozen: The iteration since which a stage stays as it is; None while it trains.
    """

    held_out_images: tuple[int, ...] = attrs.field(validator=deep_iterable(ge(0)))
    sampled_calls: tuple[int, ...] = attrs.field(validator=deep_iterable(ge(0)))
    seen: tuple[int, ...] = attrs.field(validator=deep_iterable(ge(0)))
    best: tuple[float | None, ...] = ()
    waited: tuple[int, ...] = attrs.field(default=(), validator=deep_iterable(ge(0)))
    frozen: tuple[int | None, ...] = attrs.field(validator=deep_iterable(optional(ge(0))))

    def check(self, stages: int) -> None:
        """Raises `FieldError` where numbers are not those of so many stages."""
        each = (self.held_out_images, self.sampled_calls, self.seen, self.frozen)
        if any(len(numbers) != stages for numbers in each):
            raise FieldError("watched has one number for each stage")
        if len(self.best) != len(self.waited) or len(self.best) not in (0, 1, stages):
            raise FieldError("watched has best and waited of each stage, or of all as one")

    def ended(self, shares: Sequence[float]) -> bool:
        """Whether no stage goes on of those that training draws, by the share that it gives each."""
        return all(at is not None for at, share in zip(self.frozen, shares, strict=True) if share > 0)

    @classmethod
    def told(cls, numbers: Numbers, stages: int) -> "Watched":
        """What trackers are told of it, for the ledger."""
        names = {"held_out_images": "held_out_images_by_stage", "sampled_calls": "sampled_calls_by_stage"}
        names |= {"frozen": "frozen_by_stage"}
        found: dict[str, Any] = {
            key: tuple(cast("Any", numbers[name])) for key, name in names.items() if name in numbers
        }
        return attrs.evolve(cls.nothing(stages), **found)

    @classmethod
    def nothing(cls, stages: int) -> "Watched":
        """Of so many stages, before the first step."""
        zeros = (0,) * stages
        return cls(held_out_images=zeros, sampled_calls=zeros, seen=zeros, frozen=(None,) * stages)
