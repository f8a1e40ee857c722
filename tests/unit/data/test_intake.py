from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.intake import (
    FOREVER,
    Judged,
    Window,
    judge_block,
    judge_labels,
    mark_of,
)
from app.data.pieces import Rows
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
EVERYTHING = Window(FOREVER, {})
SECRET = Pseudonymiser(SecretBytes(b"k" * 32))


def block(table: pa.Table, digest: str = "d1", first: int = 0, broken: int = 0) -> pa.Table:
    positions = np.arange(first, first + table.num_rows)
    lines = [(first + table.num_rows + i, "has 1 fields instead of 6") for i in range(broken)]
    return Rows(table, positions, lines, digest).with_places()


def take_in(contract: Contract, window: Window, *blocks: pa.Table) -> Judged:
    judged = [judge_block(each, contract, window, SECRET) for each in blocks]
    return Judged(*(pa.concat_tables(parts) for parts in zip(*judged, strict=True)))


def test_rows_in_are_accepted_and_refused_exactly(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    first = parcel_table([parcel(0), parcel(1, weight=-1), parcel(0)])
    second = parcel_table([parcel(3), parcel(4), parcel(5, depot="east")])
    judged = take_in(parcels, EVERYTHING, block(first, broken=2), block(second, first=5))
    assert judged.accepted["parcel"].to_pylist() == ["P0", "P3", "P4"]
    assert judged.accepted["__position"].to_pylist() == [0, 5, 6]
    assert sorted(judged.refused["position"].to_pylist()) == [1, 2, 3, 4, 7]


def test_every_part_is_protected(parcels: Contract, parcel: Make, parcel_table: MakeTable) -> None:
    judged = take_in(parcels, EVERYTHING, block(parcel_table([parcel(0), parcel(3, weight=-1)])))
    assert "sender 0" not in str([part.to_pylist() for part in judged])
    assert SECRET.one("sender 0") in judged.refused["row"][0].as_py()


def test_json_objects_are_judged_strictly(parcels: Contract) -> None:
    good = (
        '{"parcel": "P0", "promised": "2024-03-01T10:00:00Z", "depot": "north", "weight": 2}',
        '{"parcel": "P1", "promised": "2024-03-01T10:00:00Z", "depot": "north", "weight": "2"}',
        '{"parcel": "P2", "promised": "2024-03-01T10:00:00Z", "depot": "north", "mass": 2}',
    )
    judged = take_in(parcels, EVERYTHING, block(pa.table({"__object": good}), broken=1))
    assert judged.accepted["parcel"].to_pylist() == ["P0"]
    reasons = judged.refused.select(["position", "reasons"]).to_pylist()
    assert {each["position"]: each["reasons"] for each in reasons} == {
        1: ["weight must be a number, not a string, got '2'"],
        2: ["row has unknown columns: mass", "weight is needed and absent or null"],
        3: ["row has 1 fields instead of 6"],
    }


def test_windows_that_follow_each_other_take_each_row_once(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    rows = [parcel(i) for i in range(6)] + [parcel(9, promised="never"), parcel(8, weight=-1)]
    delivered = block(parcel_table(rows))
    middle = mark_of(datetime(2024, 3, 4, tzinfo=UTC))
    first = take_in(parcels, Window(middle, {}), delivered)
    second = take_in(parcels, Window(FOREVER, {"d1": middle}), delivered)
    assert first.accepted["parcel"].to_pylist() == ["P0", "P1", "P2"]
    assert first.refused["position"].to_pylist() == [6]  # Without a time: with the first.
    assert second.accepted["parcel"].to_pylist() == ["P3", "P4", "P5"]
    assert second.refused["position"].to_pylist() == [7]


def outcomes(ids: list[str], times: list[datetime]) -> pa.Table:
    count = len(ids)
    return block(
        pa.table({"row_id": ids, "label": [1] * count, "void": [False] * count, "known_at": times})
    )


NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)


def test_an_outcome_of_no_accepted_row_is_quarantined() -> None:
    judged = judge_labels(outcomes(["P0", "P7", "P0"], [NOON] * 3), EVERYTHING, pa.array(["P0"]))
    assert judged.accepted["row_id"].to_pylist() == ["P0"]
    assert judged.refused["position"].to_pylist() == [1, 2]


def test_a_broken_line_of_outcomes_is_quarantined() -> None:
    labels = outcomes(["P0"], [NOON]).select(["row_id", "label", "void", "known_at"])
    delivered = block(labels, broken=1)
    judged = judge_labels(delivered, EVERYTHING, pa.array(["P0"]))
    assert judged.accepted.num_rows == 1
    assert judged.refused["reasons"].to_pylist() == [["row has 1 fields instead of 6"]]


def test_outcomes_known_later_are_left_for_later() -> None:
    times = [NOON, NOON + timedelta(hours=1)]
    labels, known = outcomes(["P0", "P1"], times), pa.array(["P0", "P1"])
    middle = mark_of(times[1])
    first = judge_labels(labels, Window(middle, {}), known)
    second = judge_labels(labels, Window(FOREVER, {"d1": middle}), known)
    assert first.accepted["row_id"].to_pylist() == ["P0"]
    assert second.accepted["row_id"].to_pylist() == ["P1"]
    assert first.refused.num_rows == second.refused.num_rows == 0


@pytest.mark.parametrize(
    "moment", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2013, 4, 1, 3, 0, 0, 7, UTC)]
)
def test_marks_are_microseconds(moment: datetime) -> None:
    assert datetime.fromtimestamp(0, UTC) + timedelta(microseconds=mark_of(moment)) == moment
    assert mark_of(moment) < mark_of(None)
