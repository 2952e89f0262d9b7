"""What `msdk budget solve` answers: the numbers alone, without torch, with the keys of its JSON (docs/contracts.md)."""

from collections.abc import Mapping
from typing import Any

import attrs

from msdk.budgeting.questions import Question
from msdk.recipe import Recipe
from msdk.recipe.results import ABSENT, key, to_json
from msdk.report import solutions_grid


@attrs.frozen
class FoundWidths:
    """Widths of the encoder and of the decoders, least noise first; None for what was not looked for."""

    encoder: int | None
    decoders: tuple[int, ...] | None


@attrs.frozen
class StageFigures:
    """MACs of one stage, and the parameters that it uses, those of an adapter included."""

    macs: int
    params: int


@attrs.frozen
class Candidate:
    """One answer.

    Attributes:
        widths: That were found.
        value: What was solved for.
        distance: (value - target) / target.
        deviation: How far the widths are from the preferred proportion: exp(d) - 1, d the standard deviation of
            log(width / preferred width).
        params: All parameters.
        stages: Figures of each stage.
        equivalent: Mean MACs of a call under each kind of weights.
        recipe: The recipe with these widths; None where JSON was read.
    """

    widths: FoundWidths
    value: float
    distance: float
    deviation: float
    params: int
    stages: tuple[StageFigures, ...]
    equivalent: Mapping[str, float] = attrs.field(metadata=key("equivalent_macs"))
    recipe: Recipe | None = attrs.field(default=None, metadata=ABSENT)

    @property
    def encoder(self) -> int | None:
        return self.widths.encoder

    @property
    def decoders(self) -> tuple[int, ...] | None:
        return self.widths.decoders

    @property
    def macs(self) -> tuple[int, ...]:
        return tuple(stage.macs for stage in self.stages)

    @property
    def active(self) -> tuple[int, ...]:
        """Parameters that each stage uses."""
        return tuple(stage.params for stage in self.stages)

    def words(self) -> str:
        """The widths found: "encoder 128, decoders 192 / 128 / 16"."""
        parts = [] if self.encoder is None else [f"encoder {self.encoder}"]
        parts += [] if self.decoders is None else [f"decoders {' / '.join(map(str, self.decoders))}"]
        return ", ".join(parts)


@attrs.frozen
class Nearest:
    """The nearest of all on each side of the target, whatever its proportion; None where there is none.

    Attributes:
        below: Not above the target.
        above: Above it, also where such answers are left out.
    """

    below: Candidate | None
    above: Candidate | None


@attrs.frozen
class Solution:
    """The answers to a question.

    Attributes:
        recipe: What the recipe was called.
        title: Its title.
        question: What was asked.
        preference: Which proportion is preferred among equally near answers, and where it comes from.
        candidates: Best first: by distance beyond the tolerance, then by deviation from the preferred proportion, then
            by distance, then by parameters.
        nearest: On both sides of the target.
        combinations: How many were compared.
        counted: How many networks were counted for that; the costs of the others follow exactly.
    """

    recipe: str
    title: str
    question: Question
    preference: str
    candidates: tuple[Candidate, ...]
    nearest: Nearest
    combinations: int
    counted: int

    def __repr__(self) -> str:
        return solutions_grid(self).brief()

    def _repr_html_(self) -> str:
        return solutions_grid(self).html()

    @property
    def below(self) -> Candidate | None:
        return self.nearest.below

    @property
    def above(self) -> Candidate | None:
        return self.nearest.above

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk budget solve --json` (docs/contracts.md)."""
        return to_json(self)
