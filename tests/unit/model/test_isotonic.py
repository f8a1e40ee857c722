"""Isotonic calibration, beside scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.isotonic import IsotonicRegression

from app.model.correction import CannotFit
from app.model.evaluation import calibration_error, log_loss, roc_auc
from app.model.isotonic import MAX_KNOTS, Blocks, Isotonic, pool
from app.model.platt import Platt


def bent(number: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Give predictions whose error no line on the logit can mend."""
    chance = np.random.default_rng(seed)
    scores = chance.random(number)
    labels = (chance.random(number) < 0.1 + 0.5 * scores**3).astype(np.int64)
    return scores, labels


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(-20, 20)), min_size=1, max_size=40),
)
def test_pooling_gives_the_rates_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    weights, rates = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    blocks, firsts = pool(Blocks(weights, weights * rates))
    expected = IsotonicRegression().fit(np.arange(len(rows)), rates, weights)
    ours = np.repeat(blocks.rates, np.diff(firsts, append=len(rows)))
    np.testing.assert_allclose(ours, expected.predict(np.arange(len(rows))), atol=1e-9)
    assert (np.diff(blocks.rates) > 0).all()


def test_the_line_is_nearer_to_the_truth_than_the_steps_of_scikit_learn() -> None:
    places = np.linspace(0.001, 0.999, 2000)
    further = []
    for seed in range(10):
        scores, labels = bent(20_000, seed)
        steps = IsotonicRegression(out_of_bounds="clip").fit(scores, labels).predict(places)
        line = Isotonic.fit(scores, labels).apply(places)
        assert np.abs(line - steps).mean() < 0.02
        errors = [np.mean((each - 0.1 - 0.5 * places**3) ** 2) for each in (line, steps)]
        further.append(errors[0] - errors[1])
    assert np.mean(further) < 0


def test_rows_that_it_never_saw_are_calibrated() -> None:
    calibrator = Isotonic.fit(*bent(20_000))
    scores, labels = bent(20_000, seed=2)
    corrected = calibrator.apply(scores)
    assert calibration_error(labels, corrected) < 0.015 < 0.1 < calibration_error(labels, scores)
    assert log_loss(labels, corrected) < log_loss(labels, Platt.fit(scores, labels).apply(scores))


def test_order_is_kept_where_steps_would_tie_rows() -> None:
    scores, labels = bent(20_000)
    calibrator = Isotonic.fit(scores, labels)
    inside = np.linspace(calibrator.scores[0], calibrator.scores[-1], 5000)
    assert (np.diff(calibrator.apply(inside)) > 0).all()
    assert (np.diff(calibrator.apply(np.linspace(0, 1, 5000))) >= 0).all()
    assert roc_auc(labels, calibrator.apply(scores)) > roc_auc(labels, scores) - 0.001


def test_certainty_is_never_claimed() -> None:
    scores = np.repeat(np.linspace(0.01, 0.99, 40), 50)
    corrected = Isotonic.fit(scores, (scores > 0.5).astype(np.int64)).apply(np.array([0.0, 1.0]))
    assert 0 < corrected[0] < 0.01
    assert 0.99 < corrected[1] < 1


def test_a_single_row_at_the_end_makes_no_knot_of_its_own() -> None:
    scores, labels = bent(5000)
    alone = Isotonic.fit(np.append(scores, 2.0), np.append(labels, 1))
    assert alone.apply(np.array([1.0]))[0] < 0.97


def test_order_of_rows_does_not_matter() -> None:
    scores, labels = bent(3000)
    scores = scores.round(2)
    order = np.random.default_rng(3).permutation(len(scores))
    shuffled = Isotonic.fit(scores[order], labels[order])
    assert shuffled.to_json() == Isotonic.fit(scores, labels).to_json()


def test_knots_are_a_few_hundred_at_most() -> None:
    chance = np.random.default_rng(4)
    scores = np.repeat(np.linspace(0, 1, 1001), 200)
    labels = np.tile(np.arange(200), 1001) < scores * 200
    calibrator = Isotonic.fit(scores, labels.astype(np.int64))
    assert 100 < len(calibrator.scores) <= MAX_KNOTS
    drawn = chance.random(1000)
    assert np.abs(calibrator.apply(drawn) - drawn).max() < 0.01


@pytest.mark.parametrize(
    ("number", "num_positive", "found"),
    [(999, 400, "got 999 with 400"), (5000, 49, "got 5000 with 49"), (0, 0, "got 0 with 0")],
)
def test_too_few_rows_are_refused(number: int, num_positive: int, found: str) -> None:
    labels = np.arange(number) < num_positive
    with pytest.raises(CannotFit, match=found):
        Isotonic.fit(np.linspace(0, 1, number), labels)


def test_outcomes_that_fall_are_refused() -> None:
    scores = np.linspace(0, 1, 2000)
    with pytest.raises(CannotFit, match="no share of positives that rises"):
        Isotonic.fit(scores, (scores < 0.5).astype(np.int64))


@pytest.mark.parametrize(
    ("scores", "values"),
    [
        ((0.1,), (0.2,)),
        ((0.1, 0.1), (0.2, 0.3)),
        ((0.1, 0.2), (0.3, 0.2)),
        ((0.1, 0.2), (0.0, 0.2)),
        ((0.1, 0.2), (0.5, 1.0)),
        ((0.1, float("nan")), (0.2, 0.3)),
        ((0.1, 0.2), (0.2, 0.3, 0.4)),
    ],
)
def test_a_line_that_does_not_rise_within_0_and_1_cannot_be_made(
    scores: tuple[float, ...], values: tuple[float, ...]
) -> None:
    with pytest.raises(ValidationError):
        Isotonic(scores=scores, values=values)


def test_what_is_no_number_stays_none() -> None:
    assert np.isnan(Isotonic(scores=(0.1, 0.9), values=(0.2, 0.8)).apply(np.array([np.nan]))).all()
