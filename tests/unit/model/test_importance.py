"""Shuffling finds what a loss depends on, and curves keep what a picture needs."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import auc, roc_auc_score

from app.model.curves import MAX_POINTS, curves
from app.model.importance import permuted_importance, spread_places


def test_a_column_matters_by_as_much_as_shuffling_it_costs() -> None:
    chance = np.random.default_rng(0)
    strong, weak, none = (chance.normal(size=4000) for _ in range(3))
    rows = pa.table({"none": none, "weak": weak, "strong": strong})
    outcome = 2 * strong + weak

    def losses(table: pa.Table) -> np.ndarray:
        return (outcome - 2 * table["strong"].to_numpy() - table["weak"].to_numpy()) ** 2

    found = permuted_importance(
        losses, rows, ["none", "weak", "strong"], num_repeats=4, confidence=0.9, seed=1
    )
    assert [one.column for one in found] == ["strong", "weak", "none"]
    # A shuffled column of variance v and factor f costs 2 f^2 v.
    assert found[0].rise.low < 8 < found[0].rise.high
    assert found[1].rise.low < 2 < found[1].rise.high
    assert found[2].rise.value == pytest.approx(0.0, abs=1e-12)


def test_places_are_spread_over_all_rows() -> None:
    assert spread_places(10, 4).tolist() == [0, 3, 6, 9]
    assert spread_places(3, 100).tolist() == [0, 1, 2]


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(2)
    probabilities = chance.beta(2, 5, number)
    return (chance.random(number) < probabilities).astype(np.int64), probabilities


def test_thinned_curves_keep_their_ends_and_their_area() -> None:
    labels, probabilities = draw(50_000)
    drawn = curves(labels, probabilities, 0.9)
    x, y = np.array(drawn.roc).T
    assert len(drawn.roc) <= MAX_POINTS
    assert len(drawn.pr) <= MAX_POINTS
    assert (drawn.roc[0], drawn.roc[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert auc(x, y) == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-3)
    assert drawn.pr[-1] == (1.0, pytest.approx(labels.mean(), abs=1e-4))


def test_reliability_bins_hold_every_row_once_and_honest_probabilities_lie_within() -> None:
    labels, probabilities = draw(20_000)
    drawn = curves(labels, probabilities, 0.99)
    assert sum(one.num_rows for one in drawn.reliability) == 20_000
    assert sum(drawn.scores) == 20_000
    for one in drawn.reliability:
        assert one.observed.low < one.predicted < one.observed.high
