"""Thresholds, the four counts and what they cost."""

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from app.model.intervals import Bootstrap
from app.model.operating import NEVER, cheapest_threshold, choose_threshold, operate, price
from app.sections import CostsConfig, EvaluationConfig

COSTS = CostsConfig(false_positive=1.0, false_negative=4.0, true_positive=0.5, unit="EUR")


def draw(number: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    probabilities = chance.beta(1.5, 4, number).round(3)
    return (chance.random(number) < probabilities).astype(np.int64), probabilities


def test_counts_precision_and_recall_equal_those_of_scikit_learn() -> None:
    labels, probabilities = draw()
    chosen = choose_threshold(probabilities, EvaluationConfig(threshold=0.35))
    point = operate(labels, probabilities, chosen, Bootstrap(len(labels)))
    flagged = probabilities >= 0.35
    (tn, fp), (fn, tp) = confusion_matrix(labels, flagged)
    assert (point.true_negative, point.false_positive) == (tn, fp)
    assert (point.false_negative, point.true_positive) == (fn, tp)
    assert point.precision is not None
    assert point.precision.value == pytest.approx(precision_score(labels, flagged))
    assert point.recall.value == pytest.approx(recall_score(labels, flagged))
    for metric in (point.precision, point.recall, point.flagged_share):
        assert metric.low < metric.value < metric.high


def test_a_share_flags_the_likeliest_rows_and_their_ties() -> None:
    probabilities = np.array([0.1, 0.9, 0.5, 0.5, 0.2, 0.3, 0.4, 0.05, 0.02, 0.01])
    chosen = choose_threshold(probabilities, EvaluationConfig(flagged_share=0.2))
    assert chosen.threshold == 0.5
    assert int((probabilities >= chosen.threshold).sum()) == 3


def test_costs_choose_the_threshold_where_no_point_is_configured() -> None:
    _, probabilities = draw()
    chosen = choose_threshold(probabilities, EvaluationConfig(costs=COSTS))
    assert chosen == ("costs", pytest.approx(1 / (1 + 3.5)))
    assert choose_threshold(probabilities, EvaluationConfig()) == ("default", 0.5)


def total(labels: np.ndarray, flagged: np.ndarray) -> float:
    """What the four counts cost, the long way."""
    happened = labels == 1
    return float(
        0.5 * (flagged & happened).sum()
        + (flagged & ~happened).sum()
        + 4 * (~flagged & happened).sum()
    )


def test_the_cheapest_threshold_is_the_cheapest_of_all() -> None:
    labels, probabilities = draw(400, 3)
    best = cheapest_threshold(labels, probabilities, COSTS)
    every = [*np.unique(probabilities), NEVER]
    assert total(labels, probabilities >= best) == min(
        total(labels, probabilities >= t) for t in every
    )


def test_where_flags_are_dear_the_cheapest_is_to_flag_nobody() -> None:
    labels, probabilities = np.array([0, 1, 0, 1]), np.array([0.9, 0.8, 0.5, 0.1])
    dear = CostsConfig(false_positive=1000.0, false_negative=1.0)
    assert cheapest_threshold(labels, probabilities, dear) == NEVER


def test_costs_a_row_are_those_of_the_counts() -> None:
    labels, probabilities = draw()
    report = price(labels, probabilities, 0.3, COSTS, Bootstrap(len(labels)))
    n = len(labels)
    assert report.operating.value == pytest.approx(total(labels, probabilities >= 0.3) / n)
    assert report.nobody.value == pytest.approx(total(labels, probabilities > 2) / n)
    assert report.everybody.value == pytest.approx(total(labels, probabilities >= 0) / n)
    assert report.best.value <= min(
        report.operating.value, report.nobody.value, report.everybody.value
    )
    simple = min(report.nobody.value, report.everybody.value)
    assert report.saved.value == pytest.approx(simple - report.operating.value)
    assert report.saved.low < report.saved.value < report.saved.high


def test_nothing_flagged_has_no_precision() -> None:
    labels, probabilities = draw(100)
    chosen = choose_threshold(probabilities, EvaluationConfig(threshold=1.0))
    point = operate(labels, probabilities * 0.9, chosen, Bootstrap(100))
    assert point.precision is None
    assert (point.recall.value, point.true_positive) == (0.0, 0)


def test_two_operating_points_are_refused() -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        EvaluationConfig(threshold=0.3, flagged_share=0.2)


def test_costs_that_reward_mistakes_are_refused() -> None:
    with pytest.raises(ValidationError, match="being wrong must cost more"):
        CostsConfig(false_positive=1, false_negative=2, true_positive=3)
