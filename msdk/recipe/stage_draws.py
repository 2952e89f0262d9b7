"""How training picks the stages of a batch, as data. Imports no torch: `msdk.training.drawing` draws by it.

A batch is cut into groups of images (`training.stage_groups`), each of which is of one stage. A law says how likely
each stage is in a step: a function of the number of the step, the stages' shares under the law of training times (their
natural ones) and nothing else, so that a run goes on where it stopped, on any number of processes.
"""

import math
from collections.abc import Sequence
from typing import Literal

import attrs
from attrs.validators import deep_iterable, ge, le, optional

from msdk.errors import PartError

Name = Literal["natural", "uniform", "shares", "stratified", "round-robin", "curriculum"]

Shares = Sequence[float]
"""A number for each stage, least noise first; they add up to 1."""


@attrs.frozen(kw_only=True)
class StageDraw:
    """How training picks the stage of each group of images; the name of a law alone stands for it, `"uniform"`.

    "natural" leaves it to the law of training times (EDM); "uniform" gives each stage the same share (score_sde);
    `{ shares = [..] }` gives each its own. In these, groups are drawn one by one. "stratified" gives each stage its
    share of the groups of every batch, the same for all stages if not told otherwise (the paper's LDM): what does not
    come out even is drawn, so that on average it is exact. "round-robin" takes the stages in turn, least noise first,
    one for a whole batch. "curriculum" begins with the noisiest stage, and opens the next one each turn (Kim et al.
    2024, arXiv 2403.10348); those that are open are drawn one by one. Stages in which the law of training times has
    nothing are never drawn.

    Args:
        name: The law.
        shares: Of "shares", "stratified" and "curriculum": "natural", "uniform", or a number for each stage, least
            noise first, of which only the ratios count; "uniform" if not given for "stratified", "natural" for
            "curriculum".
        every: Steps of a turn; 1 if not given for "round-robin", all iterations by the stages for "curriculum".
        own: How likely an image that a stage is given has a time of that stage, a number for each, least noise first;
            the others have times of all stages, by the law of training times (the soft experts of MEME, Lee et al.
            2023, arXiv 2306.04990). When not given, all have times of their stage.
    """

    name: Name = "shares"
    shares: Literal["natural", "uniform"] | tuple[float, ...] | None = None
    every: int | None = attrs.field(default=None, validator=optional(ge(1)))
    own: tuple[float, ...] | None = attrs.field(default=None, validator=optional(deep_iterable([ge(0), le(1)])))

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, draw: "StageDraw | Name") -> "StageDraw":
        """A law, or that of the name."""
        return cls(name=draw) if isinstance(draw, str) else draw

    @property
    def grouped(self) -> bool:
        """Whether groups of a batch can be of different stages."""
        return self.name != "round-robin"

    def settled(self, iterations: int, stages: int) -> "StageDraw":
        """The same law with all that it leaves open written out, for so many iterations and stages.

        A curriculum whose turns follow from the iterations is another one where these change.
        """
        shares = {"natural": "natural", "uniform": "uniform", "stratified": "uniform", "curriculum": "natural"}
        turn = {"round-robin": 1, "curriculum": math.ceil(iterations / stages)}
        return attrs.evolve(
            self,
            shares=shares.get(self.name) if self.shares is None else self.shares,
            every=turn.get(self.name) if self.every is None else self.every,
        )

    def check(self, stages: int) -> None:
        """Raises `PartError` where keys do not suit the law, or shares the number of stages."""
        name, shares = self.name, self.shares
        if name == "shares" and shares is None:
            raise PartError(
                'give the name of a law, such as "uniform", or { shares = [..] } with a number for each stage'
            )
        if name in ("natural", "uniform", "round-robin") and shares is not None:
            raise PartError(
                f"the shares of {name} are its own: leave them out, or leave out the name, {{ shares = [..] }}"
            )
        if name not in ("round-robin", "curriculum") and self.every is not None:
            raise PartError(f"every is the turn of round-robin and curriculum, which {name} has not: leave it out")
        if self.own is not None and len(self.own) != stages:
            raise PartError(f"own has {len(self.own)} entries, and there are {stages} stages: give one for each")
        if not isinstance(shares, tuple):
            return
        if len(shares) != stages:
            raise PartError(
                f"shares has {len(shares)} entries for {stages} stage{'s' if stages > 1 else ''}: give one for each, "
                "least noise first"
            )
        if not all(0 <= share < math.inf for share in shares) or not 0 < math.fsum(shares) < math.inf:
            raise PartError(f"shares are 0 or more, and one of them is more, got {list(shares)}")

    def reach(self, natural: Shares) -> None:
        """Raises `PartError` where shares are of stages that are never drawn."""
        for stage, (share, own) in enumerate(zip(self._given(natural), natural, strict=True)):
            if share > 0 and not own > 0:
                raise PartError(
                    f"shares gives stage {stage} {share:g}, but training draws no time there: make it 0, or move "
                    "training.noise, or name the stage in stages.train"
                )

    def at(self, iteration: int, natural: Shares) -> list[float]:
        """How likely each stage is for a group of the step after so many; the law is `settled`."""
        shares, turns = self._long_run(natural), self._turns(natural)
        past = iteration // (self.every or 1)
        if self.name == "round-robin":
            return [float(stage == turns[past % len(turns)]) for stage in range(len(shares))]
        if self.name == "curriculum" and past + 1 < len(turns):
            opened = turns[-(past + 1) :]
            return normalised([share if stage in opened else 0.0 for stage, share in enumerate(shares)])
        return shares

    def phases(self, iterations: int, natural: Shares) -> list[tuple[int, list[float]]]:
        """How many of the first steps have which shares; the law is `settled`."""
        turns, every = self._turns(natural), self.every or 1
        if self.name == "round-robin":
            rounds, rest = divmod(iterations, every * len(turns))
            return [
                (rounds * every + min(max(rest - turn * every, 0), every), self.at(turn * every, natural))
                for turn in range(len(turns))
            ]
        if self.name == "curriculum":
            starts = [turn * every for turn in range(len(turns)) if turn * every < iterations]
            lengths = [end - start for start, end in zip(starts, [*starts[1:], iterations], strict=True)]
            return [(length, self.at(start, natural)) for start, length in zip(starts, lengths, strict=True)]
        return [(iterations, self.at(0, natural))]

    def mean(self, iterations: int, natural: Shares) -> list[float]:
        """The share of each stage in the images of so many steps; the law is `settled`."""
        phases = [(steps, shares) for steps, shares in self.phases(iterations, natural) if steps]
        if len(phases) == 1:
            return phases[0][1]
        columns = zip(*([steps * share / iterations for share in shares] for steps, shares in phases), strict=True)
        return [math.fsum(column) for column in columns]

    def steps(self, iterations: int, natural: Shares, groups: int) -> list[float]:
        """In how many of so many steps each stage is expected to have an image; the law is `settled`."""
        phases = self.phases(iterations, natural)
        return [
            math.fsum(steps * self._present(shares[stage], groups) for steps, shares in phases)
            for stage in range(len(natural))
        ]

    def _present(self, share: float, groups: int) -> float:
        """How likely a stage has any of the groups of a step."""
        if self.name == "stratified":
            return min(groups * share, 1.0)  # all of the groups that it has whole, and the rest as often as it is
        return -math.expm1(groups * math.log1p(-share)) if share < 1 else 1.0

    def importance(self, iteration: int, natural: Shares) -> list[float]:
        """Weights of the stages' losses with which the mean over what is drawn is that over natural draws.

        In round-robin it is so of the mean over a whole round, of which a step is a part; the others are right in each
        step. The law is `settled`.
        """
        drawn = self._long_run(natural) if self.name == "round-robin" else self.at(iteration, natural)
        return [own / share if share else 0.0 for own, share in zip(natural, drawn, strict=True)]

    def unbiased(self, natural: Shares) -> None:
        """Raises `PartError` where no weights make up for what is never drawn, or drawn for others."""
        if self.own is not None:
            raise PartError(
                "own gives stages times of others, which weights of stages do not make up for: leave importance or own "
                "out"
            )
        if self.name == "curriculum":
            raise PartError(
                "curriculum leaves stages out for a while, which no weights make up for: leave importance out, or take "
                "another stage_draw"
            )
        for stage, (own, share) in enumerate(zip(natural, self._long_run(natural), strict=True)):
            if own > 0 and not share > 0:
                raise PartError(
                    f"stage_draw never draws stage {stage}, which weights cannot make up for: give it a share, or "
                    "leave it out of stages.train"
                )

    def _given(self, natural: Shares) -> list[float]:
        """What is said of the stages, in any unit."""
        if isinstance(self.shares, tuple):
            return list(self.shares)
        return list(natural) if self.shares == "natural" else [float(share > 0) for share in natural]

    def _long_run(self, natural: Shares) -> list[float]:
        """The share of each stage, turns apart."""
        given = self._given(natural)
        return given if self.shares == "natural" else normalised(given)

    def _turns(self, natural: Shares) -> list[int]:
        """The stages that have a turn, least noise first."""
        return [stage for stage, share in enumerate(self._given(natural)) if share > 0]


def normalised(shares: Shares) -> list[float]:
    """The same ratios, adding up to 1."""
    total = math.fsum(shares)
    return [share / total for share in shares]
