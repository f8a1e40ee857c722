from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from app.console.as_known import render_as_known
from app.contracts.rows import TIMESTAMP
from app.model.evaluation import evaluate
from app.monitoring.as_known import PerformanceAsKnown, Question, performance_as_known
from tests.unit.monitoring.logs import CONFIG, Logs, day, joined, label, make_day

DAYS = 8
WINDOW = day(1), day(5)


@pytest.fixture(scope="module")
def logs() -> Logs:
    """Eight days; the labels of each become known at 10:00 of the next one, and arrive at 11:00."""
    return joined(*(make_day(number) for number in range(DAYS)))


def ask(
    logs: Logs,
    at: datetime,
    window: tuple[datetime, datetime] = WINDOW,
    version: str | None = None,
    by_arrival: bool = True,
) -> PerformanceAsKnown:
    question = Question(*window, at, version, by_arrival)
    return performance_as_known(question, logs.predictions, logs.labels, "rides", CONFIG)


def with_reports(logs: Logs, *reports: pa.Table) -> Logs:
    return replace(logs, labels=pa.concat_tables([logs.labels, *reports]))


def known_now(logs: Logs) -> dict[str, int | None]:
    return dict(
        zip(logs.labels["row_id"].to_pylist(), logs.labels["label"].to_pylist(), strict=True)
    )


def test_every_prediction_is_known_void_or_pending(logs: Logs) -> None:
    answer = ask(logs, day(5))

    outcomes = [
        known_now(logs)[f"r{number:03d}-{i:03d}"] for number in (1, 2, 3) for i in range(40)
    ]
    assert answer.num_predictions == 160
    assert answer.num_void == outcomes.count(None)
    assert answer.num_known == 120 - outcomes.count(None)
    assert answer.num_pending == 40
    assert answer.coverage == 0.75


def test_the_figures_are_those_of_the_outcomes_known_then(logs: Logs) -> None:
    answer = ask(logs, day(5))

    known = known_now(logs)
    rows = [
        (row, chance)
        for row, chance in zip(
            logs.predictions["row_id"].to_pylist(),
            logs.predictions["probability"].to_pylist(),
            strict=True,
        )
        if row[:4] in ("r001", "r002", "r003") and known[row] is not None
    ]
    expected = evaluate(
        np.array([known[row] for row, _ in rows]),
        np.array([chance for _, chance in rows]),
        num_bootstraps=CONFIG.num_bootstraps,
    )
    assert answer.performance == expected
    assert expected.roc_auc.low < expected.roc_auc.value < expected.roc_auc.high


def test_what_comes_later_does_not_change_the_answer(logs: Logs) -> None:
    then = joined(*(make_day(number) for number in range(5)))
    kept = then.labels.slice(0, 160)
    late = label("r001-000", 1, known=1.5, received=5.1)

    assert ask(replace(then, labels=kept), day(5)) == ask(with_reports(logs, late), day(5))


def test_what_had_not_reached_us_counts_only_for_the_world(logs: Logs) -> None:
    late = with_reports(logs, *(label(f"r004-{i:03d}", i % 2, 4.5, 6.0) for i in range(10)))

    ours, world = ask(late, day(5)), ask(late, day(5), by_arrival=False)

    assert (ours.num_pending, world.num_pending) == (40, 30)
    assert world.num_known == ours.num_known + 10
    assert (ours.knowledge, world.knowledge) == ("ours", "world")
    assert ask(late, day(6)).num_pending == 0


def test_a_revision_counts_from_when_it_came(logs: Logs) -> None:
    row = next(row for row, found in known_now(logs).items() if row > "r001" and found == 1)
    revised = with_reports(logs, label(row, 0, 3.0, 3.5), label(row, 0, 3.0, 3.6))

    before, after = ask(revised, day(3.4), (day(1), day(2))), ask(revised, day(5), (day(1), day(2)))

    assert (before.num_revised, after.num_revised) == (0, 1)
    assert before.performance is not None
    assert after.performance is not None
    assert before.performance.positive_share > after.performance.positive_share


def unbatched(logs: Logs, mean_days: float, seed: int) -> Logs:
    """The same rows, each label known and received on its own after a random delay."""
    draw = np.random.default_rng(seed)
    ids, times = (logs.predictions[name].to_pylist() for name in ("row_id", "prediction_time"))
    asked = dict(zip(ids, times, strict=True))
    come = [
        asked[row] + timedelta(draw.exponential(mean_days))
        for row in logs.labels["row_id"].to_pylist()
    ]
    labels = logs.labels
    for name in ("known_at", "received_at"):
        place = labels.schema.get_field_index(name)
        labels = labels.set_column(place, name, pa.array(come, TIMESTAMP))
    return replace(logs, labels=labels)


def test_what_should_have_come_and_is_still_to_come_agrees_with_what_then_came() -> None:
    days = joined(*(make_day(number, num_rows=200) for number in range(10)))
    slow = unbatched(days, mean_days=1.5, seed=3)

    then, later = ask(slow, day(9), (day(4), day(9))), ask(slow, day(10), (day(4), day(9)))

    expected = then.expected_coverage
    assert expected.low is not None
    assert expected.high is not None
    assert expected.low < then.coverage < expected.high
    came = then.num_pending - later.num_pending
    # Of some 300 pending ones, half; three standard errors of that count are 26.
    assert 100 < came < then.num_pending
    assert then.num_to_come_in_a_day == pytest.approx(came, abs=26)
    assert then.num_to_come_in_a_day < then.num_to_come <= then.num_pending


def test_a_window_is_mature_when_its_outcomes_should_have_come(logs: Logs) -> None:
    young, old = ask(logs, day(5)), ask(logs, day(8))

    assert not young.is_mature
    assert "not mature" in young.reasons[0]
    assert "later figures may differ" in young.reasons[0]
    assert old.is_mature
    assert old.num_pending == 0
    assert old.num_to_come == 0.0


def test_the_champions_answer_unless_a_version_is_asked_for(logs: Logs) -> None:
    other = make_day(2, seed=5, version="v9")
    names = pa.array([f"{row}+" for row in other.predictions["idempotency_key"].to_pylist()])
    arms = pa.array(["challenger"] * 40)
    rows = other.predictions.set_column(0, "idempotency_key", names)
    rows = rows.set_column(rows.schema.get_field_index("arm"), "arm", arms)
    both = replace(logs, predictions=pa.concat_tables([logs.predictions, rows]))

    assert ask(both, day(5)) == ask(logs, day(5))
    challenger = ask(both, day(5), version="v9")
    assert challenger.num_predictions == 40
    assert challenger.performance != ask(both, day(5), version="v1").performance
    assert ask(both, day(5), version="v0").num_predictions == 0


def test_the_champions_answers_are_those_of_control_group_and_fallback_too(logs: Logs) -> None:
    size = logs.predictions.num_rows
    arms = [("champion", "holdout", "fallback")[i % 3] for i in range(size)]
    place = logs.predictions.schema.get_field_index("arm")
    mixed = replace(logs, predictions=logs.predictions.set_column(place, "arm", pa.array(arms)))
    explored = replace(
        logs,
        predictions=logs.predictions.set_column(place, "arm", pa.array(["exploration"] * size)),
    )

    assert ask(mixed, day(5)) == ask(logs, day(5))
    assert ask(explored, day(5)).num_predictions == 0


def test_repeated_predictions_and_any_order_give_the_same_answer(logs: Logs) -> None:
    draw = np.random.default_rng(4)
    twice = pa.concat_tables([logs.predictions, logs.predictions.slice(30, 90)])
    labels = pa.concat_tables([logs.labels, logs.labels.slice(20, 70)])
    mixed = replace(
        logs,
        predictions=twice.take(draw.permutation(twice.num_rows)),
        labels=labels.take(draw.permutation(labels.num_rows)),
    )

    assert ask(mixed, day(5)) == ask(logs, day(5))


def test_a_prediction_made_after_the_time_asked_is_not_there(logs: Logs) -> None:
    served = logs.predictions["served_at"].to_pylist()
    served[45] = day(6)
    place = logs.predictions.schema.get_field_index("served_at")
    kind = logs.predictions.schema.field("served_at").type
    late = replace(
        logs, predictions=logs.predictions.set_column(place, "served_at", pa.array(served, kind))
    )

    assert ask(late, day(5)).num_predictions == 159
    assert ask(late, day(6)).num_predictions == 160


def test_too_few_outcomes_give_no_figures_and_say_so(logs: Logs) -> None:
    few = ask(logs, day(5), (day(1), day(1.2)))
    one_kind = replace(
        logs, labels=pa.concat_tables([label(f"r001-{i:03d}", 1, 2) for i in range(40)])
    )

    assert few.performance is None
    assert f"monitoring.min_labels asks for {CONFIG.min_labels}" in few.reasons[-1]
    assert "of one kind" in ask(one_kind, day(5)).reasons[-1]


def test_an_empty_window_is_an_answer(logs: Logs) -> None:
    empty = ask(logs, day(5), (day(-3), day(-2)))

    assert (empty.num_predictions, empty.coverage, empty.is_mature) == (0, 0.0, False)
    assert empty.expected_coverage.value is None
    assert empty.reasons[0] == "nothing was predicted in this window"


@pytest.mark.parametrize(
    ("window", "says"),
    [((day(3), day(3)), "earlier start"), ((day(3), day(6)), "earlier end")],
)
def test_a_question_without_an_answer_is_refused(
    window: tuple[datetime, datetime], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Question(*window, day(5))


def test_a_person_reads_counts_expectations_and_figures(logs: Logs) -> None:
    answer = ask(logs, day(5))
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(render_as_known(answer))
    text = capture.get()

    assert answer.performance is not None
    auc = answer.performance.roc_auc
    assert "rides as known to us at 2013-04-07 00:00 UTC" in text
    assert f"{answer.num_known} known, {answer.num_void} void, 40 pending: 75.0% closed" in text
    assert "40 more to come" in text
    assert f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})" in text
    assert "not mature" in text
