from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.contracts.rows import Contract
from app.data import compaction
from app.data.commits import LiveFile, live_files, open_table
from app.data.compaction import plan_compaction
from app.data.delta_log import data_files
from app.data.sealing import Sealing, key_of
from app.data.tables import Tables
from app.security.keyring import FileKeyring

NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)


def labels(first: int, count: int = 2) -> pa.Table:
    content = {
        "row_id": [f"P{first + i}" for i in range(count)],
        "label": [1] * count,
        "void": [False] * count,
        "known_at": [NOON] * count,
        "received_at": [NOON + timedelta(minutes=first)] * count,
        "source": ["test"] * count,
    }
    return pa.table(content)


def live(tables: Tables) -> list[LiveFile]:
    table = open_table(tables.folder("labels"))
    assert table is not None
    return live_files(table)


def test_few_or_large_files_are_left_alone() -> None:
    files = [LiveFile("a", 5, 1), LiveFile("b", 50, 1), LiveFile("c", 5, 1)]
    assert plan_compaction(files, 10, 2) == []
    assert plan_compaction(files, 10, 1) == [[files[0], files[2]]]
    assert plan_compaction(files[1:], 10, 0) == []


def test_many_small_files_become_one_with_the_same_rows_in_their_order(tables: Tables) -> None:
    for first in range(0, 20, 2):
        tables.append("labels", labels(first), ("spool", first))
    rows, versions = tables.read_since("labels", -1)[0], [tables.read("labels", v) for v in (3, 10)]
    assert tables.compact("labels") == 11
    (merged,) = live(tables)
    assert pq.ParquetFile(tables.folder("labels") / merged.path).num_row_groups == 1
    assert tables.read("labels").equals(rows)
    assert [tables.read("labels", v) for v in (3, 10)] == versions
    assert tables.append("labels", labels(99), ("spool", 18)) is None


def test_a_table_with_few_small_files_gets_no_commit(tables: Tables) -> None:
    for first in range(3):
        tables.append("labels", labels(first))
    assert tables.compact("labels", max_small_files=3) == 3
    assert tables.compact("labels", small_bytes=10) == 3
    assert tables.compact("labels", max_small_files=2) == 4
    assert tables.compact("predictions") == -1


def test_row_groups_grow_to_a_size_and_not_beyond(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "ROW_GROUP_ROWS", 7)
    for first in range(0, 20, 2):
        tables.append("labels", labels(first))
    tables.compact("labels")
    file = pq.ParquetFile(tables.folder("labels") / live(tables)[0].path)
    rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert rows == [8, 8, 4]


def test_compaction_races_with_appends_and_another_compaction_and_loses_nothing(
    tables: Tables,
) -> None:
    tables.append("labels", labels(1000))
    with ThreadPoolExecutor(4) as pool:
        appends = [pool.submit(tables.append, "labels", labels(2 * n)) for n in range(20)]
        compactions = [pool.submit(tables.compact, "labels") for _ in range(6)]
        versions = [future.result() for future in appends]
        for future in compactions:
            future.result()
    assert None not in versions
    assert len(set(versions)) == 20
    ids = tables.read("labels")["row_id"].to_pylist()
    assert sorted(ids) == sorted([*(f"P{n}" for n in range(40)), "P1000", "P1001"])
    assert sorted(tables.read_since("labels", -1)[0]["row_id"].to_pylist()) == sorted(ids)


def test_sealed_files_are_merged_to_a_sealed_file(tables: Tables, parcels: Contract) -> None:
    ring = FileKeyring(tables.root.parent / "keyring.json")
    sealed = Tables(tables.root, parcels, Sealing(ring, at_rest=True))
    content = {
        "row": ["row canary"],
        "reasons": [["heavy"]],
        "position": [1],
        "source": ["test"],
        "ingested_at": [NOON],
    }
    for _ in range(3):
        sealed.append("quarantine", pa.table(content))
    sealed.compact("quarantine")
    files = data_files(sealed.folder("quarantine"))
    assert [key_of(file) for file in files] == [ring.current()] * 4
    assert sealed.read("quarantine")["row"].to_pylist() == ["row canary"] * 3
    contents = ((sealed.folder("quarantine") / file).read_bytes() for file in files)
    assert not any(b"row canary" in content for content in contents)
