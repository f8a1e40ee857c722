import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from app.contracts.rows import Contract
from app.data.delta_log import LogUnusable, all_actions, checkpoints, data_files
from app.data.locks import exclusive
from app.data.replacement import is_interrupted
from app.data.rewriting import Rewritten, rewrite_versions
from app.data.tables import Tables
from tests.unit.data.interruptions import Killed, killed_after

NOON = datetime(2024, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)
GONE = "sender-of-canary"
# More than the changes that one rewriting of the history below makes.
MANY = 200


def labels(*row_ids: str, minute: int = 0) -> pa.Table:
    count = len(row_ids)
    content = {
        "row_id": list(row_ids),
        "label": [1] * count,
        "void": [False] * count,
        "known_at": [NOON] * count,
        "received_at": [NOON + timedelta(minutes=minute)] * count,
        "source": ["test"] * count,
    }
    return pa.table(content)


def others(rows: pa.Table) -> npt.NDArray[np.bool_]:
    kept: npt.NDArray[np.bool_] = pc.not_equal(rows["row_id"], GONE).to_numpy()
    return kept


def fill(tables: Tables) -> Tables:
    """Append, compact, checkpoint and append again: versions 0 to 8, four with the row to drop."""
    for i, ids in enumerate([("A", GONE, "B"), ("C",), (GONE,), ("D", "E")]):
        tables.append("labels", labels(*ids, minute=i), ("spool", i))
    tables.compact("labels")
    DeltaTable(tables.folder("labels")).create_checkpoint()
    tables.append("labels", labels("F", minute=5), ("spool", 5))
    tables.append("labels", labels("G", GONE, minute=6), ("spool", 6))
    DeltaTable(tables.folder("labels")).create_checkpoint()
    tables.append("labels", labels("H", minute=7), ("spool", 7))
    return tables


def by_version(tables: Tables) -> list[list[str]]:
    """Read the ids of every version as they come."""
    latest = tables.version("labels")
    return [tables.read("labels", v)["row_id"].to_pylist() for v in range(latest + 1)]


def without(versions: list[list[str]]) -> list[list[str]]:
    return [[row_id for row_id in ids if row_id != GONE] for ids in versions]


def find(folder: Path, text: str) -> list[str]:
    """Name the files whose bytes, or whose unpacked values, hold a text."""
    found = []
    for file in (f for f in folder.rglob("*") if f.is_file()):
        unpacked = ""
        if file.suffix == ".parquet":
            unpacked = str(pq.read_table(file).to_pylist())
        if text.encode() in file.read_bytes() or text in unpacked:
            found.append(file.name)
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_rows_are_gone_from_every_version_and_no_other_row_changes(tables: Tables) -> None:
    before = by_version(fill(tables))
    assert [GONE in ids for ids in before] == [False, *[True] * 8]
    whole = tables.read("labels")
    done = rewrite_versions(tables, "labels", others)
    assert by_version(tables) == without(before)
    assert tables.read("labels").equals(whole.filter(pa.array(others(whole))))
    assert done == Rewritten(table="labels", num_files=4, num_rows=3, num_copies=5)


def test_a_reader_from_outside_opens_every_version(tables: Tables) -> None:
    before = by_version(fill(tables))
    rewrite_versions(tables, "labels", others)
    for version, ids in enumerate(without(before)):
        outside = DeltaTable(tables.folder("labels"), version=version).to_pyarrow_table()
        assert sorted(outside["row_id"].to_pylist()) == sorted(ids)


def test_no_byte_of_the_rows_is_left_below_the_tables(tables: Tables) -> None:
    folder = fill(tables).root
    assert find(folder, GONE)
    rewrite_versions(tables, "labels", others)
    assert find(folder, GONE) == []
    assert find(folder, "A"), "the search finds nothing at all"


def test_the_log_tells_the_size_and_statistics_of_the_new_files(tables: Tables) -> None:
    folder = fill(tables).folder("labels")
    rewrite_versions(tables, "labels", others)
    adds = [a["add"] for _, commit in all_actions(folder) for a in commit if "add" in a]
    for add in adds:
        rows, stats = pq.read_table(folder / add["path"]), json.loads(add["stats"])
        assert add["size"] == (folder / add["path"]).stat().st_size
        assert stats["numRecords"] == rows.num_rows > 0
        bounds = [stats[side]["received_at"] for side in ("minValues", "maxValues")]
        low, high = (datetime.fromisoformat(bound) for bound in bounds)
        times = pc.min_max(rows["received_at"]).as_py()
        assert low <= times["min"]
        assert times["max"] <= high + timedelta(milliseconds=1)
    assert len(adds) == 7


def test_checkpoints_are_there_again_and_name_no_old_file(tables: Tables) -> None:
    folder = fill(tables).folder("labels")
    before, old = checkpoints(folder), set(data_files(folder))
    rewrite_versions(tables, "labels", others)
    replaced = old - set(data_files(folder))
    assert len(replaced) == 4
    assert checkpoints(folder) == before == [5, 7]
    assert not [name for name in replaced if find(folder / "_delta_log", name)]


def test_transactions_and_commit_order_are_kept(tables: Tables) -> None:
    fill(tables)
    rows, reached = tables.read_since("labels", -1)
    rewrite_versions(tables, "labels", others)
    assert tables.append("labels", labels("again"), ("spool", 7)) is None
    after = tables.read_since("labels", -1)
    assert after == (rows.filter(pa.array(others(rows))), reached)


def test_doing_it_again_changes_nothing(tables: Tables) -> None:
    rewrite_versions(fill(tables), "labels", others)
    before = content(tables.root)
    assert rewrite_versions(tables, "labels", others) == Rewritten(table="labels")
    assert content(tables.root) == before


def test_a_table_that_was_never_written_has_nothing_to_drop(tables: Tables) -> None:
    assert rewrite_versions(tables, "labels", others) == Rewritten(table="labels")
    assert tables.version("labels") == -1


def test_files_that_no_version_names_are_deleted(tables: Tables) -> None:
    folder = fill(tables).folder("labels")
    for name in ("part-of-a-killed-writer.parquet", "part-1.parquet#1"):
        pq.write_table(labels(GONE), folder / name)
    before = by_version(tables)
    done = rewrite_versions(tables, "labels", lambda rows: np.ones(rows.num_rows, bool))
    assert (done.num_files, done.num_unnamed) == (0, 2)
    assert by_version(tables) == before


def test_the_predicate_of_a_deletion_does_not_stay_in_the_log(tables: Tables) -> None:
    folder = fill(tables).folder("labels")
    DeltaTable(folder).delete(f"row_id = '{GONE}'")
    before = by_version(tables)
    rewrite_versions(tables, "labels", others)
    assert find(folder, GONE) == []
    assert by_version(tables) == without(before)


def test_it_ends_at_any_point_and_readers_see_all_versions_before_or_after(
    tmp_path: Path, parcels: Contract
) -> None:
    states = set()
    for point in range(MANY):
        tables = fill(Tables(tmp_path / str(point), parcels))
        before = by_version(tables)
        try:
            with killed_after(point, tables.folder("labels")):
                rewrite_versions(tables, "labels", others)
        except Killed:
            begun = is_interrupted(tables.folder("labels"))
            seen = by_version(tables)
            assert seen in ([before, without(before)] if not begun else [without(before)])
            states.add((begun, seen == before))
            rewrite_versions(tables, "labels", others)
        else:
            break
        assert by_version(tables) == without(before)
        assert find(tables.root, GONE) == []
    assert 20 < point < MANY - 1
    assert states == {(False, True), (True, False)}


def _rewrite_and_die(root: Path, parcels: Contract, point: int) -> None:
    tables = Tables(root, parcels)
    with killed_after(point, tables.folder("labels"), hard=True):
        rewrite_versions(tables, "labels", others)


@pytest.mark.parametrize("point", [2, 5, 12, 17])
def test_it_resumes_after_its_process_was_killed(
    tables: Tables, parcels: Contract, point: int
) -> None:
    before = by_version(fill(tables))
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_rewrite_and_die, args=(tables.root, parcels, point))
    process.start()
    process.join()
    assert process.exitcode == -9
    tables.append("labels", labels("later"), ("spool", 8))
    rewrite_versions(tables, "labels", others)
    assert by_version(tables)[:-1] == without(before)
    assert by_version(tables)[-1] == ["later", *without(before)[-1]]
    assert find(tables.root, GONE) == []


def test_an_append_waits_until_the_table_is_whole(tables: Tables) -> None:
    fill(tables)
    with ThreadPoolExecutor(2) as pool:
        with exclusive(tables.folder("labels")):
            appended = pool.submit(tables.append, "labels", labels("late"))
            read = pool.submit(tables.read, "labels")
            with pytest.raises(TimeoutError):
                appended.result(timeout=0.5)
            assert not read.done()
        assert appended.result(timeout=60) == 9
        assert read.result(timeout=60).num_rows >= 11


def test_appends_and_reads_that_race_with_it_lose_nothing(tables: Tables) -> None:
    fill(tables)

    def write(number: int) -> None:
        tables.append("labels", labels(f"W{number}", GONE))
        tables.read("labels", 3)

    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(write, number) for number in range(12)]
        for _ in range(4):
            rewrite_versions(tables, "labels", others)
        for future in writing:
            future.result()
    rewrite_versions(tables, "labels", others)
    ids = tables.read("labels")["row_id"].to_pylist()
    assert sorted(ids) == sorted([*"ABCDEFGH", *(f"W{n}" for n in range(12))])


def test_a_rule_that_does_not_judge_each_row_is_refused(tables: Tables) -> None:
    before = by_version(fill(tables))
    with pytest.raises(ValueError, match=r"keep must return \d booleans, one a row"):
        rewrite_versions(tables, "labels", lambda rows: np.ones(1 + rows.num_rows, bool))
    assert by_version(tables) == before


def test_a_log_without_its_beginning_is_refused(tables: Tables) -> None:
    folder = fill(tables).folder("labels")
    (folder / "_delta_log" / f"{2:020d}.json").unlink()
    with pytest.raises(LogUnusable, match="lacks version 2"):
        rewrite_versions(tables, "labels", others)
