import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from app.contracts.rows import Contract
from app.data.delta_log import Action, data_files
from app.data.retention import Needs, Retained, plan_retention, retain
from app.data.rewriting import rewrite_versions
from app.data.snapshots import SnapshotAltered, load_snapshot, take_snapshot
from app.data.tables import Tables, VersionGone
from app.data.validation import validate_rows
from tests.unit.data.interruptions import Killed, killed_after

START = datetime(2024, 3, 1, tzinfo=UTC)
END = datetime(2024, 4, 1, tzinfo=UTC)
NOON = datetime(2024, 4, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
Make = Callable[..., dict[str, object]]
Fill = Callable[..., None]


@pytest.fixture
def fill(tables: Tables, parcels: Contract, parcel: Make) -> Fill:
    """A function that appends numbered parcels to events, each in a file of its own."""

    def append(*numbers: int) -> None:
        for number in numbers:
            accepted = validate_rows([parcel(number)], parcels).accepted
            at = NOON + timedelta(minutes=number)
            tables.append("events", tables.complete("events", accepted, at, "test"))

    return append


def commit(day: int, adds: str = "", removes: str = "", *, is_new: bool = True) -> list[Action]:
    at = START + day * DAY
    return [
        {"commitInfo": {"timestamp": int(at.timestamp() * 1000)}},
        *({"add": {"path": path, "dataChange": is_new}} for path in adds),
        *({"remove": {"path": path}} for path in removes),
    ]


# Files a, b, c are merged to m on day 4; then d, e; all merged to n on day 8.
LOG = list(
    enumerate(
        [
            commit(0),
            commit(1, "a"),
            commit(2, "b"),
            commit(3, "c"),
            commit(4, "m", "abc", is_new=False),
            commit(5, "d"),
            commit(6, "e"),
            commit(8, "n", "mde", is_new=False),
        ]
    )
)


@pytest.mark.parametrize(
    ("needs", "unneeded"),
    [
        (Needs(), "abcmde"),
        (Needs(pinned={2}), "cmde"),
        (Needs(pinned={2, 4}), "cde"),
        (Needs(pinned={5}), "abce"),
        (Needs(pinned={7}), "abcmde"),
        (Needs(since=START + 7 * DAY), "abc"),
        (Needs(since=START + 4 * DAY), "abc"),
        (Needs(since=START + 3.5 * DAY), ""),
        (Needs(since=START + 9 * DAY), "abcmde"),
        (Needs(since=START - DAY), ""),
        (Needs(read_until=5), "abcmd"),
        (Needs(read_until=2), "abm"),
        (Needs(read_until=-1), "m"),
        (Needs(read_until=7), "abcmde"),
        (Needs(pinned={1}, since=START + 7 * DAY, read_until=2), "b"),
    ],
)
def test_what_no_pin_no_age_and_no_reader_needs_may_go(needs: Needs, unneeded: str) -> None:
    assert plan_retention(LOG, needs) == set(unneeded)


def test_every_kept_version_is_whole_whatever_is_asked() -> None:
    """A brute force over all ages and pins: a version that must be readable has all its files."""
    live: list[set[str]] = [set()]
    for _, actions in LOG[1:]:
        gone = {a["remove"]["path"] for a in actions if "remove" in a}
        live.append(live[-1] - gone | {a["add"]["path"] for a in actions if "add" in a})
    times = [datetime.fromtimestamp(a[0]["commitInfo"]["timestamp"] / 1000, UTC) for _, a in LOG]
    for hours in range(-12, 24 * 10, 6):
        since = START + timedelta(hours=hours)
        recent = {v for v in range(8) if v == 7 or times[v + 1] > since}
        for pinned in ({}, {1}, {3, 5}, {4}):
            unneeded = plan_retention(LOG, Needs(pinned, since))
            for version in {*recent, *pinned}:
                assert not live[version] & unneeded
            kept = set().union(*(live[version] for version in {*recent, *pinned}))
            assert unneeded == set("abcmden") - kept


def test_a_pinned_snapshot_gives_its_digest_and_an_unpinned_one_is_refused(
    tables: Tables, parcels: Contract, fill: Fill
) -> None:
    fill(0, 1)
    forgotten = take_snapshot(tables, parcels, START, END, NOON)
    tables.compact("events")
    fill(2)
    pinned = take_snapshot(tables, parcels, START, END, NOON)
    fill(3)
    tables.compact("events")
    now = take_snapshot(tables, parcels, START, END, NOON)
    done = retain(tables, "events", Needs({pinned.events_version}))
    assert done.num_files == 3
    assert done.num_bytes > 0
    assert load_snapshot(tables, parcels, pinned).num_rows == pinned.num_rows == 3
    assert load_snapshot(tables, parcels, now).num_rows == 4
    with pytest.raises(SnapshotAltered, match=r"files of version 2 are gone; retention keeps"):
        load_snapshot(tables, parcels, forgotten)
    with pytest.raises(VersionGone, match="files of version 1 are gone"):
        tables.read("events", version=1)


def test_doing_it_again_deletes_nothing_and_age_keeps_all(tables: Tables, fill: Fill) -> None:
    fill(0, 1)
    tables.compact("events")
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    assert retain(tables, "events", Needs(since=long_ago)) == Retained(table="events")
    assert retain(tables, "events", Needs()).num_files == 2
    assert retain(tables, "events", Needs()) == Retained(table="events")
    assert retain(tables, "labels", Needs()) == Retained(table="labels")


def test_files_of_killed_writers_go_and_those_of_the_log_stay(tables: Tables, fill: Fill) -> None:
    fill(0)
    orphan = tables.folder("events") / "part-0.parquet"
    orphan.write_bytes(b"half a file")
    assert retain(tables, "events", Needs(since=START)).num_files == 1
    assert not orphan.exists()
    assert tables.read("events").num_rows == 1


def test_a_reader_that_begins_gets_every_row_and_one_that_fell_behind_is_told(
    tables: Tables, fill: Fill
) -> None:
    fill(2, 0, 1)
    tables.compact("events")
    fill(3)
    retain(tables, "events", Needs())
    rows, reached = tables.read_since("events", -1)
    assert rows["parcel"].to_pylist() == ["P0", "P1", "P2", "P3"]
    assert reached == tables.version("events") == 5
    assert tables.read_since("events", 3)[0]["parcel"].to_pylist() == ["P3"]
    with pytest.raises(VersionGone, match="after version 1 are gone"):
        tables.read_since("events", 1)


def test_it_ends_at_any_point_and_what_is_needed_stays(
    tmp_path: Path, parcels: Contract, tables: Tables, fill: Fill
) -> None:
    fill(0, 1, 2)
    tables.compact("events")
    whole = tables.read("events")
    for point in range(9):
        try:
            with killed_after(point, tables.folder("events")):
                retain(tables, "events", Needs({1}))
        except Killed:
            assert tables.read("events").equals(whole)
            assert tables.read("events", 1).num_rows == 1
        else:
            break
        fill(10 + point)
        tables.compact("events")
        whole = tables.read("events")
    assert 1 < point < 9


def test_rows_are_dropped_from_the_versions_that_retention_left(tables: Tables, fill: Fill) -> None:
    fill(0, 1)
    tables.compact("events")
    retain(tables, "events", Needs({1}))
    done = rewrite_versions(
        tables, "events", lambda rows: pc.not_equal(rows["parcel"], "P0").to_numpy()
    )
    assert (done.num_rows, done.num_copies) == (1, 2)
    assert tables.read("events")["parcel"].to_pylist() == ["P1"]
    assert tables.read("events", 1).num_rows == 0
    assert len(data_files(tables.folder("events"))) == 1


def test_the_age_of_a_version_is_the_time_of_its_commit(tables: Tables, fill: Fill) -> None:
    fill(0)
    log = tables.folder("events") / "_delta_log" / f"{1:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    stamps = [a["commitInfo"]["timestamp"] for a in actions if "commitInfo" in a]
    assert len(stamps) == 1
    at = datetime.fromtimestamp(stamps[0] / 1000, UTC)
    tables.compact("events")
    fill(1)
    tables.compact("events")
    assert retain(tables, "events", Needs(since=at + timedelta(milliseconds=1))).num_files == 0
    assert pa.types.is_timestamp(tables.read("events")["ingested_at"].type)
