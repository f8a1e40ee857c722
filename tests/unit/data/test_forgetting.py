"""Rows of erased subjects: found in every table, refused when they come again, never lost."""

from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.files import Rows
from app.data.forgetting import (
    ERASED,
    WITHHELD_ROW,
    QuarantineReader,
    about_erased,
    forget_captured,
    ids_of_others,
    refuse_checked,
    refuse_erased,
    withhold_erased,
)
from app.data.intake import FOREVER, Window, judge_block, judge_labels
from app.data.quarantine import render_row
from app.data.tables import Tables
from app.data.validation import validate_rows
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
KEY = SecretBytes(b"k" * 32)
SECRET = Pseudonymiser(KEY)
NOBODY = Tombstones(KEY)
AT = datetime(2024, 4, 2, tzinfo=UTC)
EVERYTHING = Window(FOREVER, {})


def erased(*subjects: str, rows: tuple[str, ...] = ()) -> Tombstones:
    return NOBODY.having(("subject", NOBODY.subject(each)) for each in subjects).with_rows(rows)


def quarantine(contract: Contract, *rows: dict[str, object], reason: str = "is bad") -> pa.Table:
    content = {
        "row": [render_row(row, contract, SECRET) for row in rows],
        "reasons": [[reason]] * len(rows),
        "position": list(range(len(rows))),
    }
    return pa.table(content)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"sender": "Ada Adams"}, True),
        ({"sender": "Bob"}, False),
        ({"parcel": "P7"}, True),
        ({"parcel": "P77"}, False),
        ({"depot": "see Ada-Adams' order"}, False),
        ({"depot": SECRET.one("Ada Adams")}, True),
        ({"depot": "Ada Adams"}, True),
        # Short words outside of the columns that name subjects may be anything.
        ({"depot": "17"}, False),
        ({"sender": "17"}, True),
        ({"sender": None, "weight": None}, False),
    ],
)
def test_a_refused_row_is_about_whom_it_names(
    parcels: Contract, parcel: Make, changes: dict[str, object], found: bool
) -> None:
    gone = erased("Ada Adams", "17", rows=("P7",))
    rows = quarantine(parcels, parcel(0, **changes))
    assert QuarantineReader(parcels, gone).erased(rows).tolist() == [found]


def test_a_refused_row_that_is_no_json_and_one_that_is_withheld_name_nobody(
    parcels: Contract,
) -> None:
    rows = pa.table({"row": ["{broken", WITHHELD_ROW], "reasons": [["x"], None]})
    reader = QuarantineReader(parcels, erased("Ada Adams"))
    assert reader.erased(rows).tolist() == [False, False]
    assert [reader.row_id(row) for row in rows["row"].to_pylist()] == [None, None]
    assert reader.row_id('{"parcel":"P7"}') == "P7"
    assert reader.row_id('{"row_id":"P8"}') == "P8"


def test_rows_in_are_accepted_and_quarantined_exactly_also_when_some_are_erased(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    gone = erased("sender 1", rows=("P9",))
    given = [parcel(i) for i in range(6)] + [parcel(7, weight=-1), parcel(9), parcel(12)]
    block = Rows(parcel_table(given), pa.array(range(9)).to_numpy(), [], "d1").with_places()
    settled = refuse_erased(judge_block(block, parcels, EVERYTHING, SECRET), parcels, gone)
    assert settled.accepted["parcel"].to_pylist() == ["P0", "P2", "P3", "P5", "P12"]
    assert settled.accepted.num_rows + settled.refused.num_rows == len(given)
    by_place = dict(
        zip(
            settled.refused["position"].to_pylist(),
            settled.refused.select(["row", "reasons"]).to_pylist(),
            strict=True,
        )
    )
    # Two of them were acceptable, one was not (P7), and one had an erased id.
    assert sorted(by_place) == [1, 4, 6, 7]
    assert all(row == {"row": WITHHELD_ROW, "reasons": [ERASED]} for row in by_place.values())
    assert SECRET.one("sender 1") not in str(settled.refused.to_pylist())


def test_without_tombstones_nothing_changes(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    block = Rows(parcel_table([parcel(0)]), pa.array([0]).to_numpy(), [], "d1").with_places()
    judged = judge_block(block, parcels, EVERYTHING, SECRET)
    assert refuse_erased(judged, parcels, NOBODY) is judged
    checked = validate_rows([parcel(0)], parcels, pseudonymiser=SECRET)
    assert refuse_checked(checked, parcels, NOBODY) is checked


def test_an_outcome_of_an_erased_row_is_counted_without_its_id(parcels: Contract) -> None:
    labels = pa.table(
        {
            "row_id": ["P0", "P7", "P8"],
            "label": [1, 0, 1],
            "void": [False] * 3,
            "known_at": [AT] * 3,
        }
    )
    block = Rows(labels, pa.array(range(3)).to_numpy(), [], "d1").with_places()
    settled = judge_labels(block, EVERYTHING, pa.array(["P0"]))
    rows = withhold_erased(settled.refused, parcels, erased("Ada", rows=("P7",)))
    assert rows.num_rows == 2
    assert sorted(rows["position"].to_pylist()) == [1, 2]
    assert "P7" not in str(rows.to_pylist())
    assert "P8" in str(rows.to_pylist())


def test_a_request_about_an_erased_subject_is_refused_in_its_place(
    parcels: Contract, parcel: Make
) -> None:
    rows = [parcel(0), parcel(1), parcel(2, weight=-1), parcel(4, weight=-1)]
    checked = validate_rows(rows, parcels, pseudonymiser=SECRET)
    refused = refuse_checked(checked, parcels, erased("sender 1"))
    assert refused.accepted["parcel"].to_pylist() == ["P0"]
    assert refused.positions.tolist() == [0]
    assert refused.quarantined["position"].to_pylist() == [1, 2, 3]
    reasons = refused.quarantined["reasons"].to_pylist()
    assert reasons[0] == reasons[2] == [ERASED]
    assert reasons[1] == ["weight must be in 0..40, got -1.0"]


def test_captured_rows_of_the_erased_are_dropped_with_their_outcomes_and_counted(
    tables: Tables, parcels: Contract, parcel: Make
) -> None:
    accepted = validate_rows([parcel(0), parcel(1)], parcels, pseudonymiser=SECRET).accepted
    labels = pa.table(
        {
            "row_id": ["P0", "P1"],
            "label": pa.array([1, 0], pa.int8()),
            "void": [False, False],
            "known_at": [AT, AT],
            "received_at": [AT, AT],
            "source": ["serving", "serving"],
        }
    )
    captured = {"events": tables.complete("events", accepted, AT, "serving"), "labels": labels}
    schema = tables.schema("quarantine")
    left, dropped = forget_captured(captured, schema, parcels, erased("sender 1"))
    assert dropped == {"P1"}
    assert left["events"]["parcel"].to_pylist() == ["P0"]
    assert left["labels"]["row_id"].to_pylist() == ["P0"]
    assert left["quarantine"].num_rows == 2
    assert "P1" not in str(left["quarantine"].to_pylist())
    all_gone = forget_captured(captured, schema, parcels, erased("sender 1", "sender 0"))
    assert set(all_gone.tables) == {"quarantine"}


def test_an_id_belongs_to_a_subject_when_nobody_else_has_it(
    tables: Tables, parcels: Contract, parcel: Make
) -> None:
    rows = [parcel(0), parcel(1), parcel(3, sender=None)]
    accepted = validate_rows(rows, parcels, pseudonymiser=SECRET).accepted
    tables.append("events", tables.complete("events", accepted, AT, "test"))
    gone = erased("sender 0")
    assert about_erased("events", tables.read("events"), parcels, gone).sum() == 1
    assert ids_of_others(tables, gone, {"P0", "P1", "P3", "P9"}) == {"P1", "P3"}
