import multiprocessing
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import create_engine, inspect, text

from app.ledger import (
    clock,
    database,
    decisions,
    epochs,
    erasures,
    evidence,
    journal,
    losses,
    progress,
    states,
    usage,
)
from app.ledger.database import UtcTime, open_ledger
from app.ledger.migrations import STEPS, LedgerMismatch, Step, migrate
from app.registry import marks, replicas, store

NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)


def url(folder) -> str:
    return f"sqlite:///{folder / 'ledger.sqlite'}"


def _open_and_count(address: str, start, results) -> None:
    start.wait()
    ledger = open_ledger(address)
    for _ in range(20):
        epochs.take_epoch(ledger, "counter")
    results.put("done")


def test_many_processes_may_open_and_write_a_new_ledger_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    workers = [
        context.Process(target=_open_and_count, args=(url(tmp_path), start, results))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    start.set()
    assert [results.get(timeout=60) for _ in workers] == ["done"] * 3
    assert epochs.take_epoch(open_ledger(url(tmp_path)), "counter") == 61


def _append_and_fail(connection) -> None:
    journal.append(connection, "m", "k", {}, NOON)
    raise ValueError("naive")


def test_an_error_undoes_the_whole_transaction(tmp_path):
    ledger = open_ledger(url(tmp_path))
    with pytest.raises(ValueError, match="naive"), ledger.transaction() as connection:
        _append_and_fail(connection)
    assert journal.entries(ledger, "m") == []


def test_what_a_writer_reads_stays_true_until_it_commits(tmp_path):
    ledger = open_ledger(url(tmp_path))
    order = []

    def second() -> None:
        with ledger.transaction():
            order.append("second")

    with ledger.transaction():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_sqlite_is_durable_and_lets_readers_read(tmp_path):
    with open_ledger(url(tmp_path)).reading() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2


def test_opening_again_migrates_nothing(tmp_path):
    ledger = open_ledger(url(tmp_path))
    with ledger.transaction() as connection:
        assert migrate(connection) == []


def test_a_new_step_is_applied_once_and_an_edited_one_is_refused(tmp_path):
    ledger = open_ledger(url(tmp_path))
    number = max(step.number for step in STEPS) + 1
    second = Step(number, "a column", ("ALTER TABLE epochs ADD COLUMN holder TEXT",))
    with ledger.transaction() as connection:
        assert migrate(connection, (*STEPS, second)) == [number]
    with ledger.transaction() as connection:
        assert migrate(connection, (*STEPS, second)) == []
    edited = second._replace(statements=("ALTER TABLE epochs ADD COLUMN owner TEXT",))
    with pytest.raises(LedgerMismatch, match=f"step {number}"), ledger.transaction() as connection:
        migrate(connection, (*STEPS, edited))
    with pytest.raises(LedgerMismatch, match="newer"):
        open_ledger(url(tmp_path))


def test_every_table_is_queried_by_the_columns_that_it_has(tmp_path):
    open_ledger(url(tmp_path))
    schema = inspect(create_engine(url(tmp_path)))
    tables = [
        clock.CLOCK, decisions.DECISIONS, epochs.EPOCHS, evidence.EVIDENCE, evidence.FOLDS,
        journal.JOURNAL, progress.PROGRESS, states.STATES, store.ROLES, store.VERSIONS,
        replicas.REPLICAS, erasures.ERASURES, erasures.STEPS, erasures.TOMBSTONES,
        erasures.REDUCTIONS, marks.MARKS, usage.USAGE, losses.LOSSES,
    ]  # fmt: skip
    for table in tables:
        there = {column["name"] for column in schema.get_columns(table.name)}
        assert {column.name for column in table.columns} == there
    assert set(schema.get_table_names()) == {table.name for table in tables} | {"migrations"}


def test_times_are_kept_as_utc_text_in_time_order():
    write = UtcTime().process_bind_param
    eastern = NOON.astimezone(timezone(timedelta(hours=-5)))
    assert write(eastern, None) == write(NOON, None) == "2013-04-01T12:00:00.000000+00:00"
    moments = [datetime.min.replace(tzinfo=UTC), NOON, NOON + timedelta(microseconds=1)]
    assert sorted(write(moment, None) for moment in moments) == [write(m, None) for m in moments]
    assert UtcTime().process_result_value(write(NOON, None), None) == NOON
    with pytest.raises(ValueError, match="timezone-aware"):
        write(datetime(2013, 4, 1), None)


def test_a_purged_ledger_holds_no_byte_of_what_was_deleted(tmp_path):
    ledger = open_ledger(url(tmp_path))
    with ledger.transaction() as connection:
        for number in range(50):
            connection.execute(text("INSERT INTO epochs VALUES (:name, 1)"), {
                "name": f"somebody-{number:04d}" + "x" * 2000})  # fmt: skip
    with ledger.transaction() as connection:
        connection.execute(text("DELETE FROM epochs"))
    files = lambda: b"".join(f.read_bytes() for f in tmp_path.iterdir())  # noqa: E731
    assert b"somebody-0007" in files()
    ledger.purge()
    assert b"somebody" not in files()
    assert epochs.take_epoch(ledger, "counter") == 1


def test_a_ledger_that_somebody_reads_is_not_purged_silently(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_PURGE_SECONDS", 0.1)
    ledger, other = open_ledger(url(tmp_path)), open_ledger(url(tmp_path))
    epochs.take_epoch(ledger, "counter")
    with other.reading() as connection:
        connection.execute(text("SELECT count(*) FROM epochs")).scalar()
        with pytest.raises(database.LedgerBusy, match="try again later"):
            ledger.purge()
    ledger.purge()
