"""Costs of stages at any width, counted at a few: MACs and parameters are polynomials of the widths, exactly."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import attrs
import torch
from torch import Tensor, nn

from msdk.budgeting.counting import count, count_on_meta
from msdk.budgeting.training_price import ImageFlops, counted, image_flops, is_counted
from msdk.budgeting.widths import features, with_width
from msdk.decoders.base import Decoder
from msdk.encoders.base import Encoder, Features
from msdk.recipe import Convention, Recipe, Stages

Widths = tuple[int, int]
"""Width of an encoder and of a decoder; 0 where the recipe's own stays."""

Figures = tuple[int, int, int, int]
"""MACs in the convention, exact ones, and backward and recomputed FLOPs of one training image."""

MacCounter = Callable[[nn.Module, Sequence[Tensor]], tuple[int, int]]
"""MACs in the convention, and exact ones, which FLOPs of training rest on."""


@attrs.frozen
class Size:
    """Parameters of a network, and those of them that training changes."""

    params: int
    trained: int

    @classmethod
    def of(cls, module: nn.Module) -> "Size":
        found = list(module.parameters())  # a shared tensor is listed once
        return cls(sum(each.numel() for each in found), sum(each.numel() for each in found if each.requires_grad))


@attrs.frozen
class Price:
    """What one stage costs.

    Attributes:
        macs: MACs of encoder, adapter and decoder for one image.
        encoder: Size of the encoder and the adapter.
        decoder: Size of the decoder.
        flops: Of one training image, by exact MACs; they mean nothing where they were not asked for.
    """

    macs: int
    encoder: Size
    decoder: Size
    flops: ImageFlops

    @property
    def encoder_params(self) -> int:
        return self.encoder.params

    @property
    def decoder_params(self) -> int:
        return self.decoder.params


class Pricing:
    """Costs of the stages of a recipe at other widths.

    Each layer maps a width, or the sum of two, to another, so for a fixed structure MACs are polynomials of degree 2 in
    the widths: fitted to a few counts in fractions, hence exactly, and compared with one more. The structure, the names
    of all parameters, may change with the width, as where a block needs no shortcut because it goes from 512 channels
    to 512. So every network is built, on the meta device, which is fast and gives its parameters; one polynomial is
    fitted for each structure, and where it fails, or is not worth it, networks are counted one by one. What a network
    does at a single width alone, with the same parameters as beside it, only a count of that very width can show:
    `solve` counts all that it answers with.

    Args:
        recipe: Its shape, adapter and classes are used.
        convention: How MACs are counted.
        training: Whether FLOPs of training are asked for, which may need a simulated backward pass.
        interpolate: Whether to fit at all.
    """

    def __init__(
        self, recipe: Recipe, convention: Convention, *, training: bool = False, interpolate: bool = True
    ) -> None:
        self.recipe, self.training, self.interpolate = recipe, training, interpolate
        self._macs = self._counter(convention)
        self._counted: dict[tuple[Encoder, Decoder], Price] = {}
        self._built: dict[object, _Build] = {}

    @property
    def counted(self) -> int:
        """How many networks were counted so far."""
        return len(self._counted)

    def count(self, decoder: Decoder, widths: Widths) -> Price:
        """The price by counting, with the decoder in the place of any of the recipe's."""
        encoder, decoder = self._specs(decoder, widths)
        if (encoder, decoder) not in self._counted:
            network = _stage(self.recipe, encoder, decoder)
            front, back = Size.of(network.front), Size.of(network.decoder)
            macs = self._macs(network, self._inputs())
            backward = self._backward(encoder, decoder, frozen=_frozen(front, back))
            self._counted[encoder, decoder] = self._price((*macs, *backward), front, back)
        return self._counted[encoder, decoder]

    def _price(self, figures: Figures, front: Size, back: Size) -> Price:
        macs, exact, *simulated = figures
        frozen = self.training and _frozen(front, back)
        flops = image_flops(exact, self.recipe.training, frozen=frozen, counted=(simulated[0], simulated[1]))
        return Price(macs, front, back, flops)

    def _backward(self, encoder: Encoder, decoder: Decoder, *, frozen: bool) -> tuple[int, int]:
        """Backward and recomputed FLOPs of a stage, where they are asked for and do not follow from its MACs."""
        recipe = self.recipe
        if not self.training or not is_counted(recipe.training, frozen=frozen):
            return 0, 0
        ((backward, recompute),) = counted(
            attrs.evolve(recipe, encoder=encoder, decoders=(decoder,), stages=Stages(), sharing="unified")
        )
        return backward, recompute

    def table(self, decoder: Decoder, domain: Sequence[Widths]) -> Mapping[Widths, Price]:
        """The price of every pair of widths of a domain."""
        alike: dict[object, list[Widths]] = {}
        builds = {pair: self._builds(decoder, pair) for pair in domain}
        for pair, parts in builds.items():
            alike.setdefault(tuple(part.names for part in parts), []).append(pair)
        figures: dict[Widths, Figures] = {}
        for pairs in alike.values():
            figures |= self._fitted(decoder, pairs) or {pair: self._figures(decoder, pair) for pair in pairs}
        return {pair: self._price(figures[pair], *(part.size for part in parts)) for pair, parts in builds.items()}

    def _figures(self, decoder: Decoder, widths: Widths) -> Figures:
        price = self.count(decoder, widths)
        exact = price.flops.forward // (2 * self.recipe.training.loss.calls)
        return price.macs, exact, price.flops.backward, price.flops.recompute

    def _fitted(self, decoder: Decoder, pairs: Sequence[Widths]) -> Mapping[Widths, Figures] | None:
        """Figures by the polynomials through a few of the pairs; None where one misses another pair."""
        chosen = _knots(pairs) if self.interpolate else None
        if chosen is None:
            return None
        knots, check, terms = chosen
        counts = [self._figures(decoder, pair) for pair in knots]
        inverse = inverted([terms(pair) for pair in knots])
        columns: list[dict[Widths, Fraction]] = []
        for column in zip(*counts, strict=True):
            factors = [_dot(row, column) for row in inverse]
            columns.append({pair: _dot(factors, terms(pair)) for pair in pairs})
        exact = all(value.denominator == 1 for values in columns for value in values.values())
        if not exact or tuple(values[check] for values in columns) != self._figures(decoder, check):
            return None
        macs, exact, backward, recompute = columns
        return {pair: (int(macs[pair]), int(exact[pair]), int(backward[pair]), int(recompute[pair])) for pair in pairs}

    def _specs(self, decoder: Decoder, widths: Widths) -> tuple[Encoder, Decoder]:
        encoder = self.recipe.encoder_of(0)
        return (
            with_width(encoder, widths[0], "encoder") if widths[0] else encoder,
            with_width(decoder, widths[1], "decoders") if widths[1] else decoder,
        )

    def _builds(self, decoder: Decoder, widths: Widths) -> "tuple[_Build, _Build]":
        """What the encoder (with its adapter) and the decoder of a pair of widths are made of."""
        encoder, decoder = self._specs(decoder, widths)
        if encoder not in self._built:
            self._built[encoder] = _Build.of(_encoder(self.recipe, encoder))
        if (encoder, decoder) not in self._built:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                built = decoder.build(features(self.recipe, encoder), self.recipe.shape)
            self._built[encoder, decoder] = _Build.of(built)
        return self._built[encoder], self._built[encoder, decoder]

    def _inputs(self) -> list[Tensor]:
        shape, classes = self.recipe.fed, self.recipe.classes
        image = [torch.empty(1, *shape, device="meta"), torch.empty(1, device="meta")]
        return [*image, torch.empty(1, dtype=torch.int64, device="meta")] if classes else image

    def _counter(self, convention: Convention) -> MacCounter:
        """A counter of MACs, on the meta device where what it says there is the same as the convention's own."""
        if convention == "paper" and not self.training:
            agree = True  # exact MACs are not asked for
        else:
            costs = count(_stage(self.recipe, self.recipe.encoder_of(0), self.recipe.decoders[-1]), self._inputs())
            agree = costs.macs("exact") == costs.second

        def by_trace(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[int, int]:
            costs = count(module, inputs)
            return costs.macs(convention), costs.macs("exact")

        def on_meta(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[int, int]:
            exact, paper = count_on_meta(module, inputs)
            return paper.total() if convention == "paper" else exact, exact

        return on_meta if agree and convention != "fvcore" else by_trace


@attrs.frozen
class _Build:
    """The names of a network's parameters, and their number."""

    names: tuple[str, ...]
    size: Size

    @classmethod
    def of(cls, module: nn.Module) -> "_Build":
        return cls(tuple(name for name, _ in module.named_parameters()), Size.of(module))


def _frozen(*sizes: Size) -> bool:
    return any(size.trained < size.params for size in sizes)


def _encoder(recipe: Recipe, encoder: Encoder) -> nn.ModuleList:
    """An encoder and the adapter behind it, if there is one, on the meta device."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        adapters = [] if recipe.adapter is None else [recipe.adapter.build(encoder.info(recipe.shape))]
        return nn.ModuleList([encoder.build(recipe.fed), *adapters])


class _Stage(nn.Module):
    """A stage that returns its features, too: a tracer leaves out what nothing is made of, but running it costs."""

    def __init__(self, front: nn.ModuleList, decoder: nn.Module) -> None:
        super().__init__()
        self.front, self.decoder = front, decoder

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        encoder, *adapters = self.front
        found: Features = encoder(*inputs)
        for adapter in adapters:
            found = adapter(found)
        return (self.decoder(found), *found.skips, found.bottom, found.embedding)


def _stage(recipe: Recipe, encoder: Encoder, decoder: Decoder) -> _Stage:
    """One stage on the meta device."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return _Stage(_encoder(recipe, encoder), decoder.build(features(recipe, encoder), recipe.shape))


Terms = Callable[[Widths], list[int]]


def _knots(pairs: Sequence[Widths]) -> tuple[list[Widths], Widths, Terms] | None:
    """Pairs that determine a polynomial of degree 2, another one to check it, and its terms; None for too few pairs."""
    lines: dict[int, list[Widths]] = {}
    for pair in pairs:
        lines.setdefault(pair[0], []).append(pair)
    if len(lines) == 1 or not any(width for _, width in pairs):
        varies, last = (1 if len(lines) == 1 else 0), len(pairs) - 1
        if last < 4:
            return None
        knots = [pairs[0], pairs[last // 2], pairs[last]]
        return knots, pairs[last // 4], lambda pair: [1, pair[varies], pair[varies] ** 2]
    long = [line for line in lines.values() if len(line) >= 3]
    if len(long) < 4:
        return None
    # Three points of one line, two of another and one of a third determine the six coefficients.
    one, two, three, check = long[0], long[-1], long[len(long) // 2], long[len(long) // 4]
    knots = [one[0], one[len(one) // 2], one[-1], two[0], two[-1], three[len(three) // 2]]
    return knots, check[-1], lambda pair: [1, *pair, pair[0] ** 2, pair[0] * pair[1], pair[1] ** 2]


def _dot(factors: Sequence[Fraction], values: Sequence[int]) -> Fraction:
    return sum((factor * value for factor, value in zip(factors, values, strict=True)), Fraction())


def inverted(matrix: Sequence[Sequence[int]]) -> list[list[Fraction]]:
    """The inverse of a small regular matrix, exactly, by Gauss and Jordan."""
    size = len(matrix)
    rows = [
        [*map(Fraction, row), *(Fraction(column == index) for column in range(size))]
        for index, row in enumerate(matrix)
    ]
    for column in range(size):
        pivot = next(index for index in range(column, size) if rows[index][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for index in range(size):
            if index != column and rows[index][column]:
                factor = rows[index][column]
                rows[index] = [a - factor * b for a, b in zip(rows[index], rows[column], strict=True)]
    return [row[size:] for row in rows]
