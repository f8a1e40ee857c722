"""Bootstrap and normal intervals against the formulas they stand for."""

import numpy as np
import pytest

from app.model.binary import CalibrationGaps, binary_figures
from app.model.evaluation import OneOutcome, calibration_error, evaluate
from app.model.intervals import Bootstrap, mean_of, share_of


def test_a_bootstrap_of_a_mean_has_the_width_that_the_formula_gives() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 4000)
    [metric] = Bootstrap(4000, num_draws=600, confidence=0.9, seed=2).of_means(values[:, None])
    formula = mean_of(values, 0.9)
    assert metric.value == pytest.approx(formula.value)
    assert metric.high - metric.low == pytest.approx(formula.high - formula.low, rel=0.15)


def test_equal_seeds_draw_equal_rows() -> None:
    first, again = (next(Bootstrap(50, seed=3).counts()) for _ in range(2))
    assert first.tolist() == again.tolist()
    assert first.sum() == 50
    assert first.tolist() != next(Bootstrap(50, seed=4).counts()).tolist()


def test_a_share_of_none_or_all_has_an_interval_and_stays_a_share() -> None:
    none, all_ = share_of(0, 40, 0.9), share_of(40, 40, 0.9)
    assert (none.low, all_.high) == (0.0, 1.0)
    assert 0.02 < none.high < 0.12
    assert all_.low == pytest.approx(1 - none.high)


def draw(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    probabilities = chance.beta(2, 5, number)
    return (chance.random(number) < probabilities).astype(np.int64), probabilities


def test_figures_and_intervals_are_those_that_the_ledger_keeps() -> None:
    labels, probabilities = draw(900, 5)
    kept = evaluate(labels, probabilities, seed=6)
    figures = binary_figures(labels, probabilities, Bootstrap(900, seed=6))
    for name in ("roc_auc", "pr_auc", "brier"):
        assert figures[name].model_dump() == pytest.approx(getattr(kept, name).model_dump())
    assert figures["log_loss"].value == pytest.approx(kept.log_loss)
    assert figures["calibration_error"].value == pytest.approx(kept.calibration_error)
    for metric in figures.values():
        assert metric.low <= metric.value <= metric.high
        assert metric.low < metric.high


def test_the_calibration_error_of_a_calibrated_model_may_be_nothing() -> None:
    # A resample of honest probabilities has a larger error than the rows themselves.
    labels, probabilities = draw(2000, 7)
    error = binary_figures(labels, probabilities, Bootstrap(2000, seed=1))["calibration_error"]
    assert error.low == 0.0
    shifted = np.clip(probabilities + 0.1, 0, 1)
    wrong = binary_figures(labels, shifted, Bootstrap(2000, seed=1))["calibration_error"]
    assert 0.05 < wrong.low < 0.1 < wrong.high + 0.02


def test_weighted_calibration_gaps_without_weights_are_the_calibration_error() -> None:
    labels, probabilities = draw(777, 8)
    gaps = CalibrationGaps(labels.astype(float), probabilities)
    assert gaps.error(np.ones(777)) == pytest.approx(calibration_error(labels, probabilities))


def test_one_outcome_alone_is_refused() -> None:
    with pytest.raises(OneOutcome, match="both outcomes"):
        binary_figures(np.ones(4), np.full(4, 0.5), Bootstrap(4))
