"""How far a run is: what is written beside it, what is read, what is told."""

import time
from pathlib import Path

import pytest

from app.training.following import Follower
from app.training.progress import FILE, ProgressWriter, Step, Watches, read_progress
from app.training.state import FitState
from tests.learning_world import make_config
from tests.progress_world import Heard, states

STATES = states()
CONFIG = make_config(Path(), epochs=3, patience=3, min_epochs=3).training


def test_a_record_within_an_epoch_says_how_much_is_left_at_most(tmp_path: Path) -> None:
    now = [100.0]
    writer = ProgressWriter(tmp_path, CONFIG, FitState(), lambda: now[0], "first")
    now[0] = 102.0
    writer.step(Step("search", 1, num_done=5, num_steps=20, num_rows=1000, loss=0.5))
    record = read_progress(tmp_path)
    assert record is not None
    assert (record.stage, record.epoch, record.num_epochs) == ("search", 1, 3)
    assert (record.done_share, record.loss, record.ended) == (0.25, 0.5, ())
    assert record.rows_per_second == 500
    # Three quarters of this epoch, two more, and a refit of up to three, of 4,000 rows each.
    assert record.rows_left == 3000 + 2 * 4000 + 3 * 4000
    assert record.seconds_left == record.rows_left / 500


def test_records_within_an_epoch_are_at_least_a_second_apart(tmp_path: Path) -> None:
    now = [0.0]
    writer = ProgressWriter(tmp_path, CONFIG, FitState(), lambda: now[0], "first")
    seen = []
    for number in range(1, 21):
        now[0] += 0.25
        writer.step(Step("search", 1, number, 20, number * 10, 0.5))
        record = read_progress(tmp_path)
        seen.append(record.done_share if record else 0)
    assert sorted(set(seen)) == [0.05, 0.25, 0.45, 0.65, 0.85]


def test_the_end_of_an_epoch_is_always_written_and_the_last_leaves_nothing(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path, CONFIG, FitState(), lambda: 0.0, "first")
    for number, state in enumerate(STATES, 1):
        writer.after_epoch(state)
        record = read_progress(tmp_path)
        assert record is not None
        assert len(record.ended) == number
        assert record.best_epoch == state.best_epoch
    assert (record.stage, record.rows_left) == ("refit", 0)


def test_a_worker_that_goes_on_says_after_how_many_epochs(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path, CONFIG, STATES[1], lambda: 0.0, "second")
    writer.after_epoch(STATES[2])
    record = read_progress(tmp_path)
    assert record is not None
    assert (record.attempt, record.num_before, len(record.ended)) == ("second", 2, 3)


def test_a_follower_tells_each_record_once_and_never_an_earlier_process_s(tmp_path: Path) -> None:
    ProgressWriter(tmp_path, CONFIG, FitState(), lambda: 0.0, "earlier").after_epoch(STATES[0])
    heard, also = Heard(), Heard()
    writer = ProgressWriter(tmp_path, CONFIG, FitState(), lambda: 0.0, "now")
    with Follower(tmp_path, Watches(heard, also), lambda: "waiting for a CPU"):
        deadline = time.monotonic() + 60
        while not heard.phases and time.monotonic() < deadline:
            time.sleep(0.05)
        writer.after_epoch(STATES[0])
        while not heard.records and time.monotonic() < deadline:
            time.sleep(0.05)
        writer.after_epoch(STATES[1])
    assert heard.phases == ["waiting for a CPU"]
    assert [len(record.ended) for record in heard.records] == [1, 2]
    assert also.records == heard.records
    assert {record.attempt for record in heard.records} == {"now"}


def test_a_record_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = ProgressWriter(tmp_path / "away", CONFIG, FitState(), lambda: 0.0, "first")
    writer.step(Step("search", 1, 1, 20, 10, 0.5))
    assert "progress of the run is not shown" in caplog.text
    assert read_progress(tmp_path / "away") is None


def test_a_record_that_cannot_be_read_is_no_record(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    (tmp_path / FILE).write_text('{"attempt": "a')
    assert read_progress(tmp_path) is None
