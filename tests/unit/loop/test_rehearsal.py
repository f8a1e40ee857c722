"""Policies are compared on the same rows, month by month."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from app.contracts.rows import TIMESTAMP
from app.loop.rehearsal import (
    Period,
    Policy,
    choose_months,
    chosen_policies,
    compare,
    monthly_scores,
    score_rows,
    shift_months,
    split_months,
    with_served,
)

APRIL = datetime(2013, 4, 1, tzinfo=UTC)
SPAN = (date(2013, 4, 1), date(2013, 6, 1))


class Constant:
    """A model that answers one probability."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def predict(self, table: pa.Table) -> np.ndarray:
        return np.full(len(table), self.probability)


def rows(*states: str) -> pa.Table:
    """One row a state: April, May, April, May, …"""
    asked = [datetime(2013, 4 + index % 2, 10, tzinfo=UTC) for index in range(len(states))]
    labels = [index % 2 if state == "known" else None for index, state in enumerate(states)]
    return pa.table(
        {
            "id": [f"r{index}" for index in range(len(states))],
            "prediction_time": pa.array(asked, TIMESTAMP),
            "label": pa.array(labels, pa.int8()),
            "state": list(states),
        }
    )


def scores(**policies: list[float | None]) -> pa.Table:
    columns = {name: pa.array(values, pa.float64()) for name, values in policies.items()}
    return pa.table(
        {
            "row_id": ["a", "b", "c", "d"],
            "month": ["2013-04", "2013-04", "2013-05", "2013-05"],
            "label": pa.array([0, 1, 0, 1], pa.int8()),
            **columns,
        }
    )


def test_scores_agree_with_scikit_learn_ties_included():
    generator = np.random.default_rng(5)
    month = generator.choice(["2013-04", "2013-05"], 3000)
    label = generator.integers(0, 2, 3000)
    probability = np.round(np.clip(label * 0.2 + generator.random(3000) * 0.8, 0, 1), 2)

    for score in monthly_scores(month.tolist(), label, probability):
        mine = month == score.month
        assert score.num_rows == mine.sum()
        assert score.roc_auc == pytest.approx(roc_auc_score(label[mine], probability[mine]))
        expected = average_precision_score(label[mine], probability[mine])
        assert score.pr_auc == pytest.approx(expected)
        assert score.brier == pytest.approx(brier_score_loss(label[mine], probability[mine]))


def test_a_month_with_one_kind_of_outcome_has_no_ranking():
    score = monthly_scores(["2013-04"] * 2, np.array([1, 1]), np.array([0.5, 0.7]))[0]

    assert (score.roc_auc, score.pr_auc) == (None, None)
    assert score.brier == pytest.approx(0.17)


@pytest.mark.parametrize(
    ("label", "probability", "said"),
    [
        ([0, 1], [0.1, float("nan")], "probabilities finite"),
        ([0, 2], [0.1, 0.2], "labels must be 0 or 1"),
        ([0], [0.1, 0.2], "give one of each a row"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(label, probability, said: str):
    with pytest.raises(ValueError, match=said):
        monthly_scores(["2013-04"] * 2, np.array(label), np.array(probability))


def test_the_mean_counts_every_month_the_same_and_skips_those_without():
    board = compare("m", "late", scores(static=[0.1, 0.9, 0.9, 0.1]), SPAN)

    static = board.of("static")
    assert static is not None
    assert static.values("roc_auc") == (1.0, 0.0)
    assert static.mean("roc_auc") == 0.5
    assert board.of("loop") is None


def test_a_row_without_an_answer_is_left_out_for_every_policy():
    table = with_served(scores(static=[0.1, 0.9, 0.9, 0.1]), {"a": 0.2, "b": 0.8, "c": 0.1})

    board = compare("m", "late", table, SPAN, num_known=6)

    assert (board.num_rows, board.num_left_out) == (3, 3)
    assert {len(one.months) for one in board.policies} == {2}
    assert [one.months[1].num_rows for one in board.policies] == [1, 1]


def test_nothing_to_compare_is_an_error_that_says_what_to_do():
    table = with_served(scores(static=[0.1, 0.9, 0.9, 0.1]), {})

    with pytest.raises(ValueError, match="no production row has both"):
        compare("m", "late", table, SPAN)


def test_each_month_is_scored_by_its_own_model_and_only_known_rows():
    periods = split_months(APRIL, datetime(2013, 6, 1, tzinfo=UTC))
    asked: list[tuple[Policy, str]] = []

    def model(policy: Policy, period: Period) -> Constant:
        asked.append((policy, period.month))
        return Constant(0.1 if period.month == "2013-04" else 0.2)

    table = score_rows(rows("known", "known", "void", "pending"), "id", periods, ("all",), model)

    assert asked == [("all", "2013-04"), ("all", "2013-05")]
    assert table.select(["row_id", "all"]).to_pylist() == [
        {"row_id": "r0", "all": 0.1},
        {"row_id": "r1", "all": 0.2},
    ]


def test_a_replay_that_starts_within_a_month_begins_with_a_short_one():
    spans = split_months(datetime(2013, 1, 11, tzinfo=UTC), datetime(2013, 2, 5, tzinfo=UTC))

    assert [(p.month, p.start.day, p.end.day) for p in spans] == [
        ("2013-01", 11, 1),
        ("2013-02", 1, 5),
    ]


def test_a_replay_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="move one of them"):
        split_months(APRIL, APRIL)


def test_months_move_over_the_year_and_to_a_day_that_exists():
    assert shift_months(datetime(2013, 12, 31, tzinfo=UTC), 2).date() == date(2014, 2, 28)
    assert shift_months(datetime(2013, 3, 1, tzinfo=UTC), -3).date() == date(2012, 12, 1)


@pytest.mark.parametrize("names", ["static,loop", "latest", ""])
def test_unknown_policies_are_refused(names: str):
    with pytest.raises(ValueError, match="expected some of static, last3, all"):
        chosen_policies(names)


YEAR = split_months(APRIL, datetime(2014, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("months", "kept"), [("5", ["2013-05"]), ("11-12", ["2013-11", "2013-12"]), ("4-12", None)]
)
def test_months_of_the_replay_can_be_chosen(months: str, kept: list[str] | None):
    chosen = [period.month for period in choose_months(YEAR, months)]

    assert chosen == (kept or [period.month for period in YEAR])


@pytest.mark.parametrize("months", ["1-3", "may", "9-5", ""])
def test_months_outside_the_replay_are_refused(months: str):
    with pytest.raises(ValueError, match="within 2013-04 to 2013-12"):
        choose_months(YEAR, months)
