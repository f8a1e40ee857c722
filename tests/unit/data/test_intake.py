from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.files import Rows
from app.data.intake import FOREVER, Settled, Window, judge_block, judge_labels, mark_of, settle
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
EVERYTHING = Window(FOREVER, {})
SECRET = Pseudonymiser(SecretBytes(b"k" * 32))
NONE_SEEN = pa.array([], pa.string())


def block(table: pa.Table, digest: str = "d1", first: int = 0, broken: int = 0) -> pa.Table:
    positions = np.arange(first, first + table.num_rows)
    lines = [(first + table.num_rows + i, "has 1 fields instead of 6") for i in range(broken)]
    return Rows(table, positions, lines, digest).with_places()


def take_in(contract: Contract, window: Window, *blocks: pa.Table) -> Settled:
    judged = pa.concat_tables([judge_block(each, contract, window, SECRET) for each in blocks])
    return settle(judged, contract, NONE_SEEN, SECRET)


def test_rows_in_are_accepted_and_quarantined_exactly(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    first = parcel_table([parcel(0), parcel(1, weight=-1), parcel(0)])
    second = parcel_table([parcel(0), parcel(4), parcel(5, depot="east")])
    settled = take_in(parcels, EVERYTHING, block(first, broken=2), block(second, first=5))
    assert settled.accepted["parcel"].to_pylist() == ["P0", "P4"]
    assert settled.accepted.num_rows + settled.quarantined.num_rows == 8
    assert sorted(settled.quarantined["position"].to_pylist()) == [1, 2, 3, 4, 5, 7]


def test_every_part_is_protected(parcels: Contract, parcel: Make, parcel_table: MakeTable) -> None:
    tables = [parcel_table([parcel(0), parcel(1, weight=-1)]), parcel_table([parcel(0)])]
    settled = take_in(parcels, EVERYTHING, *map(block, tables))
    assert settled.quarantined.num_rows == 2
    assert "sender 0" not in str([settled.accepted.to_pylist(), settled.quarantined.to_pylist()])
    assert SECRET.one("sender 0") in settled.quarantined["row"][1].as_py()


def test_ids_of_an_earlier_ingest_are_refused(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    judged = judge_block(block(parcel_table([parcel(0), parcel(1)])), parcels, EVERYTHING, SECRET)
    settled = settle(judged, parcels, pa.array(["P1"]), SECRET)
    assert settled.accepted["parcel"].to_pylist() == ["P0"]
    assert settled.quarantined["reasons"].to_pylist() == [["parcel was ingested before, got 'P1'"]]


def test_windows_that_follow_each_other_take_each_row_once(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    rows = [parcel(i) for i in range(6)] + [parcel(9, promised="never"), parcel(8, weight=-1)]
    delivered = block(parcel_table(rows))
    middle = mark_of(datetime(2024, 3, 4, tzinfo=UTC))
    first = take_in(parcels, Window(middle, {}), delivered)
    second = take_in(parcels, Window(FOREVER, {"d1": middle}), delivered)
    assert first.accepted["parcel"].to_pylist() == ["P0", "P1", "P2"]
    assert first.quarantined["position"].to_pylist() == [6]  # Without a time: with the first.
    assert second.accepted["parcel"].to_pylist() == ["P3", "P4", "P5"]
    assert second.quarantined["position"].to_pylist() == [7]


def test_an_outcome_of_no_accepted_row_is_quarantined() -> None:
    noon = datetime(2024, 3, 2, 12, tzinfo=UTC)
    labels = pa.table(
        {
            "row_id": ["P0", "P7", "P0"],
            "label": [1, 0, 1],
            "void": [False] * 3,
            "known_at": [noon] * 3,
        }
    )
    taken, settled = judge_labels(labels, "d1", EVERYTHING, pa.array(["P0"]))
    assert taken == 3 == settled.accepted.num_rows + settled.quarantined.num_rows
    assert settled.quarantined["position"].to_pylist() == [1, 2]


def test_outcomes_known_later_are_left_for_later() -> None:
    noon = datetime(2024, 3, 2, 12, tzinfo=UTC)
    times = [noon, noon + timedelta(hours=1)]
    labels = pa.table(
        {"row_id": ["P0", "P1"], "label": [1, 0], "void": [False] * 2, "known_at": times}
    )
    known = pa.array(["P0", "P1"])
    middle = mark_of(times[1])
    taken, first = judge_labels(labels, "d1", Window(middle, {}), known)
    assert (taken, first.accepted["row_id"].to_pylist()) == (1, ["P0"])
    taken, second = judge_labels(labels, "d1", Window(FOREVER, {"d1": middle}), known)
    assert (taken, second.accepted["row_id"].to_pylist()) == (1, ["P1"])


@pytest.mark.parametrize(
    "moment", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2013, 4, 1, 3, 0, 0, 7, UTC)]
)
def test_marks_are_microseconds(moment: datetime) -> None:
    assert datetime.fromtimestamp(0, UTC) + timedelta(microseconds=mark_of(moment)) == moment
    assert mark_of(moment) < mark_of(None)


def test_a_unique_value_comes_once_across_blocks_and_ingests(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    columns = [
        {**column, "unique": column["name"] in ("sender", "rain")}
        for column in parcels.model_dump()["columns"]
    ]
    contract = Contract.model_validate({**parcels.model_dump(), "columns": columns})
    blocks = [
        parcel_table([parcel(0, rain=1.0, sender="Ada"), parcel(1, rain=2.0, sender="Bob")]),
        parcel_table([parcel(2, rain=1.0, sender="Cyd"), parcel(3, rain=4.0, sender="Ada")]),
        parcel_table([parcel(4, rain=5.0, sender=None), parcel(5, rain=6.0, sender="Dan")]),
    ]
    judged = pa.concat_tables(
        judge_block(block(table, first=2 * i), contract, EVERYTHING, SECRET)
        for i, table in enumerate(blocks)
    )
    before = {"rain": pa.array([2.0]), "sender": pa.array([SECRET.one("Dan")])}
    settled = settle(judged, contract, NONE_SEEN, SECRET, seen=before)
    assert settled.accepted["parcel"].to_pylist() == ["P0", "P4"]
    reasons = [row[0] for row in settled.quarantined["reasons"].to_pylist()]
    assert sorted(reason.split(",")[0] for reason in reasons) == [
        "rain is given more than once; the first row is kept",
        "rain was ingested before",
        "sender is given more than once; the first row is kept",
        "sender was ingested before",
    ]
    assert settled.quarantined.num_rows == 4
