import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.monitoring.drift import share, stability_index

COUNTS = st.lists(st.integers(0, 10_000), min_size=2, max_size=20)


def test_the_index_is_the_textbook_sum_over_smoothed_shares() -> None:
    p = np.array([10.5, 90.5]) / 101
    q = np.array([60.5, 40.5]) / 101
    expected = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))

    assert stability_index(np.array([10, 90]), np.array([60, 40])) == pytest.approx(expected)


@given(counts=COUNTS, factor=st.integers(1, 50))
def test_equal_histograms_have_no_drift(counts: list[int], factor: int) -> None:
    reference = np.array(counts)

    assert stability_index(reference, reference) == 0.0


@given(
    pair=st.integers(2, 20).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(0, 9999), min_size=n, max_size=n)] * 2)
    )
)
def test_the_index_is_finite_symmetric_and_never_negative(
    pair: tuple[list[int], list[int]],
) -> None:
    reference, live = np.array(pair[0]), np.array(pair[1])
    index = stability_index(reference, live)

    assert math.isfinite(index)
    assert index >= 0
    assert index == pytest.approx(stability_index(live, reference))


def test_an_empty_bin_counts_for_more_the_more_rows_say_so() -> None:
    few = stability_index(np.array([100, 0]), np.array([5, 5]))
    many = stability_index(np.array([100_000, 0]), np.array([5_000, 5_000]))

    assert 0 < few < many


def test_nothing_can_be_said_without_rows() -> None:
    assert stability_index(np.array([5, 5]), np.array([0, 0])) == 0.0


def test_histograms_on_other_bins_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\) bins"):
        stability_index(np.array([1, 2]), np.array([1, 2, 3]))


def test_chance_alone_stays_near_its_expectation() -> None:
    draw = np.random.default_rng(0)
    bins, rows = 16, 2000
    found = [
        stability_index(*(np.bincount(draw.integers(0, bins, rows), minlength=bins) for _ in "ab"))
        for _ in range(200)
    ]

    assert np.mean(found) == pytest.approx((bins - 1) * 2 / rows, rel=0.15)


def test_a_share_of_nothing_is_nothing() -> None:
    assert share(0, 0) == 0.0
