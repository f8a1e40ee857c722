"""Sums are exact: any order, any grouping, adding and taking back; quotients are rounded once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.data.exact import LARGEST, quotient, ratio, split

doubles = st.floats(allow_nan=False, allow_infinity=False)
within = st.floats(-LARGEST, LARGEST)


def grain(value: float) -> Fraction:
    """Round to the multiples of 2**-64 that are added."""
    return Fraction(round(Fraction(value) * 2**64), 2**64)


def worth(parts: np.ndarray) -> Fraction:
    return sum(
        (Fraction(int(part) << (32 * i), 2**64) for i, part in enumerate(parts)), Fraction(0)
    )


@given(within)
def test_a_number_is_split_without_loss_down_to_the_grain(value: float) -> None:
    assert worth(split(np.array([value]))[:, 0]) == grain(value)


@given(doubles.filter(lambda value: abs(value) >= 2**-12 and abs(value) <= LARGEST))
def test_every_double_of_usual_size_is_on_the_grain(value: float) -> None:
    assert grain(value) == Fraction(value)


@given(doubles.filter(lambda value: abs(value) > LARGEST))
def test_a_larger_number_is_clipped(value: float) -> None:
    assert worth(split(np.array([value]))[:, 0]) == Fraction(np.copysign(LARGEST, value))


def test_infinities_are_clipped_too() -> None:
    low, high = (worth(column) for column in split(np.array([-np.inf, np.inf])).T)
    assert -low == high == Fraction(LARGEST)


@given(st.lists(within, min_size=1, max_size=40), st.integers(1, 1000), st.randoms())
def test_a_quotient_of_a_sum_is_the_nearest_double_in_any_order(
    values: list[float], divisor: int, chance: object
) -> None:
    exact = sum(map(grain, values), Fraction(0)) / divisor
    parts = split(np.array(values))
    shuffled = list(range(len(values)))
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    total = parts[:, shuffled].cumsum(axis=1)[:, -1:]
    assert ratio(total, np.array([divisor])).tolist() == [float(exact)]
    assert quotient(total[:, 0].tolist(), divisor) == float(exact)


@given(st.lists(within, min_size=1, max_size=20), st.lists(within, min_size=1, max_size=20))
def test_taking_back_undoes_adding(kept: list[float], gone: list[float]) -> None:
    whole = split(np.array(kept + gone)).sum(axis=1) - split(np.array(gone)).sum(axis=1)
    assert (whole == split(np.array(kept)).sum(axis=1)).all()


@pytest.mark.parametrize("total", [0, 1, 2**53 - 1, 2**53, 2**53 + 1, 2**60 + 1, -(2**53) - 1])
def test_large_whole_sums_are_rounded_like_all_others(total: int) -> None:
    size, sign = abs(total), 1 if total >= 0 else -1
    parts = sign * np.array([[0], [0], [size % 2**32], [size >> 32]])
    assert ratio(parts, np.array([3])).tolist() == [float(Fraction(total, 3))]
