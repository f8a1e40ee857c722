import json
import math
from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.contracts.rows import TIMESTAMP, Contract
from app.data.cells import Cells
from app.data.limits import limits
from app.data.validation import SchemaMismatch, Validated, validate, validate_labels, validate_rows
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]


def reasons(validated: Validated) -> dict[int, list[str]]:
    rows = validated.quarantined.to_pylist()
    return {row["position"]: row["reasons"] for row in rows}


def test_good_rows_pass_whole_and_in_order(parcels: Contract, parcel: Make) -> None:
    validated = validate_rows([parcel(i) for i in range(5)], parcels)
    assert validated.quarantined.num_rows == 0
    assert validated.accepted.schema.equals(parcels.schema)
    assert validated.accepted["parcel"].to_pylist() == ["P0", "P1", "P2", "P3", "P4"]
    assert validated.positions.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("weight", "3", "weight must be a number, not a string, got '3'"),
        ("weight", True, "weight must be a number, not a boolean, got True"),
        ("weight", None, "weight is needed and absent or null"),
        ("weight", math.nan, "weight is NaN; send null for an unknown value, got nan"),
        ("weight", math.inf, "weight must be finite, got inf"),
        ("weight", -math.inf, "weight must be finite, got -inf"),
        ("weight", 40.5, "weight must be in 0..40, got 40.5"),
        ("rain", -1, "rain must be in 0..inf, got -1.0"),
        ("weight", [1], "weight must be a number, not a list, got [1]"),
        ("depot", "east", "depot must be one of north, south, got 'east'"),
        ("depot", 3, "depot must be a string, not a number, got 3"),
        ("parcel", 7, "parcel must be a string, not a number, got 7"),
        ("parcel", "", "parcel must not be empty, got ''"),
        ("parcel", None, "parcel is needed and absent or null"),
        ("promised", "yesterday", "promised must be an ISO 8601 time with a zone"),
        ("promised", "2024-03-01T10:00:00", "promised has no time zone; end it with Z"),
        ("promised", 1709287200, "promised must be an ISO 8601 time with a zone, not a number"),
        ("promised", "2024-13-01T10:00:00Z", "promised must be an ISO 8601 time with a zone"),
    ],
)
def test_a_bad_cell_is_quarantined_with_its_reason(
    parcels: Contract, parcel: Make, column: str, value: object, reason: str
) -> None:
    validated = validate_rows([parcel(0), parcel(1, **{column: value})], parcels)
    (said,) = reasons(validated)[1]
    assert said.startswith(reason)
    assert validated.accepted.num_rows == 1


def test_a_row_says_all_that_is_wrong_with_it(parcels: Contract, parcel: Make) -> None:
    row = parcel(0, weight=99, depot="east", colour="red")
    said = reasons(validate_rows([row], parcels))[0]
    assert [text.split()[0] for text in said] == ["row", "depot", "weight"]
    assert said[0] == "row has unknown columns: colour"


def test_an_absent_nullable_column_is_null_and_an_absent_needed_one_is_refused(
    parcels: Contract, parcel: Make
) -> None:
    without_rain, without_weight = parcel(0), parcel(1)
    del without_rain["rain"], without_weight["weight"]
    validated = validate_rows([without_rain, without_weight], parcels)
    assert validated.accepted["rain"].to_pylist() == [None]
    assert reasons(validated) == {1: ["weight is needed and absent or null"]}


@pytest.mark.parametrize("row", [None, 5, "text", [1, 2], True])
def test_what_is_no_object_is_quarantined(parcels: Contract, parcel: Make, row: object) -> None:
    validated = validate_rows([row, parcel(0)], parcels)
    (said,) = reasons(validated)[0]
    assert said.startswith("row must be an object")
    assert validated.accepted["parcel"].to_pylist() == ["P0"]


def test_numbers_beyond_what_a_float_holds_are_refused_not_crashed_on(
    parcels: Contract, parcel: Make
) -> None:
    validated = validate_rows([parcel(0, rain=10**400), parcel(1, rain=2**60)], parcels)
    assert reasons(validated)[0][0].startswith("rain is too large for a number")
    assert validated.accepted["rain"].to_pylist() == [2.0**60]


def test_broken_unicode_is_quarantined(parcels: Contract, parcel: Make) -> None:
    validated = validate_rows([parcel(0, depot="\ud800"), parcel(1)], parcels)
    assert reasons(validated)[0][0].startswith("depot is no valid Unicode text")
    assert validated.accepted.num_rows == 1


def test_the_first_acceptable_row_of_an_id_is_kept(parcels: Contract, parcel: Make) -> None:
    rows = [parcel(1, weight=-1), parcel(1, weight=3), parcel(1, weight=4)]
    validated = validate_rows(rows, parcels)
    assert validated.accepted["weight"].to_pylist() == [3.0]
    assert validated.positions.tolist() == [1]
    assert reasons(validated)[2] == [
        "parcel is given more than once; the first row is kept, got 'P1'"
    ]


@pytest.mark.parametrize("seen", [{"P1"}, ["P1"], pa.array(["P1", "P9"])])
def test_an_id_seen_in_an_earlier_ingest_is_quarantined(
    parcels: Contract, parcel: Make, seen: object
) -> None:
    validated = validate_rows([parcel(0), parcel(1), parcel(1)], parcels, seen)
    assert validated.accepted["parcel"].to_pylist() == ["P0"]
    assert reasons(validated) == {
        1: ["parcel was ingested before, got 'P1'"],
        2: ["parcel was ingested before, got 'P1'"],
    }


def test_a_table_with_a_renamed_column_is_refused_by_name(
    parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    table = parcel_table([parcel(0)]).rename_columns({"weight": "mass"})
    with pytest.raises(
        SchemaMismatch, match=r"no column weight; unknown column mass; was one renamed"
    ):
        validate(table, parcels)


@settings(deadline=None)
@given(
    depots=st.lists(st.sampled_from(["north", "south", "east", "", None]), max_size=12),
    nullable=st.booleans(),
    start=st.integers(0, 3),
)
def test_dictionaries_are_judged_as_their_texts_and_stay_when_asked(
    parcels: Contract, depots: list[str | None], nullable: bool, start: int
) -> None:
    described = parcels.model_dump()
    described["columns"][3]["nullable"] = nullable
    contract = Contract.model_validate(described)
    ids = [f"P{i}" for i in range(len(depots))]
    plain = pa.table(
        {
            "parcel": ids,
            "promised": pa.array([0] * len(ids), TIMESTAMP),
            "sender": pa.nulls(len(ids), pa.string()),
            "depot": pa.array(depots, pa.string()),
            "weight": [1.0] * len(ids),
            "rain": pa.nulls(len(ids), pa.float64()),
        }
    ).slice(start)
    short = plain.set_column(3, "depot", plain["depot"].dictionary_encode())
    expected = validate(plain, contract)
    for kept in (False, True):
        validated = validate(short, contract, dictionaries=kept)
        assert pa.types.is_dictionary(validated.accepted["depot"].type) == kept
        assert validated.accepted.cast(contract.schema).equals(expected.accepted)
        assert validated.quarantined.equals(expected.quarantined)


@pytest.mark.parametrize("dictionary", [["north", None], [1, 2]])
def test_a_dictionary_of_nulls_or_numbers_is_read_as_what_it_stands_for(
    parcels: Contract, parcel: Make, parcel_table: MakeTable, dictionary: list[object]
) -> None:
    table = parcel_table([parcel(0), parcel(1)])
    depot = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(dictionary))
    short = table.set_column(table.column_names.index("depot"), "depot", depot)
    plain = table.set_column(table.column_names.index("depot"), "depot", pa.array(dictionary))
    first, second = validate(short, parcels, dictionaries=True), validate(plain, parcels)
    assert first.accepted.equals(second.accepted)
    assert reasons(first) == reasons(second) != {}


@settings(deadline=None)
@given(
    values=st.lists(
        st.sampled_from([None, 0.0, 40.0, 41.0, -1.0, math.nan, math.inf, 7.5]), max_size=9
    )
)
def test_limits_of_numbers_find_each_value_that_breaks_one(
    parcels: Contract, values: list[float | None]
) -> None:
    column = parcels.by_name["weight"].model_copy(update={"nullable": True})
    found = limits(Cells(pa.array(values, pa.float64()), []), column)
    wrong = [i for i, x in enumerate(values) if x is not None and not 0 <= x <= 40]
    assert sorted(i for i, _ in found) == wrong


def test_text_from_csv_is_read_and_bad_text_is_quarantined(parcels: Contract, parcel: Make) -> None:
    rows = [
        parcel(i, weight=w) for i, w in enumerate(["3", " 1.5e1 ", "three", "NaN", "1e999", ""])
    ]
    table = pa.table(
        {name: pa.array([row[name] for row in rows], pa.string()) for name in parcels.schema.names}
    )
    validated = validate(table, parcels)
    assert validated.accepted["weight"].to_pylist() == [3.0, 15.0]
    assert reasons(validated) == {
        2: ["weight must be a number, got 'three'"],
        3: ["weight must be a number, got 'NaN'"],
        4: ["weight must be finite, got inf"],
        5: ["weight must be a number, got ''"],
    }


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("weight", pa.array([True]), "weight must be numbers, got a column of type bool"),
        ("depot", pa.array([1.5]), "depot must be text, got a column of type double"),
        ("promised", pa.array([datetime(2024, 3, 1)]), "promised must be times with a time zone"),
        ("promised", pa.array([19000], pa.date32()), "promised must be times with a time zone"),
        ("weight", pa.array([float("nan")]), "weight is NaN"),
        ("weight", pa.array([None], pa.null()), "weight is needed and absent or null"),
    ],
)
def test_a_column_of_another_type_is_quarantined_not_crashed_on(
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    column: str,
    values: pa.Array,
    reason: str,
) -> None:
    table = parcel_table([parcel(0)])
    table = table.set_column(table.schema.get_field_index(column), column, values)
    (said,) = reasons(validate(table, parcels))[0]
    assert said.startswith(reason)


@pytest.mark.parametrize(
    ("column", "values", "got"),
    [
        ("weight", pa.array([3], pa.int8()), 3.0),
        ("depot", pa.array(["south"]).dictionary_encode(), "south"),
        ("parcel", pa.array([12], pa.int64()), "12"),
        ("depot", pa.array(["south"], pa.large_string()), "south"),
        (
            "promised",
            pa.array([datetime(2024, 3, 1, 1, tzinfo=UTC)], pa.timestamp("ns", tz="Asia/Tokyo")),
            datetime(2024, 3, 1, 1, tzinfo=UTC),
        ),
    ],
)
def test_types_that_say_the_same_are_read(
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    column: str,
    values: pa.Array,
    got: object,
) -> None:
    table = parcel_table([parcel(0)])
    table = table.set_column(table.schema.get_field_index(column), column, values)
    assert validate(table, parcels).accepted[column].to_pylist() == [got]


def test_personal_values_are_in_no_reason_and_no_quarantined_row(
    parcels: Contract, parcel: Make
) -> None:
    rows = [
        parcel(0, weight=-1, sender="Ada Lovelace"),
        parcel(1, sender=17),
        {**parcel(2), "sender_name": "Ada Lovelace"},
        "Ada Lovelace",
    ]
    quarantined = validate_rows(rows, parcels).quarantined
    assert quarantined.num_rows == 4
    assert "Ada" not in str(quarantined.to_pylist())
    assert json.loads(quarantined["row"][0].as_py())["sender"] == "[withheld]"


def test_a_pseudonymiser_protects_both_parts(parcels: Contract, parcel: Make) -> None:
    pseudonymiser = Pseudonymiser(SecretBytes(b"k" * 32))
    validated = validate_rows(
        [parcel(0), parcel(3, weight=-1)], parcels, pseudonymiser=pseudonymiser
    )
    expected = pseudonymiser.one("sender 0")
    assert validated.accepted["sender"].to_pylist() == [expected]
    assert json.loads(validated.quarantined["row"][0].as_py())["sender"] == expected


def test_the_quarantined_row_is_json_that_says_what_came(parcels: Contract, parcel: Make) -> None:
    rows = [parcel(0, weight=math.inf, rain=10**400), parcel(1, weight=object())]
    quarantined = validate_rows(rows, parcels).quarantined["row"].to_pylist()
    assert json.loads(quarantined[0])["weight"] == "inf"
    assert json.loads(quarantined[0])["rain"] == str(10**400)
    assert "object" in json.loads(quarantined[1])["weight"]


cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just("north"),
    st.just("2024-03-01T10:00:00Z"), st.lists(st.integers(), max_size=1),
)  # fmt: skip
NAMES = ["parcel", "promised", "sender", "depot", "weight", "rain", "other"]
rows_of_anything = st.lists(
    st.one_of(cells, st.dictionaries(st.sampled_from(NAMES), cells)), max_size=8
)


@settings(deadline=None)
@given(rows_of_anything)
def test_every_row_is_accepted_or_quarantined_whatever_comes(
    parcels: Contract, rows: list[object]
) -> None:
    validated = validate_rows(rows, parcels)
    places = [*validated.positions.tolist(), *validated.quarantined["position"].to_pylist()]
    assert sorted(places) == list(range(len(rows)))
    assert all(reasons(validated).values())
    assert validated.accepted["weight"].null_count == 0


def test_no_rows_are_no_problem(parcels: Contract) -> None:
    assert validate_rows([], parcels).accepted.num_rows == 0
    assert validate(parcels.schema.empty_table(), parcels).quarantined.num_rows == 0


NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)
EVENING = datetime(2024, 3, 2, 18, tzinfo=UTC)


def outcomes(*rows: tuple[object, object, object, object]) -> pa.Table:
    names = ("row_id", "label", "void", "known_at")
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})


def test_outcomes_are_accepted_with_a_label_or_void() -> None:
    validated = validate_labels(outcomes(("P0", 1, False, NOON), ("P1", None, True, NOON)))
    assert validated.accepted["label"].to_pylist() == [1, None]
    assert validated.accepted["label"].type == pa.int8()


def test_outcomes_that_make_no_sense_are_quarantined() -> None:
    table = outcomes(
        ("P0", 2, False, NOON),
        ("P1", None, False, NOON),
        ("P2", 1, True, NOON),
        (None, 1, False, NOON),
        ("P4", 1, None, NOON),
        ("P5", 1, False, None),
        ("P6", 0, False, NOON),
    )
    validated = validate_labels(table)
    assert reasons(validated) == {
        0: ["label must be in 0..1, got 2.0"],
        1: ["label is needed unless the outcome is void"],
        2: ["label must be null when the outcome is void"],
        3: ["row_id is needed and absent or null"],
        4: ["void is needed and absent or null"],
        5: ["known_at is needed and absent or null"],
    }
    assert validated.accepted["row_id"].to_pylist() == ["P6"]


def test_half_a_label_is_quarantined() -> None:
    validated = validate_labels(outcomes(("P0", 0.5, False, NOON)))
    assert reasons(validated) == {0: ["label must be 0 or 1"]}


def test_an_outcome_given_twice_is_kept_once_and_a_revision_is_kept() -> None:
    table = outcomes(
        ("P0", 1, False, NOON),
        ("P0", 1, False, NOON),
        ("P0", 0, False, NOON),
        ("P0", 0, False, EVENING),
    )
    validated = validate_labels(table)
    assert validated.positions.tolist() == [0, 3]
    assert reasons(validated)[2] == [
        "row_id has an outcome of that time already; the first is kept"
    ]


def test_outcomes_of_unknown_rows_are_quarantined() -> None:
    table = outcomes(("P0", 1, False, NOON), ("P7", 1, False, NOON))
    validated = validate_labels(table, known_ids=pa.array(["P0"]))
    assert reasons(validated) == {1: ["row_id must name an accepted row, got 'P7'"]}


def test_outcomes_as_text_are_read() -> None:
    table = outcomes(
        ("P0", "1", "False", "2024-03-02T12:00:00Z"), ("P1", None, "true", "2024-03-02T12:00:00Z")
    )
    accepted = validate_labels(table).accepted
    assert accepted["void"].to_pylist() == [False, True]
    assert accepted["known_at"].to_pylist() == [NOON, NOON]


def test_a_missing_outcome_column_is_refused() -> None:
    with pytest.raises(SchemaMismatch, match="labels: no column void"):
        validate_labels(outcomes(("P0", 1, False, NOON)).drop_columns("void"))
