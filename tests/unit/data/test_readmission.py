"""Outcomes that come before their rows are taken up when the rows are there: each once."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.judging import read_seen
from app.data.labels import known_labels
from app.data.readmission import LOOKED_THROUGH, may_readmit, readmit
from app.data.tables import Tables
from app.data.validation import validate_labels
from app.security.tombstones import Tombstones
from tests.unit.data.interruptions import Killed, killed_after

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
NOBODY = Tombstones(SecretBytes(b"k" * 32))
START = datetime(2024, 4, 1, tzinfo=UTC)
LATER = START + timedelta(days=300)
Told = tuple[str, int | None, int]


class World:
    """Tables into which rows and outcomes come, an hour apart."""

    def __init__(self, root: Path, contract: Contract, parcel: Make, table: MakeTable) -> None:
        self.tables, self.contract = Tables(root, contract), contract
        self._parcel, self._table = parcel, table
        self.now = START

    def rows(self, *numbers: int) -> None:
        self.now += timedelta(hours=1)
        rows = self._table([self._parcel(number) for number in numbers])
        times = pa.array([START] * len(numbers), pa.timestamp("us", tz="UTC"))
        rows = rows.set_column(rows.schema.get_field_index("promised"), "promised", times)
        rows = rows.select(self.contract.schema.names).cast(self.contract.schema)
        self.tables.append("events", self.tables.complete("events", rows, self.now, "ingest:rows"))

    def outcomes(self, *told: Told, source: str = "ingest:outcomes") -> None:
        """Judge outcomes (row, label or None for void, day known) as an ingest does."""
        self.now += timedelta(hours=1)
        known_ids = self.tables.read("events", columns=["parcel"])["parcel"].combine_chunks()
        judged = validate_labels(outcome_table(told), known_ids=known_ids)
        for name, part in (("labels", judged.accepted), ("quarantine", judged.quarantined)):
            self.tables.append(name, self.tables.complete(name, part, self.now, source))  # type: ignore[arg-type]

    def look(self, erased: Tombstones = NOBODY) -> int:
        self.now += timedelta(hours=1)
        if not may_readmit(self.tables):
            return 0
        ids = read_seen(self.tables, self.contract)["parcel"]
        return readmit(self.tables, ids, self.tables.version("events"), erased, self.now)

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
    return World(tmp_path / "tables", parcels, parcel, parcel_table)


def test_an_outcome_waits_for_its_row_and_counts_from_then(world: World) -> None:
    world.rows(0)
    world.outcomes(("P0", 1, 2), ("P1", 0, 3), ("P9", 1, 3), source="ingest:early")
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


def test_a_model_without_outcomes_gets_no_table_of_them(world: World) -> None:
    world.rows(1)
    row = pa.table({"row": ["{}"], "reasons": [["weight must be a number"]], "position": [0]})
    quarantined = world.tables.complete("quarantine", row, START, "ingest:rows")
    world.tables.append("quarantine", quarantined)
    assert (world.look(), world.tables.version("labels")) == (0, -1)


def test_cut_off_at_any_step_each_outcome_is_added_once(
    tmp_path: Path, parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    for step in itertools.count():
        world = World(tmp_path / str(step), parcels, parcel, parcel_table)
        world.outcomes(("P1", 0, 3), ("P2", 1, 4))
        world.rows(1, 2)
        killed = False
        with killed_after(step, world.tables.root):
            try:
                world.look()
            except Killed:
                killed = True
        world.look()
        assert [(row["row_id"], row["label"]) for row in world.labels()] == [("P1", 0), ("P2", 1)]
        if not killed:
            break
    assert step > 1


arrivals = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.integers(0, 3)),
        st.tuples(
            st.just("outcome"), st.integers(0, 3), st.sampled_from([0, 1, None]), st.integers(1, 3)
        ),
    ),
    max_size=10,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals)
def test_any_order_of_arrival_gives_what_rows_first_would(
    tmp_path_factory: pytest.TempPathFactory,
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    order: Sequence[tuple[Any, ...]],
) -> None:
    ours, rows_first = (
        World(tmp_path_factory.mktemp("world"), parcels, parcel, parcel_table) for _ in range(2)
    )
    numbers = sorted({number for kind, number, *_ in order if kind == "row"})
    if numbers:
        rows_first.rows(*numbers)
    seen: set[int] = set()
    for kind, number, *told in order:
        if kind == "outcome":
            for world in (ours, rows_first):
                world.outcomes((f"P{number}", *told))  # type: ignore[arg-type]
        elif number not in seen:
            ours.rows(number)
            seen.add(number)
        ours.look()
    assert ours.known() == rows_first.known()
