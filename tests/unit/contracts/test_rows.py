"""What a contract says of rules, unique columns and columns that must never come in."""

import pytest
from pydantic import ValidationError

from app.contracts.rows import Contract

COLUMNS = [
    {"name": "parcel", "kind": "identifier"},
    {"name": "passport", "kind": "identifier", "privacy": "forbidden"},
    {"name": "promised", "kind": "time"},
    {"name": "sender", "kind": "identifier", "privacy": "personal"},
    {"name": "weight", "kind": "number", "unique": True},
]


def contract(**changes: object) -> Contract:
    parts = {"id": "parcel", "event_time": "promised", "label": "lost", "columns": COLUMNS}
    return Contract.model_validate({**parts, **changes})


def test_a_forbidden_column_is_known_and_is_nowhere_among_the_columns() -> None:
    made = contract()
    assert made.forbidden_names == {"passport"}
    assert "passport" not in made.by_name
    assert "passport" not in made.schema.names
    assert "passport" not in {column.name for column in (*made.columns, *made.features)}
    assert made.guarded


def test_a_contract_survives_being_written_and_read() -> None:
    made = contract(rules=[{"name": "heavy", "expect": "weight > 1"}])
    again = Contract.model_validate_json(made.model_dump_json())
    assert again == made
    assert again.forbidden_names == {"passport"}
    assert Contract.model_validate(again.model_dump()).model_dump_json() == made.model_dump_json()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "passport"}, "contract.id: passport is forbidden; name a column that comes in"),
        ({"label": "passport"}, "contract.label: passport must not be among the columns"),
        (
            {"forbidden": [{"name": "iban", "kind": "identifier"}]},
            "contract.forbidden: iban is public; list it among the columns or make it forbidden",
        ),
        (
            {"forbidden": [{"name": "weight", "kind": "number", "privacy": "forbidden"}]},
            "contract.columns: weight given more than once",
        ),
        (
            {"rules": [{"name": "heavy", "expect": "wieght > 1"}]},
            "contract.rules.heavy.expect: character 1, wieght: no column has that name; "
            "columns are parcel, promised, sender, weight",
        ),
        (
            {"rules": [{"name": "known", "expect": "passport is null"}]},
            "contract.rules.known.expect: character 1, passport: no column has that name",
        ),
        (
            {"rules": [{"name": "named", "expect": "sender == 'Ada'"}]},
            "only its pseudonym is kept, so ask `is null`",
        ),
        (
            {"rules": [{"name": "heavy", "expect": "weight > 1"}] * 2},
            "contract.rules: heavy given more than once",
        ),
        ({"rules": [{"name": "Heavy!", "expect": "weight > 1"}]}, "rules.0.name"),
    ],
)
def test_a_mistake_is_answered_with_its_place(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        contract(**changes)
    assert says in str(caught.value)


def test_the_id_is_the_first_unique_column_and_stands_there_once() -> None:
    assert [column.name for column in contract().unique] == ["parcel", "weight"]
    columns = [{**column, "unique": True} for column in COLUMNS]
    named = [column.name for column in contract(columns=columns).unique]
    assert named == ["parcel", "promised", "sender", "weight"]
