"""Rows that come without an id or a time get them, and keep what they bring."""

from datetime import UTC, datetime

from app.contracts.rows import Column, Contract
from app.data.validation import validate_rows
from app.serving.arrivals import arrive
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
