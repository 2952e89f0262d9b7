"""Widths that meet a budget: the best of all that the limits allow, found by comparing every combination."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from msdk.budgeting.pricing import Price, Pricing, Widths
from msdk.budgeting.questions import Question, amount
from msdk.budgeting.shares import stage_shares
from msdk.budgeting.widths import along, features, grid, width_of, with_width
from msdk.denoiser.building import build_autoencoder
from msdk.encoders.base import Encoder
from msdk.errors import MsdkError, TargetError
from msdk.recipe import Recipe
from msdk.samplers.tracing import Call, explain

LARGEST = 100_000_000
"""Combinations that are compared at most: tens of seconds."""

CHUNK = 1_000_000
"""Combinations that are held at once."""

REACH, ENCODER_REACH = 3, 2
"""How many times as wide as the recipe's widest a decoder, and as its own an encoder, may be, if nothing is said."""

DECIMALS = 9
"""Relative figures that agree so far are equal: sums of floats differ beyond, by their order."""

TRAINED_BYTES, MOMENT_BYTES, FROZEN_BYTES = 4 + 4 + 4, 4, 4
"""fp32 weights, gradients and averaged weights; each moment of the optimiser; and weights alone, of an autoencoder."""

FORWARD_AND_BACKWARD = 3
"""Cost of a training step in forward passes; the backward pass costs two."""

Array = np.ndarray[Any, np.dtype[np.float64]]
Options = list[tuple[int, ...]]
Prices = list[Mapping[Widths, Price]]
"""For each decoder the price of its stage at every pair of widths."""


@attrs.frozen
class Candidate:
    """One answer.

    Attributes:
        encoder: Width of the encoder; None where it was not looked for.
        decoders: Widths of the decoders, least noise first; None where they were not looked for.
        value: What was solved for.
        distance: (value - target) / target.
        deviation: How far the widths are from the preferred proportion: exp(d) - 1, d the standard deviation of
            log(width / preferred width).
        params: All parameters.
        macs: MACs of each stage.
        active: Parameters that each stage uses.
        equivalent: Mean MACs of a call under each kind of weights.
        recipe: The recipe with these widths.
    """

    encoder: int | None
    decoders: tuple[int, ...] | None
    value: float
    distance: float
    deviation: float
    params: int
    macs: tuple[int, ...]
    active: tuple[int, ...]
    equivalent: Mapping[str, float]
    recipe: Recipe

    def words(self) -> str:
        """The widths found: "encoder 128, decoders 192 / 128 / 16"."""
        parts = [] if self.encoder is None else [f"encoder {self.encoder}"]
        parts += [] if self.decoders is None else [f"decoders {' / '.join(map(str, self.decoders))}"]
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        return {
            "widths": {"encoder": self.encoder, "decoders": self.decoders and list(self.decoders)},
            "value": self.value,
            "distance": self.distance,
            "deviation": self.deviation,
            "params": self.params,
            "stages": [{"macs": macs, "params": active} for macs, active in zip(self.macs, self.active, strict=True)],
            "equivalent_macs": dict(self.equivalent),
        }


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
        below: The nearest of all that is not above the target, whatever its proportion; None where there is none.
        above: The nearest of all that is above it, also where such answers are left out.
        combinations: How many were compared.
        counted: How many networks were counted for that; the costs of the others follow exactly.
    """

    recipe: str
    title: str
    question: Question
    preference: str
    candidates: tuple[Candidate, ...]
    below: Candidate | None
    above: Candidate | None
    combinations: int
    counted: int

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk budget solve --json` (docs/contracts.md)."""
        return {
            "recipe": self.recipe,
            "title": self.title,
            "question": self.question.as_json(),
            "preference": self.preference,
            "candidates": [candidate.as_json() for candidate in self.candidates],
            "nearest": {"below": self.below and self.below.as_json(), "above": self.above and self.above.as_json()},
            "combinations": self.combinations,
            "counted": self.counted,
        }


def solve(recipe: Recipe, question: Question, *, name: str = "") -> Solution:
    """Finds the widths that meet a budget best: every combination within the limits is compared.

    Depths, attention and all other settings of the recipe stay. Every figure of the answers is counted.

    Args:
        recipe: A recipe whose stage edges are known.
        question: What to solve for.
        name: What to call the recipe.

    Raises:
        TargetError: The question does not suit the recipe, or nothing within the limits comes near the target; the
            message has the nearest that can be reached.
    """
    space = Space(recipe, question)
    for interpolate in (True, False):
        pricing = Pricing(recipe, question.convention, interpolate=interpolate)
        prices = space.prices(pricing)
        best, below, above = space.search(prices)
        shown = [*best, *(row for row in (below, above) if row is not None)]
        if all(prices[k][pair] == price for row in shown for k, (pair, price) in enumerate(space.counts(pricing, row))):
            break  # what the search took the answers to cost is what they are counted to cost
    solution = Solution(
        recipe=name,
        title=recipe.title,
        question=question,
        preference=space.preference,
        candidates=tuple(space.candidate(pricing, row) for row in best),
        below=None if below is None else space.candidate(pricing, below),
        above=None if above is None else space.candidate(pricing, above),
        combinations=space.combinations,
        counted=pricing.counted,
    )
    far = not best or (abs(best[0].distance) > question.tolerance and (below is None or above is None))
    if far:
        raise TargetError(_unmet(solution, space.ranges()))
    return solution


def _unmet(solution: Solution, ranges: str) -> str:
    question = solution.question
    text = f"no widths meet {amount(question.target, question.what)}"
    near = [each for each in (solution.below, solution.above) if each is not None]
    if near:
        nearest = min(near, key=lambda each: abs(each.distance))
        text += (
            f": the nearest that can be reached is {amount(nearest.value, question.what)} "
            f"({100 * nearest.distance:+.2f} %), with {nearest.words()}"
        )
    text += f". Widths are {ranges}; --min, --max, --round and --vary change that"
    if question.max_params is not None:
        text += f". --max-params leaves out all with more than {amount(question.max_params, 'params')}"
    return text + (". --at-most leaves out all above the target" if question.at_most else "")


# --- the search -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Row:
    """One combination of widths in the search; 0 is a width that stays."""

    encoder: int
    decoders: tuple[int, ...]
    excess: float
    deviation: float
    distance: float
    params: float

    def preferred(self) -> tuple[float, ...]:
        """Sorts answers: what is within the tolerance is equally near."""
        return (self.excess, self.deviation, abs(self.distance), self.params, self.encoder, *self.decoders)

    def nearest(self) -> tuple[float, ...]:
        """Sorts answers by distance before all."""
        return (abs(self.distance), self.deviation, self.params, self.encoder, *self.decoders)


class Space:
    """All combinations of widths that a question allows, and the sum that it asks for.

    Every target is c + sum_k (a_k macs_k + b params_k) over stages, so what a decoder adds to it does not depend on the
    other decoders. The deviation, too, needs of x_k = log(width_k / preferred width_k) the sums of x_k and x_k^2 alone.

    Raises:
        TargetError: The question does not suit the recipe.
    """

    def __init__(self, recipe: Recipe, question: Question) -> None:
        self.recipe, self.question = recipe, question
        self.labels = [f"decoders.{index}" for index in range(len(recipe.decoders))]
        self.own = [
            width_of(decoder, label) if question.vary != "encoder" else 0
            for decoder, label in zip(recipe.decoders, self.labels, strict=True)
        ]
        self.own_encoder = width_of(recipe.encoder, "encoder") if question.vary != "decoders" else 0
        self.wanted = self._wanted()
        self.grids = self._grids()
        self.options = {encoder: self._options(grids) for encoder, grids in self.grids.items()}
        self.combinations = sum(math.prod(map(len, options)) for options in self.options.values())
        if self.combinations > LARGEST:
            raise TargetError(
                f"{self.combinations:,} combinations of widths are more than the {LARGEST:,} that are compared: use a "
                "larger --round, a narrower --min and --max, or fix the proportion by --ratio"
            )
        self.shares = stage_shares(recipe, _trace(recipe))
        self.frozen = _frozen_params(recipe)
        self.encoders = len(recipe.decoders) if recipe.sharing == "separate" else 1

    @property
    def preference(self) -> str:
        """Which proportion is preferred, and where it comes from."""
        question = self.question
        if question.vary == "encoder" or (len(self.own) == 1 and not self.own_encoder):
            return "There is one width to find, so candidates stand by their distance."
        if question.ratio:
            return f"The decoders' widths are {_proportion(question.ratio)}, each rounded to the nearest it can have."
        text = (
            f"Of all within {100 * question.tolerance:g} % of the target those come first whose widths are nearest to "
        )
        if question.profile:
            text += f"{_proportion(question.profile.ratio)}. {question.profile.how}"
        else:
            text += f"the recipe's own proportion, {_proportion(self.own)}"
            text += f" behind an encoder of {self.own_encoder}." if self.own_encoder else "."
        return text

    def _wanted(self) -> list[float]:
        """The preferred widths of the decoders: of the given proportion, and on average as wide as they are."""
        given = self.question.ratio or (self.question.profile and self.question.profile.ratio)
        if not given:
            return list(map(float, self.own))
        if len(given) != len(self.own):
            raise TargetError(
                f"the proportion {_proportion(given)} has {len(given)} numbers, but the recipe has {len(self.own)} "
                "decoders: give one for each"
            )
        scale = math.exp(
            math.fsum(math.log(own / share) for own, share in zip(self.own, given, strict=True)) / len(given)
        )
        return [scale * share for share in given]

    def _grids(self) -> dict[int, list[list[int]]]:
        """Width of the encoder -> the widths that each decoder can have behind it."""
        recipe, question = self.recipe, self.question
        limits: dict[str, Any] = {"step": question.step, "smallest": question.smallest}
        encoders = [0]
        if self.own_encoder:
            largest = question.largest or ENCODER_REACH * self.own_encoder
            check = functools.partial(features, recipe)
            encoders = grid(recipe.encoder, check, "encoder", largest=largest, **limits)
        largest = question.largest or REACH * max(self.own)
        found: dict[int, list[list[int]]] = {}
        misfit: MsdkError | None = None
        for width in encoders:
            info = features(recipe, self.encoder(width))
            try:
                if question.vary == "encoder":
                    for decoder in recipe.decoders:
                        decoder.check(info)
                    found[width] = [[0] for _ in recipe.decoders]
                else:
                    found[width] = [
                        grid(decoder, lambda part, info=info: part.check(info), label, largest=largest, **limits)
                        for decoder, label in zip(recipe.decoders, self.labels, strict=True)
                    ]
            except MsdkError as error:
                misfit = error
        if not found and misfit is not None:
            raise misfit
        return found

    def ranges(self) -> str:
        """The limits of the widths, in words."""
        by_decoder = zip(*self.grids.values(), strict=True)
        parts = {"encoder": list(self.grids)} if self.own_encoder else {}
        if self.question.vary != "encoder":
            parts |= dict(
                zip(self.labels, (sorted({w for g in grids for w in g}) for grids in by_decoder), strict=True)
            )
        return ", ".join(f"{widths[0]} to {widths[-1]} in {name}" for name, widths in parts.items())

    def encoder(self, width: int) -> Encoder:
        return with_width(self.recipe.encoder, width, "encoder") if width else self.recipe.encoder

    def prices(self, pricing: Pricing) -> Prices:
        """The costs of everything that can be chosen."""
        return [
            pricing.table(decoder, [(encoder, width) for encoder, grids in self.grids.items() for width in grids[k]])
            for k, decoder in enumerate(self.recipe.decoders)
        ]

    def coefficients(self) -> tuple[list[float], float, float]:
        """In the sum that is asked for: a factor for the MACs of each stage, one for parameters, and a constant."""
        what, training = self.question.what, self.recipe.training
        none = [0.0] * len(self.labels)
        if what == "macs":
            return self.shares[self.question.weights], 0, 0
        if what == "training-flops":
            flops = 2 * FORWARD_AND_BACKWARD * training.iterations * training.batch_size
            return [flops * share for share in self.shares["training"]], 0, 0
        if what == "params":
            return none, 1, self.frozen
        return none, TRAINED_BYTES + MOMENT_BYTES * training.rule.moments, FROZEN_BYTES * self.frozen

    def _options(self, grids: list[list[int]]) -> list[Options]:
        """What can be chosen: the widths of each decoder, or all of them at once where their proportion is fixed."""
        if self.question.ratio:
            return [along(self.question.ratio, grids)]
        return [[(width,) for width in widths] for widths in grids]

    def axes(self, prices: Prices, encoder: int) -> list[Array]:
        """For each choice behind an encoder: value, parameters, x and x^2 of every option.

        The first has the encoder's share.
        """
        factors, per_param, constant = self.coefficients()
        shared = self.encoders * prices[0][encoder, self.grids[encoder][0][0]].encoder_params
        x = math.log(encoder / self.own_encoder) if encoder else 0.0

        def cells(k: int, width: int) -> Array:
            price = prices[k][encoder, width]
            x = math.log(width / self.wanted[k]) if width else 0.0
            value = factors[k] * price.macs + per_param * price.decoder_params
            return np.array([value, price.decoder_params, x, x * x])

        def of(axis: int, options: Options) -> Array:
            return np.array([sum(cells(axis + k, width) for k, width in enumerate(widths)) for widths in options])

        first, *others = (of(axis, options) for axis, options in enumerate(self.options[encoder]))
        return [first + np.array([constant + per_param * shared, self.frozen + shared, x, x * x]), *others]

    def search(self, prices: Prices) -> tuple[list[Row], Row | None, Row | None]:
        """The best combinations, and of all the nearest that is not above the target, and the nearest above it."""
        best, below, above = list[Row](), list[Row](), list[Row]()
        for encoder in self.grids:
            outer, *others = self.axes(prices, encoder)
            inner = others.pop() if others else np.zeros((1, 4))
            for cells in others:
                outer = (outer[:, None] + cells).reshape(-1, 4)
            rows = max(CHUNK // len(inner), 1)
            for start in range(0, len(outer), rows):
                sums = (outer[start : start + rows, None] + inner).reshape(-1, 4)
                self._take(sums, start * len(inner), encoder, best, below, above)
        return best, below[0] if below else None, above[0] if above else None

    def _take(
        self,
        sums: Array,
        start: int,
        encoder: int,
        best: list[Row],
        below: list[Row],
        above: list[Row],
    ) -> None:
        """Takes a chunk of combinations, numbered from `start`, into the three lists, which stay sorted and short."""
        question, options = self.question, self.options[encoder]
        parts = (question.vary != "decoders") + len(self.labels) * (question.vary != "encoder")
        value, params, x, squares = sums.T
        distance = np.round(value / question.target - 1, DECIMALS)
        deviation = np.round(np.expm1(np.sqrt(np.maximum(squares / parts - (x / parts) ** 2, 0))), DECIMALS)
        excess = np.maximum(np.abs(distance) - question.tolerance, 0)
        fits = np.ones(len(sums), dtype=bool) if question.max_params is None else params <= question.max_params
        sizes = [len(each) for each in options]

        def row(index: int) -> Row:
            places = np.unravel_index(start + index, sizes)
            decoders = tuple(itertools.chain(*(each[int(place)] for each, place in zip(options, places, strict=True))))
            figures = (float(column[index]) for column in (excess, deviation, distance, params))
            return Row(encoder, decoders, *figures)

        def keep(
            kept: list[Row], among: Array, count: int, columns: Sequence[Array], order: Callable[[Row], Any]
        ) -> None:
            found = among.nonzero()[0]
            if len(found) > count:
                first = columns[0][found]
                found = found[first <= np.partition(first, count - 1)[count - 1]]
            ranked = found[np.lexsort([column[found] for column in reversed(columns)])][: 2 * count]
            kept[:] = sorted([*kept, *(row(int(index)) for index in ranked)], key=order)[:count]

        near = np.abs(distance)
        wanted = fits & (distance <= 0) if question.at_most else fits
        keep(best, wanted, question.count, (excess, deviation, near, params), Row.preferred)
        keep(below, fits & (distance <= 0), 1, (near, deviation, params), Row.nearest)
        keep(above, fits & (distance > 0), 1, (near, deviation, params), Row.nearest)

    # --- answers ------------------------------------------------------------------------------------------------------

    def counts(self, pricing: Pricing, row: Row) -> list[tuple[Widths, Price]]:
        """The counted price of each stage of a combination."""
        pairs = [(row.encoder, width) for width in row.decoders]
        return [(pair, pricing.count(decoder, pair)) for decoder, pair in zip(self.recipe.decoders, pairs, strict=True)]

    def candidate(self, pricing: Pricing, row: Row) -> Candidate:
        """A combination with all its figures."""
        prices = [price for _, price in self.counts(pricing, row)]
        macs = tuple(price.macs for price in prices)
        trained = self.encoders * prices[0].encoder_params + sum(price.decoder_params for price in prices)
        factors, per_param, constant = self.coefficients()
        value = _dot(factors, macs) + per_param * trained + constant
        return Candidate(
            encoder=row.encoder or None,
            decoders=row.decoders if all(row.decoders) else None,
            value=value,
            distance=value / self.question.target - 1,
            deviation=row.deviation,
            params=trained + self.frozen,
            macs=macs,
            active=tuple(price.encoder_params + price.decoder_params for price in prices),
            equivalent={name: _dot(shares, macs) for name, shares in self.shares.items()},
            recipe=attrs.evolve(
                self.recipe,
                encoder=self.encoder(row.encoder),
                decoders=tuple(
                    with_width(decoder, width, label) if width else decoder
                    for decoder, width, label in zip(self.recipe.decoders, row.decoders, self.labels, strict=True)
                ),
            ),
        )


def _trace(recipe: Recipe) -> list[Call]:
    return explain(recipe.partition(), recipe.schedule, recipe.solver, recipe.steps, recipe.guidance)


def _frozen_params(recipe: Recipe) -> int:
    """Parameters of the autoencoder."""
    if recipe.autoencoder is None:
        return 0
    spec = attrs.evolve(recipe.autoencoder, weights=None)
    return sum(parameter.numel() for parameter in build_autoencoder(spec, recipe.data.shape, "meta").parameters())


def _dot(shares: Sequence[float], counts: Sequence[float]) -> float:
    return math.fsum(share * count for share, count in zip(shares, counts, strict=True))


def _proportion(shares: Sequence[float]) -> str:
    return ":".join(f"{share:.4g}" for share in shares)
