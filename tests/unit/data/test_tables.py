import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from app.contracts.rows import Contract
from app.data.tables import Tables
from app.data.validation import validate_rows

NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)
Make = Callable[..., dict[str, object]]


def labels(*row_ids: str) -> pa.Table:
    count = len(row_ids)
    content = {
        "row_id": list(row_ids),
        "label": [1] * count,
        "void": [False] * count,
        "known_at": [NOON] * count,
        "received_at": [NOON] * count,
        "source": ["test"] * count,
    }
    return pa.table(content)


def test_a_table_that_was_never_written_is_empty_and_has_a_schema(tables: Tables) -> None:
    assert tables.version("labels") == -1
    assert tables.transaction("labels", "spool-1") is None
    assert tables.read("labels").schema.equals(tables.schema("labels"))
    assert tables.read_since("labels", -1) == (tables.schema("labels").empty_table(), -1)


def test_appended_rows_come_back_in_the_schema(tables: Tables) -> None:
    version = tables.append("labels", labels("P0", "P1"))
    assert version == tables.version("labels") == 1
    assert tables.read("labels").schema.equals(tables.schema("labels"))
    assert tables.read("labels", columns=["row_id"])["row_id"].to_pylist() == ["P0", "P1"]


def test_the_same_transaction_is_in_once(tables: Tables) -> None:
    assert tables.append("labels", labels("P0"), ("spool-1", 1)) == 1
    assert tables.append("labels", labels("P0"), ("spool-1", 1)) is None
    assert tables.append("labels", labels("P1"), ("spool-1", 2)) == 2
    assert tables.append("labels", labels("P2"), ("spool-2", 1)) == 3
    assert tables.read("labels")["row_id"].to_pylist().sort() == ["P0", "P1", "P2"].sort()
    assert tables.read("labels").num_rows == 3
    assert tables.transaction("labels", "spool-1") == 2


def test_writers_that_race_with_one_transaction_write_it_once(
    tmp_path: Path, parcels: Contract
) -> None:
    def write(number: int) -> int | None:
        return Tables(tmp_path, parcels).append(
            "labels", labels(f"P{number % 4}"), (f"s{number % 4}", 7)
        )

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(write, range(16)))
    rows = Tables(tmp_path, parcels).read("labels")["row_id"].to_pylist()
    assert sorted(rows) == ["P0", "P1", "P2", "P3"]
    assert sum(version is not None for version in versions) == 4


def test_writers_that_race_lose_nothing(tmp_path: Path, parcels: Contract) -> None:
    def write(number: int) -> int | None:
        return Tables(tmp_path, parcels).append("labels", labels(f"P{number}"))

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(write, range(24)))
    assert sorted(versions) == list(range(1, 25))
    assert Tables(tmp_path, parcels).read("labels").num_rows == 24


def test_a_version_can_be_read_again(tables: Tables) -> None:
    first = tables.append("labels", labels("P0"))
    tables.append("labels", labels("P1"))
    assert tables.read("labels", first)["row_id"].to_pylist() == ["P0"]


def test_reading_since_gives_each_row_once_in_commit_order(tables: Tables) -> None:
    seen, after = [], -1
    for i in range(5):
        tables.append("labels", labels(f"P{i}"))
        rows, after = tables.read_since("labels", after)
        seen += rows["row_id"].to_pylist()
    assert seen == ["P0", "P1", "P2", "P3", "P4"]
    assert tables.read_since("labels", -1)[0]["row_id"].to_pylist() == seen
    assert tables.read_since("labels", after)[0].num_rows == 0


def test_compaction_changes_files_and_no_row(tables: Tables) -> None:
    for i in range(5):
        tables.append("labels", labels(f"P{i}"))
    before = tables.version("labels")
    reached = tables.compact("labels")
    assert reached == before + 1
    assert tables.read_since("labels", before) == (tables.schema("labels").empty_table(), reached)
    assert sorted(tables.read("labels")["row_id"].to_pylist()) == ["P0", "P1", "P2", "P3", "P4"]
    assert tables.read("labels", 2).num_rows == 2


def test_more_commits_than_a_checkpoint_holds_are_all_read(tables: Tables) -> None:
    for i in range(105):
        tables.append("labels", labels(f"P{i}"), ("spool", i))
    assert tables.read_since("labels", -1)[0].num_rows == 105
    assert tables.append("labels", labels("P104"), ("spool", 104)) is None


def test_filters_choose_rows(tables: Tables) -> None:
    tables.append("labels", labels("P0", "P1", "P2"))
    one = tables.read("labels", filters=[("row_id", "=", "P1")])
    other = tables.read("labels", filters=pc.field("row_id") == "P1")
    assert one.equals(other)
    assert one["row_id"].to_pylist() == ["P1"]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (labels("P0").drop_columns("void"), "void"),
        (labels("P0").append_column("colour", [["red"]]), "colour"),
        (labels("P0").set_column(1, "label", [[300]]), "300"),
        (labels("P0").set_column(0, "row_id", [pa.array([None], pa.string())]), "row_id"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_not_written(
    tables: Tables, rows: pa.Table, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        tables.append("labels", rows)
    assert tables.read("labels").num_rows == 0


def test_accepted_rows_get_their_prediction_time_and_origin(
    tables: Tables, parcels: Contract, parcel: Make
) -> None:
    accepted = validate_rows([parcel(0)], parcels).accepted
    tables.append("events", tables.complete("events", accepted, NOON, "serving"))
    (row,) = tables.read("events").to_pylist()
    assert row["prediction_time"] == datetime(2024, 3, 1, 9, 30, tzinfo=UTC)
    assert row["ingested_at"] == NOON
    assert row["source"] == "serving"


def test_quarantined_rows_are_kept_with_reasons_and_position(
    tables: Tables, parcels: Contract, parcel: Make
) -> None:
    quarantined = validate_rows([parcel(0), parcel(1, weight=-1)], parcels).quarantined
    tables.append("quarantine", tables.complete("quarantine", quarantined, NOON, "ingest:abc"))
    (row,) = tables.read("quarantine").to_pylist()
    assert row["position"] == 1
    assert row["reasons"] == ["weight must be in 0..40, got -1.0"]


def test_no_value_of_a_row_stands_in_the_log(
    tables: Tables, parcels: Contract, parcel: Make
) -> None:
    accepted = validate_rows([parcel(0, sender="p_0123456789abcdef")], parcels).accepted
    tables.append("events", tables.complete("events", accepted, NOON, "serving"))
    log = "".join(p.read_text() for p in (tables.root / "events" / "_delta_log").glob("*.json"))
    assert "p_0123456789abcdef" not in log
    assert "P0" not in log


def _write_from_a_process(root: Path, parcels: Contract, number: int) -> None:
    for i in range(5):
        Tables(root, parcels).append("labels", labels(f"P{number}-{i}"), ("shared", i))


def test_processes_that_race_write_a_transaction_once(tmp_path: Path, parcels: Contract) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_write_from_a_process, args=(tmp_path, parcels, n)) for n in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    rows = Tables(tmp_path, parcels).read("labels")["row_id"].to_pylist()
    assert sorted(row.split("-")[1] for row in rows) == ["0", "1", "2", "3", "4"]
