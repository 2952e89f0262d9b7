"""Promises of written figures: four significant digits, and the unit that suits them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdk.report.figures import in_bytes, significant, with_unit

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
    assert with_unit(value, "MACs") == text


@given(st.floats(1, 1e20))
def test_four_digits_are_kept(value):
    """What is written lies within half a unit of the fourth digit of the value."""
    number, _, unit = with_unit(value, "MACs").partition(" ")
    read = float(number.replace(",", "")) * POWERS.get(unit.removesuffix("MACs"), 1.0)
    assert read == pytest.approx(value, rel=5.001e-4)


def test_bytes_are_binary():
    """Memory in units of 1024, which is what devices are sold in."""
    assert [in_bytes(size) for size in (512, 1536, 80 * 2**30)] == ["512 B", "1.500 KiB", "80.00 GiB"]
    assert significant(0.01234) == "0.012"
