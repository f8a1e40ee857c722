"""Rows that come without an id or a time get them, and keep what they bring."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from app.contracts.rows import Column, Contract
from app.data.validation import validate, validate_rows
from app.serving.arrivals import arrive, arrive_table
from app.serving.messages import row_schema

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONTRACT = Contract(
    id="row_id",
    event_time="arrived_at",
    label="bad",
    columns=(
        Column(name="row_id", kind="identifier", feature=False, generated=True),
        Column(name="arrived_at", kind="time", feature=False, generated=True),
        Column(name="x", kind="number"),
    ),
)


def test_what_is_absent_is_made_and_what_is_there_stays() -> None:
    names = iter(["n1", "n2", "n3", "n4"])
    rows = [{"x": 1.0}, {"x": 2.0, "row_id": "mine"}, {"x": 3.0, "row_id": None}, 7]

    arrived = arrive(rows, CONTRACT, AT, lambda: next(names))

    judged = validate_rows(arrived, CONTRACT)
    assert judged.accepted["row_id"].to_pylist() == ["n1", "mine", "n3"]
    assert judged.accepted["arrived_at"].to_pylist() == [AT] * 3
    assert judged.quarantined.num_rows == 1
    assert rows[0] == {"x": 1.0}, "a client's row is left as it is"


def test_a_retry_under_the_same_key_names_the_same_row() -> None:
    def new_id() -> str:
        raise AssertionError("a key is enough")

    first, second = (arrive([{"x": 1.0}], CONTRACT, AT, new_id, ["k1"]) for _ in range(2))
    (other,) = arrive([{"x": 1.0}], CONTRACT, AT, new_id, ["k2"])
    assert first == second
    assert first[0]["row_id"] != other["row_id"]  # type: ignore[index]


def test_the_schema_does_not_ask_for_what_is_made() -> None:
    schema = row_schema(CONTRACT)
    assert schema["required"] == ["x"]
    assert "made on arrival" in schema["properties"]["row_id"]["description"]


@pytest.mark.parametrize("keys", [None, ["k1", "k2", "k3"]])
def test_columns_are_completed_as_rows_are(keys: list[str] | None) -> None:
    given = [{"x": 1.0}, {"x": 2.0, "row_id": "mine", "arrived_at": "2026-02-01T00:00:00Z"}]
    given.append({"x": 3.0, "row_id": None, "arrived_at": None})
    names, again = iter(["n1", "n2", "n3"]), iter(["n1", "n2", "n3"])
    rows = arrive(given, CONTRACT, AT, lambda: next(names), keys)
    expected = validate_rows(rows, CONTRACT).accepted
    # Columns are made whole and then taken where there was nothing.
    if keys is None:
        expected = expected.set_column(0, "row_id", pa.array(["n1", "mine", "n3"]))

    text = pa.Table.from_pylist(
        given, pa.schema([("row_id", pa.string()), ("arrived_at", pa.string()), ("x", "double")])
    )
    completed = arrive_table(text, CONTRACT, AT, lambda: next(again), keys)

    assert validate(completed, CONTRACT).accepted.to_pylist() == expected.to_pylist()
    nothing = arrive_table(text.select(["x"]), CONTRACT, AT, lambda: "new", keys)
    assert validate(nothing.slice(0, 1), CONTRACT).accepted["arrived_at"].to_pylist() == [AT]
