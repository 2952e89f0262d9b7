"""Widths that meet a budget: the best of all that the limits allow, found by comparing every combination."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from msdk.budgeting.parts import count_objective
from msdk.budgeting.pricing import Price, Pricing, Size, Widths
from msdk.budgeting.questions import Question, amount
from msdk.budgeting.shares import stage_shares
from msdk.budgeting.solutions import Candidate, FoundWidths, Nearest, Solution, StageFigures
from msdk.budgeting.training_price import Flops, ImageFlops, held
from msdk.budgeting.trials import without_weights
from msdk.budgeting.widths import along, features, grid, width_of, with_width
from msdk.denoiser.building import build, build_autoencoder
from msdk.encoders.base import Encoder
from msdk.errors import MsdkError, TargetError
from msdk.recipe import Recipe

LARGEST = 100_000_000
"""Combinations that are compared at most: tens of seconds."""

CHUNK = 1_000_000
"""Combinations that are held at once."""

REACH, ENCODER_REACH = 3, 2
"""How many times as wide as the recipe's widest a decoder, and as its own an encoder, may be, if nothing is said."""

DECIMALS = 9
"""Relative figures that agree so far are equal: sums of floats differ beyond, by their order."""

FLOAT = 4
"""Bytes of a number in training: all are float32."""

Array = np.ndarray[Any, np.dtype[np.float64]]
Options = list[tuple[int, ...]]
Prices = list[Mapping[Widths, Price]]
"""For each decoder the price of its stage at every pair of widths."""


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
    if recipe.stages.train is not None or not recipe.stages.train_encoder:
        raise TargetError(
            "widths are solved for with all parts trained: leave out stages.train and stages.train_encoder"
        )
    if recipe.encoders is not None:
        raise TargetError(
            "widths are solved for behind one [encoder], and this recipe has [[encoders]], one for each stage: give "
            "[encoder], or set widths by hand"
        )
    space = Space(recipe, question)
    for interpolate in (True, False):
        pricing = Pricing(
            recipe, question.convention, training=question.what == "training-flops", interpolate=interpolate
        )
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
        nearest=Nearest(*(None if row is None else space.candidate(pricing, row) for row in (below, above))),
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

    Every target is a sum over stages of figures that follow from a stage alone, its MACs, FLOPs and parameters, so what
    a decoder adds to it does not depend on the other decoders. The deviation, too, needs of x_k = log(width_k /
    preferred width_k) the sums of x_k and x_k^2 alone.

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
        self.own_encoder = width_of(recipe.encoder_of(0), "encoder") if question.vary != "decoders" else 0
        self.wanted = self._wanted()
        self.grids = self._grids()
        self.options = {encoder: self._options(grids) for encoder, grids in self.grids.items()}
        self.combinations = sum(math.prod(map(len, options)) for options in self.options.values())
        if self.combinations > LARGEST:
            raise TargetError(
                f"{self.combinations:,} combinations of widths are more than the {LARGEST:,} that are compared: use a "
                "larger --round, a narrower --min and --max, or fix the proportion by --ratio"
            )
        self.shares = stage_shares(recipe, recipe.calls())
        images = recipe.training.iterations * recipe.training.batch_size
        self.images = [images * share for share in self.shares["training"]]
        self.frozen = _frozen_params(recipe)
        self.beside = _of_objective(recipe) if question.what == "memory" else 0
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
            encoders = grid(recipe.encoder_of(0), check, "encoder", largest=largest, **limits)
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
        return with_width(self.recipe.encoder_of(0), width, "encoder") if width else self.recipe.encoder_of(0)

    def prices(self, pricing: Pricing) -> Prices:
        """The costs of everything that can be chosen."""
        return [
            pricing.table(decoder, [(encoder, width) for encoder, grids in self.grids.items() for width in grids[k]])
            for k, decoder in enumerate(self.recipe.decoders)
        ]

    def networks(self, prices: Sequence[Price]) -> Size:
        """All networks: the encoder once, or once for each stage, and the decoders."""
        front = prices[0].encoder
        return Size(
            self.encoders * front.params + sum(price.decoder.params for price in prices),
            self.encoders * front.trained + sum(price.decoder.trained for price in prices),
        )

    def value(self, prices: Sequence[Price]) -> float:
        """What is solved for, of one price for each stage, as a budget of that recipe has it."""
        what, options, size = self.question.what, self.recipe.training, self.networks(prices)
        if what == "macs":
            return _dot(self.shares[self.question.weights], [price.macs for price in prices])
        if what == "training-flops":
            return Flops.of(self.images, [price.flops for price in prices]).total
        if what == "params":
            return size.params + self.frozen
        return FLOAT * held(options, size.params, size.trained, autoencoder=self.frozen).total + self.beside

    def cell(self, k: int, flops: ImageFlops | None, macs: int, size: Size) -> float:
        """What one decoder (with the encoder's share in MACs and FLOPs), or the encoders alone, add to that."""
        what = self.question.what
        if what == "macs":
            return self.shares[self.question.weights][k] * macs
        if what == "training-flops":
            return 0.0 if flops is None else self.images[k] * (flops.forward + flops.backward + flops.recompute)
        if what == "params":
            return size.params
        return FLOAT * held(self.recipe.training, size.params, size.trained).total

    def _options(self, grids: list[list[int]]) -> list[Options]:
        """What can be chosen: the widths of each decoder, or all of them at once where their proportion is fixed."""
        if self.question.ratio:
            return [along(self.question.ratio, grids)]
        return [[(width,) for width in widths] for widths in grids]

    def axes(self, prices: Prices, encoder: int) -> list[Array]:
        """For each choice behind an encoder: value, parameters, x and x^2 of every option.

        The first has the encoder's share.
        """
        front = prices[0][encoder, self.grids[encoder][0][0]].encoder
        shared = Size(self.encoders * front.params, self.encoders * front.trained)
        x = math.log(encoder / self.own_encoder) if encoder else 0.0

        def cells(k: int, width: int) -> Array:
            price = prices[k][encoder, width]
            x = math.log(width / self.wanted[k]) if width else 0.0
            value = self.cell(k, price.flops, price.macs, price.decoder)
            return np.array([value, price.decoder.params, x, x * x])

        def of(axis: int, options: Options) -> Array:
            return np.array([sum(cells(axis + k, width) for k, width in enumerate(widths)) for widths in options])

        first, *others = (of(axis, options) for axis, options in enumerate(self.options[encoder]))
        frozen = {"params": 1, "memory": FLOAT}.get(self.question.what, 0) * self.frozen
        constant = self.cell(0, None, 0, shared) + frozen + self.beside
        return [first + np.array([constant, self.frozen + shared.params, x, x * x]), *others]

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
        networks = self.networks(prices).params
        value = self.value(prices)
        return Candidate(
            widths=FoundWidths(row.encoder or None, row.decoders if all(row.decoders) else None),
            value=value,
            distance=value / self.question.target - 1,
            deviation=row.deviation,
            params=networks + self.frozen,
            stages=tuple(StageFigures(price.macs, price.encoder_params + price.decoder_params) for price in prices),
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


def _of_objective(recipe: Recipe) -> int:
    """Bytes that training holds of the objective's own weights."""
    own = count_objective(recipe.training.loss, build(without_weights(recipe), "meta"))
    return FLOAT * held(recipe.training, own.params, own.trained).total


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
