from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from app.contracts.records import Evidence
from app.monitoring.evidence import Window, champion, due_windows, sample
from app.monitoring.fold import SAMPLES_A_DAY
from tests.unit.monitoring.logs import (
    CONFIG,
    CONTRACT,
    FIRST,
    Logs,
    Run,
    day,
    label,
    make_day,
    reference,
    without_labels,
)


def with_columns(table: pa.Table, **columns: pa.Array) -> pa.Table:
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table


def one_window(*logs: Logs) -> Evidence:
    """Fold days and give the evidence of the window that ends at day 3."""
    run = Run()
    for each in logs:
        run.fold(each)
    return run.judge(day(3)).evidence[-1]


def without_predictions(logs: Logs) -> Logs:
    return replace(logs, predictions=logs.predictions.slice(0, 0))


def prompt_void(days: list[Logs]) -> int:
    return sum(each.labels["void"].to_pylist().count(True) for each in days)


def outcomes_of_day_zero(*reports: pa.Table) -> Evidence:
    labels = pa.concat_tables([make_day(0).labels.slice(0, 0), *reports])
    return one_window(
        replace(make_day(0), labels=labels), *(without_labels(make_day(n)) for n in (1, 2))
    )


def test_windows_end_on_a_grid_that_no_restart_moves() -> None:
    run = Run().fold(make_day(0))

    assert [w.end for w in due_windows(run.state, day(5.9), CONFIG)] == [day(1), day(3), day(5)]
    assert due_windows(run.state, day(0.99), CONFIG) == []
    run.judge(day(3.5))
    assert [w.end for w in due_windows(run.state, day(5.9), CONFIG)] == [day(5)]


def test_a_window_waits_for_its_grace() -> None:
    run = Run().fold(make_day(0))
    config = CONFIG.model_copy(update={"grace_minutes": 30.0})

    assert due_windows(run.state, day(1) + timedelta(minutes=29), config) == []
    assert len(due_windows(run.state, day(1) + timedelta(minutes=30), config)) == 1


def test_windows_without_traffic_give_no_evidence() -> None:
    run = Run().fold(make_day(0)).judge(day(40))

    assert [item.end for item in run.evidence] == [day(1), day(3), day(5), day(7)]


def test_young_predictions_are_left_to_mature() -> None:
    found = one_window(make_day(0), make_day(1), make_day(2))

    # At day 3 the labels of days 0 and 1 are known; day 2 is within maturity_days.
    assert found.num_predictions == 120
    assert found.num_known + found.num_void == 80
    assert found.coverage == 1.0


def test_a_label_that_became_known_later_is_not_looked_at() -> None:
    early = outcomes_of_day_zero(label("r000-000", 1, 2.9))
    late = outcomes_of_day_zero(label("r000-000", 1, 3.1))

    assert (early.num_known, late.num_known) == (1, 0)


def test_a_monitor_that_catches_up_gives_the_evidence_of_one_that_kept_up() -> None:
    days = [make_day(number) for number in range(3)]
    late = replace(days[0], labels=label("r000-000", None, known=1.6, received=3.2))
    late = replace(without_predictions(late), events=late.events.slice(0, 0))
    prompt, behind = Run(), Run()
    for each in days:
        prompt.fold(each)
        behind.fold(each)

    prompt.judge(day(3)).fold(late).judge(day(5))
    behind.fold(late).judge(day(3)).judge(day(5))

    assert prompt.written == behind.written
    # What was known in the world at day 1.6 and reached us at day 3.2 counts from then on.
    void = days[0].labels["void"].to_pylist()
    assert not void[0]
    assert prompt.evidence[-1].num_void == prompt_void(days) + 1


@pytest.mark.parametrize(
    ("reports", "known", "void"),
    [
        ([("r000-000", 1, 1.5), ("r000-000", 1, 1.5)], 1, 0),
        ([("r000-000", 1, 1.5), ("r000-000", None, 2.0)], 0, 1),
        ([("r000-000", None, 1.5), ("r000-000", 0, 2.0)], 1, 0),
        ([("r000-000", 0, 2.0), ("r000-000", None, 1.5)], 1, 0),
        ([("nobody", 1, 1.5)], 0, 0),
    ],
)
def test_the_report_known_last_decides(
    reports: list[tuple[str, int | None, float]], known: int, void: int
) -> None:
    found = outcomes_of_day_zero(*(label(*report) for report in reports))

    assert (found.num_known, found.num_void) == (known, void)
    assert found.num_new_labels == known


def test_contradicting_reports_are_settled_by_arrival_not_by_order() -> None:
    first, second = (
        label("r000-000", 1, 1.5, received=1.6),
        label("r000-000", None, 1.5, received=1.7),
    )

    assert outcomes_of_day_zero(first, second).num_void == 1
    assert outcomes_of_day_zero(second, first).num_void == 1


def test_performance_counts_only_rows_of_the_champion_of_that_time() -> None:
    found = one_window(make_day(0), make_day(1, version="v2"), make_day(2, version="v2"))

    assert found.version == "v2"
    assert found.num_predictions == 80
    assert found.num_known + found.num_void == 40
    # The columns are those of all rows.
    assert champion(Run().fold(make_day(0)).state, Window(day(0), day(1))) == "v1"


def test_a_challenger_is_never_judged_as_champion() -> None:
    logs = make_day(0)
    arms = pa.array(["challenger"] * 20 + ["champion"] * 20)
    versions = pa.array(["v9"] * 20 + ["v1"] * 20)
    generations = pa.array([9] * 20 + [1] * 20)
    mixed = with_columns(logs.predictions, arm=arms, version=versions, generation=generations)

    assert (
        champion(Run().fold(replace(logs, predictions=mixed)).state, Window(day(0), day(1))) == "v1"
    )


def test_where_the_champion_answers_only_the_control_group_it_is_still_known() -> None:
    logs = make_day(0)
    arms = pa.array(["challenger"] * 20 + ["holdout"] * 20)
    versions = pa.array(["v9"] * 20 + ["v1"] * 20)
    mixed = with_columns(logs.predictions, arm=arms, version=versions)

    state = Run().fold(replace(logs, predictions=mixed)).state

    assert champion(state, Window(day(0), day(1))) == "v1"


def test_rows_served_after_the_window_ended_are_for_the_next_one() -> None:
    logs = make_day(0)
    served = pa.array([day(1.5)] * 40, pa.timestamp("us", tz="UTC"))
    late = replace(logs, predictions=with_columns(logs.predictions, served_at=served))

    run = Run().fold(late).judge(day(3))

    assert [(item.end, item.num_predictions) for item in run.evidence] == [(day(3), 40)]


def test_realised_figures_are_those_of_the_joined_rows() -> None:
    days = [make_day(0), make_day(1)]
    found = one_window(*days, without_labels(make_day(2)))

    chance = np.concatenate([each.predictions["probability"].to_numpy() for each in days])
    labels = [value for each in days for value in each.labels["label"].to_pylist()]
    known = np.array([value is not None for value in labels])
    outcome = np.array([value for value in labels if value is not None])
    assert found.performance is not None
    assert found.performance.brier.value == pytest.approx(np.mean((chance[known] - outcome) ** 2))
    assert found.performance.positive_share == pytest.approx(outcome.mean())


def test_too_few_labels_give_no_performance() -> None:
    assert outcomes_of_day_zero(label("r000-000", 1, 1.5)).performance is None


def test_outcomes_of_one_kind_give_no_performance() -> None:
    reports = [label(f"r000-{i:03d}", 1, 1.5) for i in range(40)]

    found = outcomes_of_day_zero(*reports)

    assert found.num_known == 40
    assert found.performance is None


def test_a_shifted_column_stands_out_and_others_do_not() -> None:
    found = one_window(*(make_day(n, 200, shift=4.0) for n in range(3)))

    psi = {column.column: column.psi for column in found.columns}
    assert psi["distance"] > 1.0
    assert psi["city"] < 0.05


def test_nulls_and_unseen_values_are_told_apart_from_drift() -> None:
    days = []
    for number in range(3):
        logs = make_day(number, 400)
        distance = [
            None if i % 4 == 0 else v for i, v in enumerate(logs.events["distance"].to_pylist())
        ]
        city = ["zz" if i % 2 == 0 else v for i, v in enumerate(logs.events["city"].to_pylist())]
        events = with_columns(logs.events, distance=pa.array(distance), city=pa.array(city))
        days.append(replace(logs, events=events))

    columns = {column.column: column for column in one_window(*days).columns}

    assert columns["distance"].null_share == 0.25
    assert columns["distance"].reference_null_share == 0.0
    assert columns["city"].unseen_share == 0.5
    assert columns["distance"].psi < 0.05
    assert columns["city"].psi < 0.05


def test_drifted_probabilities_show_in_their_index() -> None:
    logs = [make_day(n, 200) for n in range(3)]
    high = [
        replace(
            each,
            predictions=with_columns(
                each.predictions,
                probability=pa.array(0.9 + each.predictions["probability"].to_numpy() / 10),
            ),
        )
        for each in logs
    ]

    assert one_window(*high).prediction_psi > 1.0 > 0.1 > one_window(*logs).prediction_psi


def test_quarantined_rows_are_counted_by_the_day_of_arrival() -> None:
    times = pa.array([day(n) for n in (-9, 1, 2, 3, 4)], pa.timestamp("us", tz="UTC"))
    quarantine = pa.table({"source": ["serving"] * 5, "ingested_at": times})
    history = pa.table({"source": ["ingest:a"], "ingested_at": times.slice(1, 1)})

    logs = replace(make_day(0), quarantine=pa.concat_tables([quarantine, history]))

    assert one_window(logs).num_quarantined == 2


def test_new_labels_are_counted_since_training_ended() -> None:
    run = Run()
    for number in range(4):
        run.fold(make_day(number))
    state = run.judge(day(3)).state
    window = Window(day(-2), day(5))
    from app.monitoring.evidence import evidence

    whole = evidence(state, window, "rides", reference(), CONFIG).num_new_labels
    later = evidence(state, window, "rides", reference(trained_until=day(2)), CONFIG).num_new_labels

    known = [make_day(n).labels["void"].to_pylist().count(False) for n in range(4)]
    assert whole == sum(known)
    assert later == sum(known[2:])


def test_the_sample_is_bounded_and_carries_what_was_logged() -> None:
    run = Run()
    for number in range(3):
        run.fold(make_day(number, 100))

    rows = sample(run.state, Window(FIRST, day(3)), "v1", CONTRACT)

    assert rows.num_rows == 3 * SAMPLES_A_DAY
    logged = dict(
        zip(
            run.state.predictions["row_id"].to_pylist(),
            run.state.predictions["probability"].to_pylist(),
            strict=True,
        )
    )
    assert [logged[ride] for ride in rows["ride"].to_pylist()] == rows["probability"].to_pylist()
    assert sample(run.state, Window(FIRST, day(3)), "v2", CONTRACT).num_rows == 0
