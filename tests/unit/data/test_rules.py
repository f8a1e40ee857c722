"""Rules over columns equal plain Python row by row; a broken one tells no personal value."""

import json
import math
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.contracts.expressions import Expression
from app.contracts.rows import ARROW_TYPES, Contract
from app.contracts.syntax import parse
from app.data.quarantine import Reasons
from app.data.rules import add_broken_rules, evaluate
from app.data.validation import Validated, validate, validate_rows
from app.security.privacy import Pseudonymiser
from tests.unit.contracts.trees import COLUMNS, expected, rows, trees

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]


def columns_of(given_rows: list[dict[str, object]]) -> dict[str, pa.Array]:
    return {
        name: pa.array([row[name] for row in given_rows], ARROW_TYPES.get(kind, pa.string()))
        for name, kind in COLUMNS.items()
    }


@settings(max_examples=400, deadline=None)
@given(trees(), st.lists(rows, max_size=5))
def test_a_condition_over_columns_equals_plain_python_row_by_row(
    tree: Expression, given_rows: list[dict[str, object]]
) -> None:
    got = evaluate(tree, columns_of(given_rows), len(given_rows))
    assert got.type == pa.bool_()
    assert got.to_pylist() == [expected(tree, row) for row in given_rows]


@settings(max_examples=200, deadline=None)
@given(trees("number"), st.lists(rows, min_size=1, max_size=3))
def test_numbers_equal_plain_python_and_are_finite_or_null(
    tree: Expression, given_rows: list[dict[str, object]]
) -> None:
    got = evaluate(tree, columns_of(given_rows), len(given_rows)).to_pylist()
    assert got == [expected(tree, row) for row in given_rows]
    assert all(value is None or math.isfinite(value) for value in got)


def test_bytes_that_are_no_text_are_unknown_and_no_crash() -> None:
    offsets, content = pa.array([0, 2, 5], pa.int32()), b"\xff\xfeABC"
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, offsets.buffers()[1], pa.py_buffer(content)]
    )
    tree = parse("lower(d) == 'abc'", COLUMNS)
    assert evaluate(tree, {"d": broken}, 2).to_pylist() == [None, True]


TRUTHS = {True: "a > 0", False: "a < 0", None: "b > 0"}  # With a = 1 and no b.


@pytest.mark.parametrize("left", TRUTHS)
@pytest.mark.parametrize("right", TRUTHS)
def test_what_is_unknown_stays_unknown_unless_the_rest_decides(
    left: bool | None, right: bool | None
) -> None:
    row = {**dict.fromkeys(COLUMNS), "a": 1.0}
    for word in ("and", "or"):
        tree = parse(f"{TRUTHS[left]} {word} {TRUTHS[right]}", COLUMNS)
        decisive = word == "or"
        wanted = (
            decisive
            if decisive in (left, right)
            else None
            if None in (left, right)
            else not decisive
        )
        assert evaluate(tree, columns_of([row]), 1).to_pylist() == [wanted]


def reasons(validated: Validated) -> dict[int, list[str]]:
    return {row["position"]: row["reasons"] for row in validated.quarantined.to_pylist()}


def with_rules(parcels: Contract, *rules: str) -> Contract:
    named = [{"name": f"r{i}", "expect": rule} for i, rule in enumerate(rules)]
    return Contract.model_validate({**parcels.model_dump(), "rules": named})


def test_a_row_that_breaks_a_rule_is_quarantined_with_the_values_that_it_names(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    contract = with_rules(parcels, "weight < 10 or depot == 'north'")
    told = "rule r0: expected weight < 10 or depot == 'north', got weight 12.0, depot 'south'"
    rows = [parcel(0), parcel(1, weight=12.0, depot="south"), parcel(2, weight=12.0)]
    for validated in (validate_rows(rows, contract), validate(parcel_table(rows), contract)):
        assert validated.accepted["parcel"].to_pylist() == ["P0", "P2"]
        assert reasons(validated) == {1: [told]}


def test_a_null_leaves_a_rule_open_and_is_null_asks_for_it(parcels: Contract, parcel: Make) -> None:
    contract = with_rules(parcels, "rain < weight", "rain is not null or weight < 3")
    rows = [parcel(0, rain=None), parcel(1, rain=9), parcel(2, weight=4, rain=None)]
    assert reasons(validate_rows(rows, contract)) == {
        1: ["rule r0: expected rain < weight, got rain 9.0, weight 2.5"],
        2: ["rule r1: expected rain is not null or weight < 3, got rain null, weight 4.0"],
    }


def test_a_rule_is_not_asked_about_a_column_that_is_wrong_by_itself(
    parcels: Contract, parcel: Make
) -> None:
    contract = with_rules(parcels, "rain is not null", "weight < 10", "depot == 'north'")
    rows = [parcel(0, rain="wet", weight=99, depot="south"), "no row at all"]
    said = reasons(validate_rows(rows, contract))
    assert [text.split(",")[0] for text in said[0]] == [
        "weight must be in 0..40",
        "rain must be a number",
        "rule r2: expected depot == 'north'",
    ]
    assert len(said[1]) == 1


def test_the_values_of_personal_columns_are_in_no_reason_of_a_rule(
    parcels: Contract, parcel: Make
) -> None:
    contract = with_rules(parcels, "sender is null or weight > 100")
    quarantined = validate_rows([parcel(0, sender="Ada Lovelace")], contract).quarantined
    assert "Ada" not in str(quarantined.to_pylist())
    assert "got sender withheld, weight 2.5" in str(quarantined.to_pylist())


def test_a_rule_over_personal_columns_means_the_same_for_values_and_for_pseudonyms(
    parcels: Contract, parcel: Make
) -> None:
    columns = [*parcels.model_dump()["columns"], {"name": "payer", "kind": "identifier",
               "privacy": "personal", "nullable": True}]  # fmt: skip
    contract = Contract.model_validate({**parcels.model_dump(), "columns": columns})
    contract = with_rules(contract, "payer != sender")
    secret = Pseudonymiser(SecretBytes(b"k" * 32))
    raw = [{**parcel(i), "sender": "Ada", "payer": ["Ada", "Bob", None][i]} for i in range(3)]
    hidden = [
        {**row, **{n: row[n] and secret.one(str(row[n])) for n in ("sender", "payer")}}
        for row in raw
    ]
    for chosen in (raw, hidden):
        validated = validate_rows(chosen, contract, pseudonymiser=secret)
        assert validated.positions.tolist() == [1, 2]


def test_a_long_condition_is_cut_in_a_reason(parcels: Contract, parcel: Make) -> None:
    contract = with_rules(parcels, "weight > 3 or " + " or ".join(["rain\n > 1"] * 60))
    (said,) = reasons(validate_rows([parcel(0, rain=0)], contract))[0]
    assert len(said) < 260
    assert said.endswith("…, got weight 2.5, rain 0.0")
    assert "\n" not in said


def test_a_time_beyond_the_calendar_breaks_a_rule_and_nothing_else(parcels: Contract) -> None:
    contract = with_rules(parcels, "minutes_between(promised, promised) == 0 and weight < 3",
                          "promised < time '2100-01-01T00:00:00Z'")  # fmt: skip
    far = pa.array([0, 2**62, -(2**63)]).cast(pa.timestamp("us", tz="UTC"))
    typed = pa.table({"promised": far, "weight": [1.0, 1.0, 9.0]})
    reasons = Reasons()
    add_broken_rules(typed, contract, reasons, frozenset())
    assert sorted(reasons.by_row) == [1, 2]
    assert [text.split(":")[0] for text in reasons.by_row[1]] == ["rule r1"]
    assert [text.split(":")[0] for text in reasons.by_row[2]] == ["rule r0"]


def test_a_nested_value_cannot_carry_a_guarded_one_into_the_quarantine(
    parcels: Contract, parcel: Make
) -> None:
    rows = [
        parcel(0, depot={"sender": "Ada Lovelace"}),
        parcel(1, weight=[{"sender": "Ada Lovelace"}]),
    ]
    quarantined = validate_rows(rows, parcels).quarantined
    assert "Ada" not in str(quarantined.to_pylist())
    assert json.loads(quarantined["row"][0].as_py())["depot"] == "[withheld]"


@pytest.mark.parametrize("value", ["X99 SECRET", None, 17, {"a": "X99 SECRET"}])
def test_a_row_with_a_forbidden_column_is_refused_without_its_value(
    parcels: Contract, parcel: Make, value: object
) -> None:
    columns = [*parcels.model_dump()["columns"],
               {"name": "passport", "kind": "identifier", "privacy": "forbidden"}]  # fmt: skip
    contract = Contract.model_validate({**parcels.model_dump(), "columns": columns})
    rows = [{**parcel(0), "passport": value}, parcel(1), ["X99 SECRET"]]
    validated = validate_rows(rows, contract)
    assert reasons(validated)[0] == ["passport is forbidden and must not be sent; leave it out"]
    assert validated.positions.tolist() == [1]
    assert "X99" not in str(validated.quarantined.to_pylist())


def test_a_table_loses_its_forbidden_columns_before_anything_sees_them(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    columns = [*(c for c in parcels.model_dump()["columns"] if c["name"] != "sender"),
               {"name": "sender", "kind": "identifier", "privacy": "forbidden"}]  # fmt: skip
    contract = Contract.model_validate({**parcels.model_dump(), "columns": columns, "entity": None})
    table = parcel_table([parcel(0, sender="X99 SECRET"), parcel(1, sender="X99", weight=-1)])
    validated = validate(table, contract)
    assert validated.accepted.num_rows == validated.quarantined.num_rows == 1
    assert "sender" not in validated.accepted.column_names
    assert "X99" not in str([validated.accepted.to_pylist(), validated.quarantined.to_pylist()])
