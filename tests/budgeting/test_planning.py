"""Promises of plans for a card: every card can be named, hours follow from counts, and what is no plan is told."""

import math

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.budgeting.cards import CARDS, SHORT, card_named
from msdk.budgeting.planning import UTILISATION, estimate
from msdk.errors import MsdkError, UnknownNameError
from recipes import latent, tiny


@pytest.mark.parametrize("name", CARDS)
def test_every_card_is_stated_whole(name):
    """It has memory, dense rates that grow as numbers get shorter, and the document that states them."""
    card = CARDS[name]
    rates = [card.peak[rate] for rate in ("fp32", "tf32", "fp16") if rate in card.peak]
    assert rates == sorted(rates)
    assert card.peak.get("bf16", card.peak["fp16"]) == card.peak["fp16"]
    assert 2**34 <= card.memory <= 2**38
    assert card.source
    assert {card_named(spelled) for spelled in (name, name.upper(), card.title, name.replace("-", " "))} == {card}


def test_short_names_and_unknown_ones():
    """What people call a card finds it; what is no card is told with all that are."""
    assert all(card_named(short).name == name for short, name in SHORT.items())
    assert card_named("H100").peak["bf16"] == 989.4e12
    with pytest.raises(
        UnknownNameError, match=r"no card named 'h1000'\. Did you mean 'h100'\? Known: 4090, a100, a100-40, .*"
    ):
        card_named("h1000")


@pytest.fixture(scope="module")
def budget():
    return msdk.budget(tiny())


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.sampled_from(sorted(CARDS)), st.floats(0.01, 1), st.floats(0, 100))
def test_hours_follow_from_counts(budget, name, share, price):
    """Hours x peak x utilisation are the FLOPs of training, those of the stages add up, and money is by the hour."""
    found = estimate(budget, CARDS[name], "fp32", utilisation=share, price=price)
    assert found.hours * 3600 * share * found.peak_flops_per_second == pytest.approx(budget.training.total_flops)
    assert math.fsum(found.hours_by_stage) == pytest.approx(found.hours)
    assert found.cost == price * found.hours
    assert found.rate == ("tf32" if "tf32" in CARDS[name].peak else "fp32")


def test_latents_are_encoded_too(tmp_path):
    """The autoencoder's passes are in the hours, and in no stage."""
    found = msdk.budget(latent(tmp_path))
    plan = estimate(found, card_named("l4"), "bf16")
    encoded = found.training.autoencoder_flops / (3600 * UTILISATION * 121e12)
    assert plan.hours - math.fsum(plan.hours_by_stage) == pytest.approx(encoded)
    assert encoded > 0


@pytest.mark.parametrize(
    ("name", "dtype", "options", "words"),
    [
        ("v100", "bf16", {}, "NVIDIA V100 SXM2 does not compute in bf16: it has fp32, fp16"),
        ("h100", "fp32", {"utilisation": 35.0}, "a utilisation of 35 is none: give the share of the peak"),
        ("h100", "fp32", {"utilisation": 0.0}, "above 0 and at most 1"),
        ("h100", "fp32", {"price": -1.0}, "a price of -1 is none"),
        ("h100", "fp32", {"price": math.nan}, "a price of nan is none"),
    ],
)
def test_what_is_no_plan_is_refused(budget, name, dtype, options, words):
    """With the number, and what is allowed."""
    with pytest.raises(MsdkError, match=words):
        estimate(budget, card_named(name), dtype, **options)


def test_limits_of_hours_and_money(budget):
    """Measured hours come before planned ones; money needs a price."""
    limited = attrs.evolve(budget, allowed={"hours": 1e-9, "cost": 1e9})
    assert [limit.found for limit in limited.limits] == [None, None]
    plan = estimate(budget, card_named("t4"), "fp32", price=2.0)
    assert [limit.exceeded for limit in attrs.evolve(limited, estimate=plan).limits] == [True, False]

    class Measured:
        hours = 0.0

    measured = attrs.evolve(limited, estimate=plan, timing=Measured())
    assert [limit.found for limit in measured.limits] == [0.0, plan.cost]
