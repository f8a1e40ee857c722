"""Corrections of values: a line, or none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.model.linear import Linear, Unchanged


def test_fit_finds_the_line() -> None:
    chance = np.random.default_rng(1)
    values = chance.normal(300, 40, 20_000)
    calibrator = Linear.fit(values, 1.5 * values - 80 + chance.normal(0, 5, len(values)))
    assert calibrator.slope == pytest.approx(1.5, abs=0.01)
    np.testing.assert_allclose(calibrator.apply(np.array([300.0])), 370, atol=0.5)


@given(unit=st.sampled_from([1e-6, 1.0, 1e6]), moved=st.floats(-1e3, 1e3))
def test_a_unit_does_not_matter(unit: float, moved: float) -> None:
    values = np.linspace(0, 1, 30)
    labels = 0.5 * values + 0.2
    plain = Linear.fit(values, labels)
    other = Linear.fit((values + moved) * unit, (labels + moved) * unit)
    assert other.slope == pytest.approx(plain.slope, rel=1e-6)
    corrected = other.apply((values + moved) * unit) / unit - moved
    np.testing.assert_allclose(corrected, plain.apply(values), atol=1e-6)


def test_few_rows_change_little_and_many_all() -> None:
    few, many = (Linear.fit(np.linspace(0, 1, n), np.linspace(5, 6, n)) for n in (2, 10_000))
    assert few.apply(np.array([0.5]))[0] < 1.5
    assert many.apply(np.array([0.5]))[0] == pytest.approx(5.5, abs=0.01)


def test_values_that_contradict_the_outcomes_keep_their_order() -> None:
    values = np.linspace(0, 1, 100)
    assert (np.diff(Linear.fit(values, -values).apply(values)) > 0).all()


def test_equal_values_are_only_moved() -> None:
    calibrator = Linear.fit(np.full(90, 2.0), np.full(90, 4.0))
    assert calibrator.slope == 1
    assert calibrator.apply(np.array([2.0]))[0] == pytest.approx(3.8)


def test_without_rows_nothing_is_learned() -> None:
    assert Linear.fit(np.empty(0), np.empty(0)) == Linear()


def test_unchanged_gives_predictions_back_in_any_shape() -> None:
    table = np.array([[0.25, 0.75]])
    assert Unchanged.fit(table, np.array([1])).apply(table) is table
