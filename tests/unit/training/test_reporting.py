"""The report on a version: the weights that had not seen the rows, each part from the same rows."""

import numpy as np
import pytest

from app.contracts.evaluations import EvaluationReport
from app.model.evaluation import OneOutcome
from app.training.reporting import report_on
from app.training.slicing import Judged, search_slices
from tests.card_world import EVALUATION, fitted, reported
from tests.learning_world import CONTRACT


def test_the_report_agrees_with_the_figures_that_the_ledger_keeps() -> None:
    kept, report = fitted().evaluation, reported()
    assert report.num_rows == kept.num_rows == len(fitted().window.labelled_stop)
    assert report.figures["roc_auc"].value == kept.roc_auc.value
    assert report.figures["log_loss"].value == pytest.approx(kept.log_loss)
    assert report.outcome == pytest.approx(kept.positive_share)


def test_the_report_is_the_same_again_and_survives_being_written() -> None:
    stop = fitted().window.labelled_stop
    assert report_on(fitted().searched, stop, EVALUATION, run="first", seed=7) == reported()
    assert EvaluationReport.model_validate_json(reported().model_dump_json()) == reported()


def test_counts_at_the_operating_point_are_all_rows() -> None:
    point = reported().operating
    assert point is not None
    counts = (
        point.true_positive,
        point.false_positive,
        point.false_negative,
        point.true_negative,
    )
    assert sum(counts) == reported().num_rows
    assert point.flagged_share.value == pytest.approx(0.25, abs=0.01)


def test_declared_slices_divide_the_rows() -> None:
    slices = reported().declared
    assert {one.name for one in slices} == {f"depot = {n}" for n in ("north", "south", "west")}
    assert sum(one.num_rows for one in slices) == reported().num_rows
    mean = sum(one.loss.value * one.row_share for one in slices)
    assert mean == pytest.approx(reported().figures["log_loss"].value)


def test_what_the_outcome_depends_on_matters_more_than_what_it_does_not() -> None:
    rise = {one.column: one.rise.value for one in reported().importance}
    assert set(rise) == {column.name for column in CONTRACT.features}
    assert min(rise["weight"], rise["depot"]) > max(rise["driver"], rise["due"])


def test_a_column_that_is_not_public_is_named_by_no_slice() -> None:
    stop = fitted().window.labelled_stop
    columns = tuple(
        column.model_copy(update={"privacy": "quasi"}) if column.name == "depot" else column
        for column in CONTRACT.columns
    )
    contract = CONTRACT.model_copy(update={"columns": columns})
    wrong = np.where(stop["depot"].to_numpy() == "west", 0.02, 0.5)
    open_, closed = (
        search_slices(Judged(given, stop, wrong), EVALUATION, seed=1)
        for given in (CONTRACT, contract)
    )
    assert any(part.column == "depot" for one in open_.found for part in one.conditions)
    assert not any(part.column == "depot" for one in closed.found for part in one.conditions)
    assert closed.num_withheld == 1


def test_a_day_on_which_all_goes_wrong_is_no_slice() -> None:
    stop = fitted().window.labelled_stop
    judged = Judged(CONTRACT, stop, fitted().searched.predict(stop))
    assert judged.days is not None
    shifted = judged.losses + 3.0 * (judged.days == judged.days[0])
    np.testing.assert_allclose(judged.within_days(shifted), judged.within_days(judged.losses))


def test_rows_of_one_outcome_cannot_be_reported_on() -> None:
    stop = fitted().window.labelled_stop
    late = stop.filter(stop["label"].to_numpy() == 1)
    with pytest.raises(OneOutcome, match="both outcomes"):
        report_on(fitted().searched, late, EVALUATION, run="first", seed=7)
