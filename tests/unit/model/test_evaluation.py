"""Figures against scikit-learn, and the intervals around them."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from app.model.evaluation import (
    OneOutcome,
    Ranking,
    brier,
    calibration_error,
    evaluate,
    log_loss,
    pr_auc,
    roc_auc,
)


def draw(number: int, seed: int, decimals: int = 9) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    probabilities = chance.beta(2, 5, number)
    labels = (chance.random(number) < probabilities).astype(np.int64)
    return labels, probabilities.round(decimals)


@pytest.mark.parametrize("decimals", [9, 2, 1])
@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_those_of_scikit_learn_ties_included(seed: int, decimals: int) -> None:
    labels, scores = draw(500, seed, decimals)
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert pr_auc(labels, scores) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )
    assert brier(labels, scores) == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    clipped = scores.clip(1e-6, 1 - 1e-6)
    assert log_loss(labels, clipped) == pytest.approx(sklearn_log_loss(labels, clipped), abs=1e-12)


def test_weights_count_as_copies_of_rows() -> None:
    labels, scores = draw(300, 1, 2)
    counts = np.random.default_rng(2).integers(0, 4, 300)
    copied = np.repeat(np.arange(300), counts)
    expected = Ranking(labels[copied], scores[copied]).areas()
    assert Ranking(labels, scores).areas(counts.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_is_the_gap_of_shifted_probabilities() -> None:
    labels = np.array([0, 1] * 500)
    assert calibration_error(labels, np.full(1000, 0.5)) == pytest.approx(0.0, abs=0.01)
    assert calibration_error(labels, np.full(1000, 0.7)) == pytest.approx(0.2, abs=0.01)


def test_evaluation_is_the_same_again_and_its_intervals_hold_the_value() -> None:
    labels, scores = draw(800, 3)
    evaluation = evaluate(labels, scores, seed=5)
    assert evaluation == evaluate(labels, scores, seed=5)
    assert evaluation != evaluate(labels, scores, seed=6)
    for metric in (evaluation.roc_auc, evaluation.pr_auc, evaluation.brier):
        assert metric.low < metric.value < metric.high
    assert evaluation.positive_share == labels.mean()


def test_more_rows_give_narrower_intervals() -> None:
    few, many = evaluate(*draw(300, 4)).roc_auc, evaluate(*draw(6000, 4)).roc_auc
    assert (many.high - many.low) < 0.5 * (few.high - few.low)


@pytest.mark.parametrize("labels", [np.zeros(5), np.ones(5), np.empty(0)])
def test_one_outcome_alone_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(OneOutcome, match="both outcomes"):
        evaluate(labels, np.full(len(labels), 0.3))
