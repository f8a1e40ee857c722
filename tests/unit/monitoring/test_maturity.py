from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from app.contracts.records import Evidence
from app.contracts.rows import TIMESTAMP
from app.monitoring.maturity import learn
from app.sections import MonitoringConfig
from tests.unit.monitoring.logs import CONFIG, Logs, Run, day, joined, make_day, without_labels

LEARNED = CONFIG.model_copy(update={"maturity": "learned"})


def later(logs: Logs, **days: float) -> Logs:
    """The same day with its labels known, or received, so many days later."""
    labels = logs.labels
    for name, more in days.items():
        place = labels.schema.get_field_index(name)
        moved = pc.add(labels[name], pa.scalar(timedelta(more), pa.duration("us")))
        labels = labels.set_column(place, name, moved.cast(TIMESTAMP))
    return replace(logs, labels=labels)


def slow_days(num_days: int, known_at: float = 3.0, received_at: float = 3.0) -> list[Logs]:
    """Days whose labels are known and received so much later than make_day's."""
    days = (make_day(number) for number in range(num_days))
    return [later(logs, known_at=known_at, received_at=received_at) for logs in days]


def last_evidence(config: MonitoringConfig, days: list[Logs]) -> Evidence:
    run = Run(config)
    for number, logs in enumerate(days):
        run.fold(logs).judge(day(number + 1))
    return run.evidence[-1]


def test_a_fixed_maturity_is_used_as_configured_and_the_learned_one_is_reported() -> None:
    found = last_evidence(CONFIG, slow_days(13))

    assert found.maturity is not None
    assert (found.maturity.mode, found.maturity.days) == ("fixed", 1.0)
    # Labels arrive 3.46 days after the day of their row has ended; the rows are spread over it.
    assert found.maturity.learned_days.value == pytest.approx(3.46 + 0.95, abs=0.05)
    # Predictions of days 6 to 11 count, but only those of days 6 to 8 have their outcome.
    assert found.coverage == pytest.approx(3 / 6)
    assert found.maturity.expected_coverage.value == 0.0


def test_a_learned_maturity_waits_until_the_outcomes_have_come() -> None:
    days = slow_days(13)
    found = last_evidence(LEARNED, days)

    assert found.maturity is not None
    assert found.maturity.mode == "learned"
    assert 4.4 <= found.maturity.days < 4.5
    asked = joined(*days).predictions["prediction_time"].to_pylist()
    old = [at for at in asked if day(6) <= at < day(13) - timedelta(found.maturity.days)]
    assert found.coverage == 1.0
    assert found.num_known + found.num_void == len(old) > 80
    assert found.maturity.expected_coverage.low is not None
    assert found.maturity.expected_coverage.low >= CONFIG.maturity_coverage


def test_a_label_matures_when_it_reaches_us() -> None:
    found = last_evidence(LEARNED, slow_days(13, known_at=0.0, received_at=2.0))

    assert found.maturity is not None
    assert 3.4 <= found.maturity.days < 3.5
    assert found.coverage == 1.0


def test_while_outcomes_say_too_little_the_configured_age_stands_and_it_says_so() -> None:
    found = last_evidence(LEARNED, [without_labels(make_day(number)) for number in range(3)])

    assert found.maturity is not None
    assert (found.maturity.mode, found.maturity.days) == ("fixed", 1.0)
    assert found.maturity.num_closed == 0
    assert "not seen to reach 95% with confidence" in found.maturity.reason
    assert "maturity_days says 1" in found.maturity.reason


def test_outcomes_slower_than_the_window_judge_nothing_and_say_what_to_raise() -> None:
    found = last_evidence(LEARNED, slow_days(17, known_at=7.5, received_at=7.5))

    assert found.maturity is not None
    assert found.maturity.days > CONFIG.window_days
    assert (found.num_known, found.performance) == (0, None)
    assert "monitoring.window_days, raise it" in found.maturity.reason


def test_a_lower_target_matures_earlier() -> None:
    days = slow_days(13)
    half = last_evidence(LEARNED.model_copy(update={"maturity_coverage": 0.5}), days).maturity
    most = last_evidence(LEARNED, days).maturity

    assert half is not None
    assert most is not None
    assert half.days < most.days - 0.4


def test_what_comes_after_the_time_asked_teaches_nothing() -> None:
    logs = joined(*(make_day(number) for number in range(9)))
    early = joined(*(make_day(number) for number in range(5)))

    whole = learn(logs.predictions, logs.labels, day(5), CONFIG).maturity

    assert whole == learn(early.predictions, early.labels, day(5), CONFIG).maturity
    assert whole.num_rows == 200
    assert whole.num_closed == 160


def test_delays_in_the_world_are_shorter_than_those_until_arrival() -> None:
    logs = joined(*slow_days(12, known_at=0.0, received_at=2.0))

    ours = learn(logs.predictions, logs.labels, day(12), CONFIG).maturity
    world = learn(logs.predictions, logs.labels, day(12), CONFIG, by_arrival=False).maturity

    assert ours.learned_days.value is not None
    assert world.learned_days.value is not None
    assert ours.learned_days.value == pytest.approx(world.learned_days.value + 2 + 1 / 24, abs=0.05)
