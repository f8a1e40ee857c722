"""Outcomes that come before their rows are taken up when the rows are there: each once."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.contracts.rows import TIMESTAMP, Contract
from app.data import readmission
from app.data.admitting import commit_delivery, plan_of
from app.data.deliveries import Delivery
from app.data.intake import FOREVER
from app.data.judging import Judging, read_seen, stage_outcomes
from app.data.labels import known_labels
from app.data.pieces import Rows
from app.data.readmission import LOOKED_THROUGH, Waiting, may_readmit, readmit
from app.data.seen import SeenIds
from app.data.settling import Settled, settle_outcomes
from app.data.stagedfiles import StagedFiles
from app.data.tables import Tables
from app.data.validation import validate_labels
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones
from tests.unit.data.interruptions import Killed, killed_after

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
KEY = SecretBytes(b"k" * 32)
NOBODY = Tombstones(KEY)
START = datetime(2024, 4, 1, tzinfo=UTC)
LATER = START + timedelta(days=300)
BLOCK_ROWS = 2
Told = tuple[str, int | None, int]


class World:
    """Tables into which rows and outcomes come, an hour apart, judged as an ingest judges them."""

    def __init__(self, root: Path, contract: Contract, parcel: Make, table: MakeTable) -> None:
        self.tables, self.contract = Tables(root / "tables", contract), contract
        self._parcel, self._table = parcel, table
        files = StagedFiles(root / "staged")
        files.folder.mkdir(parents=True)
        self._judging = Judging(contract, Pseudonymiser(KEY), NOBODY, files)
        self.now, self.step, self.waiting = START, timedelta(hours=1), Waiting()

    def rows(self, *numbers: int) -> None:
        self.now += self.step
        rows = self._table([self._parcel(number) for number in numbers])
        times = pa.array([START] * len(numbers), pa.timestamp("us", tz="UTC"))
        rows = rows.set_column(rows.schema.get_field_index("promised"), "promised", times)
        rows = rows.select(self.contract.schema.names).cast(self.contract.schema)
        rows = self._judging.pseudonymiser.protect(rows, self.contract)
        self.tables.append("events", self.tables.complete("events", rows, self.now, "ingest:rows"))

    def outcomes(self, *told: Told, name: str | None = None) -> Delivery:
        """Bring in a delivery of outcomes (row, label or None for void, day known)."""
        return self.deliver(outcome_table(told), name)

    def deliver(self, table: pa.Table, name: str | None = None) -> Delivery:
        """Bring in a delivery of outcomes, in blocks."""
        self.now += self.step
        delivery = Delivery(name or f"outcomes {self.tables.version('labels')}", "outcomes.csv")
        plan = plan_of(self.tables, "labels", [delivery], FOREVER)
        ids, seen, blocks = self.ids()["parcel"], SeenIds(), []
        for first in range(0, table.num_rows, BLOCK_ROWS):
            positions = np.arange(first, min(first + BLOCK_ROWS, table.num_rows))
            rows = Rows(table.slice(first, BLOCK_ROWS), positions, [], delivery.digest)
            staged = stage_outcomes(rows, self._judging, plan.window, ids)
            blocks.append(settle_outcomes(staged, seen, self._judging.files))
        settled = Settled(delivery.digest, tuple(blocks), {}, self._judging.files)
        assert settled.num_in == settled.num_accepted + settled.num_quarantined
        for each in plan.pending:
            commit_delivery(self.tables, plan, each, settled, self.now, last=True)
        return delivery

    def ids(self) -> dict[str, Any]:
        return dict(read_seen(self.tables, self.contract))

    def post(self, *told: Told) -> None:
        """Keep outcomes that came through the endpoint, which asks for no row."""
        self.now += self.step
        accepted = validate_labels(outcome_table(told)).accepted
        self.tables.append("labels", self.tables.complete("labels", accepted, self.now, "serving"))

    def look(self, erased: Tombstones = NOBODY) -> int:
        self.now += self.step
        if not may_readmit(self.tables):
            return 0
        return readmit(self.tables, self.waiting, erased, self.now)

    def labels(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.tables.read("labels").sort_by("row_id").to_pylist()
        return rows

    def known(self) -> list[tuple[object, ...]]:
        rows = known_labels(self.tables.read("labels"), LATER).to_pylist()
        return [(row["row_id"], row["label"], row["void"], row["known_at"]) for row in rows]


def outcome_table(told: Iterable[Told]) -> pa.Table:
    rows = [
        {
            "row_id": row,
            "label": None if label is None else str(label),
            "void": str(label is None),
            "known_at": (START + timedelta(days=day)).isoformat(),
        }
        for row, label, day in told
    ]
    return pa.Table.from_pylist(rows, pa.schema([(n, pa.string()) for n in rows[0]]))


@pytest.fixture
def world(tmp_path: Path, parcels: Contract, parcel: Make, parcel_table: MakeTable) -> World:
    return World(tmp_path, parcels, parcel, parcel_table)


def test_an_outcome_waits_for_its_row_and_counts_from_then(world: World) -> None:
    world.rows(0)
    world.outcomes(("P0", 1, 2), ("P1", 0, 3), ("P9", 1, 3), name="early")
    assert world.look() == 0
    world.rows(1)
    assert world.look() == 1
    first, second = world.labels()
    assert first["row_id"] == "P0"
    assert (second["row_id"], second["label"], second["void"]) == ("P1", 0, False)
    assert (second["known_at"], second["source"]) == (START + timedelta(days=3), "ingest:early")
    # Nobody could use it before its row was there.
    assert second["received_at"] == world.now
    assert world.tables.read("quarantine").num_rows == 2


def test_nothing_is_looked_through_twice(world: World) -> None:
    world.outcomes(("P1", 0, 3))
    world.rows(1)
    assert world.look() == 1
    assert not may_readmit(world.tables)
    version = world.tables.version("labels")
    assert (world.look(), world.tables.version("labels")) == (0, version)
    world.rows(2)
    assert may_readmit(world.tables)
    assert (world.look(), len(world.labels())) == (0, 1)
    assert not may_readmit(world.tables)
    noted = world.tables.transaction("labels", LOOKED_THROUGH)
    assert noted == world.tables.version("events")


def test_merging_files_is_no_reason_to_look_again(world: World) -> None:
    world.rows(1)
    world.rows(2)
    world.outcomes(("P1", 0, 3), ("P7", 0, 3))
    world.look()
    world.tables.compact("events")
    assert not may_readmit(world.tables)


def test_an_outcome_that_is_wrong_in_another_way_stays_out(world: World) -> None:
    world.outcomes(("P1", 7, 3), ("P2", 1, 3), ("P2", 0, 3))
    world.rows(1, 2)
    assert world.look() == 1
    assert [(row["row_id"], row["label"]) for row in world.labels()] == [("P2", 1)]


def test_what_was_told_again_in_time_is_not_told_twice(world: World) -> None:
    world.outcomes(("P1", 0, 3))
    world.rows(1)
    world.outcomes(("P1", 1, 3))
    assert world.look() == 0
    assert [row["label"] for row in world.labels()] == [1]


def test_of_contradicting_outcomes_the_last_to_come_is_taken(world: World) -> None:
    world.outcomes(("P1", 0, 3))
    world.outcomes(("P1", 1, 3))
    world.outcomes(("P1", None, 5))
    world.rows(1)
    assert world.look() == 2
    assert [(row["label"], row["void"]) for row in world.labels()] in (
        [(1, False), (None, True)],
        [(None, True), (1, False)],
    )


def test_nothing_is_taken_up_about_an_erased_row(world: World) -> None:
    world.outcomes(("P1", 0, 3), ("P2", 1, 3))
    world.rows(1, 2)
    assert world.look(NOBODY.with_rows(["P1"])) == 1
    assert [row["row_id"] for row in world.labels()] == ["P2"]


def test_a_model_without_outcomes_gets_no_table_of_them_and_is_not_looked_through(
    world: World,
) -> None:
    world.rows(1)
    row = pa.table({"row": ["{}"], "reasons": [["weight must be a number"]], "position": [0]})
    quarantined = world.tables.complete("quarantine", row, START, "ingest:rows")
    world.tables.append("quarantine", quarantined)
    assert not may_readmit(world.tables)
    assert (world.look(), world.tables.version("labels")) == (0, -1)


def test_where_no_outcome_waits_no_version_is_made_and_no_row_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.rows(1)
    world.outcomes(("P1", 7, 3), ("P1", 1, 3))
    world.rows(2)
    read = note_scans(monkeypatch)
    version = world.tables.version("labels")
    assert (world.look(), world.tables.version("labels")) == (0, version)
    assert {name for name, _ in read} == {"quarantine"}


def test_where_no_outcome_was_ever_refused_the_quarantine_is_not_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.rows(1)
    world.outcomes(("P1", 1, 3))
    row = pa.table({"row": ["{}"], "reasons": [["weight must be a number"]], "position": [0]})
    quarantined = world.tables.complete("quarantine", row, START, "ingest:rows")
    world.tables.append("quarantine", quarantined, ("ingest:rows", 1))
    world.rows(2)
    read = note_scans(monkeypatch)
    assert (world.look(), read) == (0, [])
    # From the first one that waits it is.
    world.outcomes(("P3", 1, 3))
    world.rows(3)
    assert world.look() == 1
    assert ("quarantine", None) in read


def test_a_follower_reads_only_what_came_since_its_last_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.outcomes(("P1", 0, 3), ("P9", 0, 3))
    world.rows(1)
    assert world.look() == 1
    reached = world.tables.version("events"), world.tables.version("quarantine")
    world.rows(2)
    read = note_scans(monkeypatch)
    assert world.look() == 0
    # Nothing came for the one outcome that waits, and the quarantine is not read again for it.
    assert read == [("quarantine", reached[1]), ("events", reached[0])]
    # Whoever begins anew reads the quarantine once, and of the rows no more than the follower.
    world.rows(3)
    world.waiting = Waiting()
    read.clear()
    assert world.look() == 0
    assert read == [("quarantine", None), ("events", reached[0] + 1)]


def note_scans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    """Note which tables are read, and since which version."""
    read: list[tuple[str, int | None]] = []
    scan = Tables.scan

    def noted(
        self: Tables, name: Any, columns: Sequence[str], after: int | None = None
    ) -> Iterator[pa.Table]:
        read.append((name, after))
        return scan(self, name, columns, after)

    monkeypatch.setattr(Tables, "scan", noted)
    return read


def test_rows_whose_files_were_merged_and_deleted_are_still_found(world: World) -> None:
    world.outcomes(("P1", 0, 3), ("P2", 1, 3))
    world.rows(1)
    assert world.look() == 1
    world.rows(2)
    world.rows(3)
    folder = world.tables.folder("events")
    before = set(folder.glob("*.parquet"))
    world.tables.compact("events")
    for file in before:
        file.unlink()
    assert world.look() == 1
    assert [row["row_id"] for row in world.labels()] == ["P1", "P2"]


def test_of_outcomes_that_one_delivery_gave_twice_the_first_is_taken(world: World) -> None:
    # In blocks of two: neither sees the other.
    world.outcomes(("P1", 0, 3), ("P2", 1, 3), ("P1", 1, 3), ("P2", None, 3))
    world.rows(1, 2)
    assert world.look() == 2
    assert [(row["row_id"], row["label"]) for row in world.labels()] == [("P1", 0), ("P2", 1)]


def test_an_outcome_revises_one_that_the_endpoint_got_before_it(world: World) -> None:
    world.post(("P1", 0, 3))
    world.outcomes(("P1", 1, 3))
    world.rows(1)
    assert world.look() == 1
    assert [row[1] for row in world.known()] == [1]


def test_an_outcome_does_not_undo_what_the_endpoint_got_after_it(world: World) -> None:
    world.outcomes(("P1", 1, 3))
    world.post(("P1", 0, 3))
    world.rows(1)
    assert world.look() == 0
    assert [row[1] for row in world.known()] == [0]


def test_a_row_that_the_endpoint_kept_twice_has_its_outcome_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readmission, "PASS_ROWS", 1)
    world.outcomes(("P1", 1, 3))
    world.rows(1)
    world.rows(1)
    assert world.look() == 1
    world.rows(1)
    assert (world.look(), len(world.labels())) == (0, 1)


def test_more_outcomes_than_are_held_at_a_time_come_in_one_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readmission, "PASS_ROWS", 3)
    numbers = list(range(1, 9))
    world.outcomes(*((f"P{number}", number % 2, 3) for number in numbers))
    world.rows(*numbers)
    version = world.tables.version("labels")
    assert (world.look(), world.tables.version("labels")) == (8, version + 1)
    assert [(row["row_id"], row["label"]) for row in world.labels()] == [
        (f"P{number}", number % 2) for number in numbers
    ]


def test_a_delivery_cut_off_between_its_commits_is_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_settled: Settled) -> None:
        raise OSError("the disk is full")

    world.outcomes(("P7", 0, 3), name="before")
    with monkeypatch.context() as patch:
        patch.setattr(Settled, "accepted", cut_off)
        with pytest.raises(OSError, match="the disk is full"):
            world.outcomes(("P1", 0, 3), name="cut off")
    assert world.tables.read("quarantine").num_rows == 2
    world.rows(1)
    # Judged again it finds its row; in the quarantine it waits still.
    world.outcomes(("P1", 0, 3), name="cut off")
    assert world.look() == 0
    assert [(row["row_id"], row["label"]) for row in world.labels()] == [("P1", 0)]


MOMENT = START + timedelta(seconds=7)
PLAIN: dict[str, pa.Array] = {
    "row_id": pa.array(["7"]),
    "label": pa.array([1]),
    "void": pa.array([False]),
    "known_at": pa.array([MOMENT], TIMESTAMP),
}
NANOS = pa.timestamp("ns", tz="UTC")


@pytest.mark.parametrize(
    "given_as",
    [
        {"known_at": pa.array([MOMENT]).cast(pa.timestamp("s", tz="UTC"))},
        {"known_at": pa.array([MOMENT]).cast(pa.timestamp("us", tz="America/New_York"))},
        # What pandas writes.
        {"known_at": pa.array([MOMENT]).cast(NANOS)},
        {"known_at": pa.array([1_711_929_600_123_456_789], NANOS)},
        {"known_at": pa.array(["2024-04-01T02:00:07+02:00"])},
        {"row_id": pa.array([7], pa.uint64())},
        {"label": pa.array([1.0], pa.float32())},
        {"label": pa.array([Decimal("1.00")])},
        {"label": pa.array([" 1e0 "])},
        {"label": pa.nulls(1, pa.float64()), "void": pa.array([True])},
        {"label": pa.nulls(1), "void": pa.array(["TRUE"])},
    ],
    ids=lambda given_as: " ".join(f"{name} {cell.type}" for name, cell in given_as.items()),
)
def test_an_outcome_is_the_same_after_its_wait_in_whatever_form_it_came(
    world: World, given_as: dict[str, pa.Array]
) -> None:
    outcome = pa.table({**PLAIN, **given_as})
    world.deliver(outcome)
    (accepted,) = validate_labels(outcome).accepted.to_pylist()
    world._parcel = lambda _number: {**PARCEL, "parcel": "7"}
    world.rows(7)
    assert world.look() == 1
    (label,) = world.labels()
    assert {name: label[name] for name in accepted} == accepted


PARCEL = {"promised": None, "sender": None, "depot": "north", "weight": 1.0, "rain": None}


@pytest.mark.parametrize("row_ids", [["P0", "P1"], [0.5, 1.5]])
def test_of_a_personal_id_only_the_pseudonym_waits(
    tmp_path: Path,
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    row_ids: list[object],
) -> None:
    described = parcels.model_dump()
    described["columns"][0]["privacy"] = "personal"
    world = World(tmp_path, Contract.model_validate(described), parcel, parcel_table)
    world.rows(0)
    outcome = outcome_table([("P0", 1, 3), ("P1", 0, 3)])
    world.deliver(outcome.set_column(0, "row_id", pa.array(row_ids)))
    refused = str(world.tables.read("quarantine").select(["row", "reasons"]).to_pylist())
    assert not [value for value in row_ids if str(value) in refused]
    world.rows(1)
    named = [Pseudonymiser(KEY).one(str(value)) for value in row_ids]
    # A number is no id: neither outcome is of any row.
    expected = [(named[0], 1), (named[1], 0)] if row_ids == ["P0", "P1"] else []
    assert world.look() == len(expected) // 2
    assert sorted((row["row_id"], row["label"]) for row in world.labels()) == sorted(expected)


def test_an_outcome_in_the_quarantine_that_nobody_can_read_is_left_there(world: World) -> None:
    world.outcomes(("P1", 0, 3))
    reason = ["row_id must name an accepted row, got 'P1'"]
    strange = pa.table({"row": ['{"row_id":"P1"}'], "reasons": [reason], "position": [0]})
    quarantined = world.tables.complete("quarantine", strange, START, "ingest:strange")
    world.tables.append("quarantine", quarantined)
    world.rows(1)
    assert world.look() == 1


def test_cut_off_at_any_step_each_outcome_is_added_once(
    tmp_path: Path, parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    for step in itertools.count():
        world = World(tmp_path / str(step), parcels, parcel, parcel_table)
        world.outcomes(("P1", 0, 3), ("P2", 1, 4))
        world.rows(1, 2)
        killed = False
        with killed_after(step, tmp_path / str(step)):
            try:
                world.look()
            except Killed:
                killed = True
        world.look()
        assert [(row["row_id"], row["label"]) for row in world.labels()] == [("P1", 0), ("P2", 1)]
        if not killed:
            break
    assert step > 1


numbers = st.integers(0, 3)
outcomes = st.tuples(numbers, st.sampled_from([0, 1, None]), st.integers(1, 2))
arrivals = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), st.lists(numbers, min_size=1, max_size=2, unique=True)),
        st.tuples(st.just("outcomes"), st.lists(outcomes, min_size=1, max_size=5)),
        st.tuples(st.just("post"), st.lists(outcomes, min_size=1, max_size=1)),
    ),
    max_size=8,
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(arrivals, st.sampled_from([timedelta(0), timedelta(hours=1)]), st.sets(st.integers(0, 7)))
def test_any_order_of_arrival_gives_what_rows_first_would(
    tmp_path_factory: pytest.TempPathFactory,
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    order: Sequence[tuple[str, list[Any]]],
    step: timedelta,
    restarts: set[int],
) -> None:
    ours, rows_first = (
        World(tmp_path_factory.mktemp("world"), parcels, parcel, parcel_table) for _ in range(2)
    )
    ours.step = rows_first.step = step
    rows = sorted({row for kind, content in order if kind == "rows" for row in content})
    if rows:
        rows_first.rows(*rows)
    seen: set[int] = set()
    for number, (kind, content) in enumerate(order):
        if kind == "rows":
            new = sorted(set(content) - seen)
            seen.update(new)
            ours.rows(*new)
        else:
            told = [(f"P{row}", *rest) for row, *rest in content]
            for world in (ours, rows_first):
                (world.outcomes if kind == "outcomes" else world.post)(*told)
        if number in restarts:
            # A follower that looks into the quarantine anew.
            ours.waiting = Waiting()
        ours.look()
    assert ours.known() == rows_first.known()
