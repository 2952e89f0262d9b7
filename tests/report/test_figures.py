"""Promises of written figures: four significant digits, and the unit that suits them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdk.recipe.quantities import quantity, significant, written

POWERS = {"E": 1e18, "P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18_646_531_993.6, "18.65 GMACs"),
        (999_960_000, "1.000 GMACs"),
        (3_449_770_770_432_000_000, "3.450 EMACs"),
        (6_310_167_040, "6.310 GMACs"),
        (12, "12 MACs"),
        (0, "0 MACs"),
    ],
)
def test_prefixes(value, text):
    """The largest prefix that leaves at least one; trailing zeros stay, so that columns line up."""
    assert written(value, "MACs") == text


@given(st.floats(1, 1e20))
def test_four_digits_are_kept(value):
    """What is written lies within half a unit of the fourth digit of the value."""
    number, _, unit = written(value, "MACs").partition(" ")
    read = float(number.replace(",", "")) * POWERS.get(unit.removesuffix("MACs"), 1.0)
    assert read == pytest.approx(value, rel=5.001e-4)


@given(st.floats(1e-3, 1e20), st.sampled_from(["params", "MACs", "FLOPs", "B"]), st.booleans())
def test_what_is_written_is_read_back(value, unit, padded):
    """An amount in words, in any unit, is the number again, to half a unit of its last digit."""
    read = quantity(written(value, unit, padded=padded), unit)
    assert read == pytest.approx(value, rel=5.001e-4, abs=5.001e-4)


@given(st.integers(0, 999_999))
def test_few_parameters_are_written_in_full(count):
    """Below a million no digit is lost."""
    assert quantity(written(count, "params"), "params") == count


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (24 * 2**30, "B", "24 GiB"),
        (15e9, "MACs", "15 GMACs"),
        (3.12e12, "FLOPs", "3.12 TFLOPs"),
        (237.2e6, "params", "237.2 M parameters"),
        (50_000, "params", "50,000 parameters"),
    ],
)
def test_one_spelling_for_each_unit(value, unit, text):
    """As in tables, messages, recipes and pages; what is written is what was asked for."""
    assert written(value, unit, padded=False) == text
    assert quantity(text, unit) == value


def test_bytes_are_binary():
    """Memory in units of 1024, which is what devices are sold in."""
    assert [written(size, "B") for size in (512, 1536, 80 * 2**30)] == ["512 B", "1.500 KiB", "80.00 GiB"]
    assert significant(0.01234) == "0.01234"
