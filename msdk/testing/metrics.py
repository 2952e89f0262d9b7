"""Laws of metrics. They are shown features of 80 generated and 60 real images, and a small denoiser."""

import math

import attrs
import torch

from msdk.batch import Batch
from msdk.errors import PartError
from msdk.extractors.base import Extracted
from msdk.metrics.base import Evidence, Found, Metric
from msdk.recipe import Recipe
from msdk.registry import registries
from msdk.testing import networks
from msdk.testing.laws import COMMON, LawError, require

WIDTH, CLASSES = 6, 5


def evidence() -> Evidence:
    """Features of two overlapping clouds, and a denoiser of three stages on random images."""
    chance = torch.Generator().manual_seed(0)

    def cloud(count: int, shift: float) -> Extracted:
        features, logits = (torch.randn(count, n, generator=chance, dtype=torch.float64) for n in (WIDTH, CLASSES))
        return Extracted(features + shift, logits)

    digits = registries()["datasets"].get("digits")()
    encoder, decoder = networks.small("encoders", "ddpmpp"), networks.small("decoders", "ddpmpp")
    recipe = Recipe(data=digits, encoder=encoder, decoders=(decoder,) * 3)  # pyright: ignore[reportArgumentType]
    recipe = recipe.with_partition(networks.PARTITION)
    from msdk.denoiser.building import build

    denoiser = build(recipe).eval()
    real = Batch(torch.rand(12, *recipe.shape, generator=chance) * 2 - 1)
    return Evidence(
        generated=cloud(80, 0.3),
        reference=cloud(60, 0.0),
        denoiser=denoiser,
        recipe=recipe,
        real=real,
        hashes=range(12),
    )


def _numbers(found: Found) -> list[tuple[str, float]]:
    return [(number.name, number.value) for number in found.numbers]


def numbers_are_finite_and_named(metric: Metric) -> None:
    """At least one number, each of another name, none of them infinite or not a number."""
    try:
        metric.check(80, 60)
    except PartError as error:
        raise LawError(f"the laws show it 80 generated and 60 real images: {error}") from error
    found = metric.score(evidence())
    names = [number.name for number in found.numbers]
    require(names, "it found no number")
    require(len(set(names)) == len(names), f"two numbers have one name: {names}")
    for number in found.numbers:
        require(math.isfinite(number.value), f"'{number.name}' is {number.value}")
    require(metric.called(None).strip(), "its number has no name: set `title`")


def it_repeats_itself(metric: Metric) -> None:
    """The same evidence gives the same numbers, bit for bit: what is drawn has a seed."""
    shown = evidence()
    one, other = _numbers(metric.score(shown)), _numbers(metric.score(shown))
    require(one == other, f"on the same evidence it found {one}, then {other}")


def the_order_of_images_does_not_matter(metric: Metric) -> None:
    """Beyond 1e-9, unless `ordered` says that it draws subsets by their place."""
    if metric.ordered or metric.reads == "denoiser":
        return
    shown = evidence()

    def turned(found: Extracted | None) -> Extracted | None:
        if found is None or found.logits is None:
            return found
        return Extracted(found.features.flip(0), found.logits.flip(0))

    other = attrs.evolve(shown, generated=turned(shown.generated), reference=turned(shown.reference))
    for (name, one), (_, two) in zip(_numbers(metric.score(shown)), _numbers(metric.score(other)), strict=True):
        require(
            math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-9),
            f"'{name}' is {one}, and of the same images in another order {two}: set `ordered` if that is meant",
        )


LAWS = (*COMMON, numbers_are_finite_and_named, it_repeats_itself, the_order_of_images_does_not_matter)
