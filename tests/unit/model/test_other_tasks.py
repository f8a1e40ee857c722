"""Figures of several classes, of numbers and of orders, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    label_ranking_average_precision_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    ndcg_score,
    r2_score,
    roc_auc_score,
)

from app.model.classes import class_figures, class_losses
from app.model.evaluation import OneOutcome
from app.model.intervals import Bootstrap, mean_of
from app.model.lists import list_figures, ndcg, reciprocal_rank
from app.model.values import value_figures

NUM_CLASSES = 4


def draw_classes(number: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    probabilities = chance.dirichlet(np.array([2.0, 1.0, 1.0, 0.5]), number)
    drawn = [chance.choice(NUM_CLASSES, p=row) for row in probabilities]
    return np.array(drawn), probabilities


def test_figures_of_classes_equal_those_of_scikit_learn() -> None:
    labels, probabilities = draw_classes()
    figures = class_figures(labels, probabilities, Bootstrap(len(labels), 50))
    assert figures["log_loss"].value == pytest.approx(log_loss(labels, probabilities))
    assert figures["accuracy"].value == pytest.approx(
        accuracy_score(labels, probabilities.argmax(axis=1))
    )
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert figures["macro_roc_auc"].value == pytest.approx(expected, abs=1e-12)
    for metric in figures.values():
        assert metric.low < metric.value < metric.high


def test_one_class_alone_cannot_be_ranked_and_a_strange_one_is_refused() -> None:
    _, probabilities = draw_classes(10)
    with pytest.raises(OneOutcome, match="two classes"):
        class_figures(np.zeros(10, np.int64), probabilities, Bootstrap(10))
    with pytest.raises(ValueError, match="places among 4 classes"):
        class_losses(np.full(10, 4), probabilities)


def test_figures_of_numbers_equal_those_of_scikit_learn() -> None:
    chance = np.random.default_rng(1)
    outcomes = chance.normal(1e6, 30.0, 800)
    predictions = outcomes + chance.normal(2.0, 10.0, 800)
    figures = value_figures(outcomes, predictions, Bootstrap(800, 50))
    assert figures["rmse"].value == pytest.approx(
        np.sqrt(mean_squared_error(outcomes, predictions))
    )
    assert figures["mae"].value == pytest.approx(mean_absolute_error(outcomes, predictions))
    assert figures["r2"].value == pytest.approx(r2_score(outcomes, predictions))
    for metric in figures.values():
        assert metric.low < metric.value < metric.high


def test_resampled_r2_is_that_of_copied_rows() -> None:
    chance = np.random.default_rng(2)
    outcomes = chance.normal(0, 3, 60)
    predictions = outcomes + chance.normal(0, 2, 60)
    drawn = [c.astype(int) for c in Bootstrap(60, 40, seed=5).counts()]
    values = [r2_score(np.repeat(outcomes, c), np.repeat(predictions, c)) for c in drawn]
    low, high = np.quantile(values, [0.05, 0.95])
    r2 = value_figures(outcomes, predictions, Bootstrap(60, 40, seed=5))["r2"]
    assert (r2.low, r2.high) == (pytest.approx(low), pytest.approx(high))


def test_outcomes_that_are_all_the_same_have_no_r2() -> None:
    figures = value_figures(np.ones(10), np.linspace(0, 1, 10), Bootstrap(10))
    assert sorted(figures) == ["mae", "rmse"]


def draw_lists(decimals: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), chance.integers(2, 15, 40))
    shuffled = chance.permutation(len(groups))
    relevance = chance.integers(0, 4, len(groups)).astype(float)
    scores = (relevance + chance.normal(0, 2, len(groups))).round(decimals)
    return relevance[shuffled], scores[shuffled], groups[shuffled]


@pytest.mark.parametrize("decimals", [9, 0])
@pytest.mark.parametrize("cutoff", [3, 10])
def test_ndcg_equals_that_of_scikit_learn_ties_included(decimals: int, cutoff: int) -> None:
    relevance, scores, groups = draw_lists(decimals)
    found = ndcg(relevance, scores, groups, cutoff)
    for group in range(40):
        mine = groups == group
        if not relevance[mine].any():
            assert np.isnan(found[group])
            continue
        expected = ndcg_score(relevance[mine][None], scores[mine][None], k=cutoff)
        assert found[group] == pytest.approx(expected, abs=1e-12)


def test_the_reciprocal_rank_of_one_relevant_row_is_that_of_scikit_learn() -> None:
    chance = np.random.default_rng(4)
    relevance = np.zeros((30, 8))
    relevance[np.arange(30), chance.integers(0, 8, 30)] = 1
    scores = chance.integers(0, 5, (30, 8)).astype(float)
    groups = np.repeat(np.arange(30), 8)
    found = reciprocal_rank(relevance.ravel(), scores.ravel(), groups)
    assert found.mean() == pytest.approx(label_ranking_average_precision_score(relevance, scores))


def test_the_first_relevant_row_counts_and_lists_without_one_do_not() -> None:
    relevance = np.array([0.0, 2.0, 1.0, 0.0, 0.0])
    scores = np.array([0.9, 0.5, 0.4, 0.8, 0.1])
    groups = np.array(["a", "a", "a", "b", "b"])
    assert reciprocal_rank(relevance, scores, groups)[0] == 0.5
    figures = list_figures(relevance, scores, groups, Bootstrap(5, 20))
    assert figures["mrr"].value == 0.5
    assert sorted(figures) == ["mrr", "ndcg_at_10", "ndcg_at_5"]


def test_intervals_are_over_lists_and_not_over_rows() -> None:
    relevance, scores, groups = draw_lists(9)
    values = ndcg(relevance, scores, groups, 5)
    values = values[~np.isnan(values)]
    found = list_figures(relevance, scores, groups, Bootstrap(len(groups), 400))["ndcg_at_5"]
    expected = mean_of(values, 0.9)
    assert found.value == pytest.approx(expected.value)
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.2)


def test_negative_relevance_and_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        ndcg(np.array([-1.0, 1.0]), np.zeros(2), np.zeros(2), 5)
    with pytest.raises(ValueError, match="got none"):
        reciprocal_rank(np.empty(0), np.empty(0), np.empty(0))
