"""Tables as people keep them: outcomes in the rows, no id, no time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.contracts.rows import Column, Contract
from app.data.files import Rows
from app.data.inline import Inline
from app.data.validation import validate, validate_labels
from app.sections import InlineConfig, SourceConfig

AT = datetime(2026, 3, 1, tzinfo=UTC)
KEY = SecretBytes(b"k" * 32)
CONTRACT = Contract(
    id="row_id",
    event_time="arrived_at",
    label="bad",
    columns=(
        Column(name="row_id", kind="identifier", feature=False, generated=True),
        Column(name="arrived_at", kind="time", feature=False, generated=True),
        Column(name="body_mass", kind="number", nullable=True),
        Column(name="kind", kind="category", nullable=True),
    ),
)
TABLE = pa.table(
    {
        "Body Mass": ["1", "2.5", "NA", "x"],
        "kind": ["a", "b", " a ", None],
        "Bad?": ["yes", "no", "perhaps", ""],
        "notes": ["n1", "n2", "n3", "n4"],
    }
)


def inline(**config: Any) -> Inline:
    given = {"label_column": "bad", "positive": ["yes"], "negative": ["no"], "ignore": ["notes"]}
    return Inline(CONTRACT, InlineConfig.model_validate({**given, "nulls": ["NA", ""], **config}),
                  lambda: KEY, AT)  # fmt: skip


def piece(table: pa.Table, first: int = 0) -> Rows:
    return Rows(table, first + np.arange(table.num_rows, dtype=np.int64), [], "digest")


def ids(shape: Inline, table: pa.Table, first: int = 0, path: str = "a.csv") -> list[str]:
    found: list[str] = shape.rows(piece(table, first), path).table["row_id"].to_pylist()
    return found


def test_rows_come_out_in_the_contract_s_columns_and_bad_cells_stay_to_be_refused() -> None:
    shaped = inline().rows(piece(TABLE), "a.csv")

    assert shaped.table.column_names == CONTRACT.schema.names
    judged = validate(shaped.table, CONTRACT)
    assert judged.accepted["body_mass"].to_pylist() == [1.0, 2.5, None]
    assert judged.accepted["kind"].to_pylist() == ["a", "b", "a"]
    assert judged.accepted["arrived_at"].to_pylist() == [AT] * 3
    assert judged.quarantined["reasons"].to_pylist() == [["body_mass must be a number, got 'x'"]]


def test_outcomes_are_those_of_the_same_rows_and_what_is_neither_is_refused() -> None:
    shape = inline()
    outcomes = shape.outcomes(piece(TABLE), "a.csv")
    judged = validate_labels(outcomes.table, pa.array(ids(shape, TABLE)))

    assert judged.accepted["row_id"].to_pylist() == ids(shape, TABLE)[:2]
    assert judged.accepted["label"].to_pylist() == [1, 0]
    assert judged.accepted["known_at"].to_pylist() == [AT, AT]
    (reasons,) = judged.quarantined["reasons"].to_pylist()
    assert "neither positive nor negative: perhaps" in reasons[0]


def test_a_number_that_is_not_listed_is_no_outcome_even_if_it_is_1() -> None:
    table = TABLE.set_column(2, "Bad?", pa.array(["yes", "no", "1", "0"]))
    judged = validate_labels(inline().outcomes(piece(table), "a.csv").table)
    assert judged.accepted.num_rows == 2
    assert judged.quarantined.num_rows == 2


def test_an_outcome_is_known_so_long_after_its_row_s_event() -> None:
    day = Column(name="day", kind="time", feature=False)
    contract = Contract(
        id="row_id", event_time="day", label="bad", columns=(CONTRACT.columns[0], day)
    )
    config = InlineConfig.model_validate(
        {
            "label_column": "bad",
            "known_after_hours": 36,
            "times": {"day": {"format": "%d/%m/%Y", "zone": "Europe/Rome"}},
        }
    )
    table = pa.table({"Day": ["01/02/2024"], "bad": ["1"]})
    outcomes = Inline(contract, config, lambda: KEY, AT).outcomes(piece(table), "a.csv")
    expected = datetime(2024, 1, 31, 23, tzinfo=UTC) + timedelta(hours=36)
    assert outcomes.table["known_at"].to_pylist() == [expected]


cells = st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["a", "b", None])), max_size=12)


@given(cells)
@settings(deadline=None)
def test_ids_by_place_tell_all_rows_apart_and_ids_by_content_equal_ones_not(
    rows: list[tuple[str, str | None]],
) -> None:
    names = ["Body Mass", "kind"]
    table = pa.table(
        {n: pa.array([row[i] for row in rows], pa.string()) for i, n in enumerate(names)}
    )
    contents = {(row[0].strip(), row[1]) for row in rows}

    by_place = ids(inline(), table)
    by_content = ids(inline(generated_id="content"), table)

    assert len(set(by_place)) == len(rows)
    # Spaces around a text are no content; an empty text is one and a null is not.
    assert len(set(by_content)) == len(contents)
    assert all(name.startswith("r_") for name in by_place + by_content)


def test_a_file_that_grew_gives_its_old_rows_their_old_ids() -> None:
    grown = pa.concat_tables([TABLE, TABLE])
    for kind in ("position", "content"):
        shape = inline(generated_id=kind)
        assert ids(shape, grown)[:4] == ids(shape, TABLE)
    by_content = inline(generated_id="content")
    assert ids(by_content, TABLE.take(pa.array([3, 1]))) == [
        ids(by_content, TABLE)[i] for i in (3, 1)
    ]
    assert set(ids(inline(), TABLE, path="b.csv")).isdisjoint(ids(inline(), TABLE))


def test_an_id_holds_neither_label_nor_remarks_and_depends_on_the_key() -> None:
    later = TABLE.set_column(2, "Bad?", pa.array(["no", "no", "yes", "yes"])).drop_columns("notes")
    shape = inline(generated_id="content")
    assert ids(shape, later) == ids(shape, TABLE)
    other = Inline(CONTRACT, shape.config, lambda: SecretBytes(b"x" * 32), AT)
    assert set(ids(other, TABLE)).isdisjoint(ids(shape, TABLE))


def test_the_same_cells_have_the_same_ids_in_parquet_and_in_csv() -> None:
    text = pa.table({"Body Mass": ["1", "2.5"], "kind": ["true", "false"]})
    typed = pa.table({"Body Mass": [1.0, 2.5], "kind": [True, False]})
    assert ids(inline(), text) == ids(inline(), typed)
    accepted = validate(inline().rows(piece(typed), "a").table, CONTRACT).accepted
    assert accepted["kind"].to_pylist() == ["true", "false"]


def test_nested_cells_are_quarantined_and_break_nothing() -> None:
    table = pa.table({"Body Mass": [1.0, 2.0], "kind": [["a"], None]})
    judged = validate(inline().rows(piece(table), "a").table, CONTRACT)
    assert judged.accepted.num_rows == 1
    assert "column of type list" in judged.quarantined["reasons"].to_pylist()[0][0]


def test_a_generated_column_that_a_file_has_is_taken_from_the_file() -> None:
    table = TABLE.append_column("row_id", pa.array(["p", "q", "r", "s"]))
    assert ids(inline(), table) == ["p", "q", "r", "s"]


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="both positive and negative"):
        InlineConfig(positive=("1",), negative=("1",))
    with pytest.raises(ValueError, match="put quotes around True"):
        InlineConfig.model_validate({"positive": [True]})
    with pytest.raises(ValueError, match="outcomes have one home"):
        SourceConfig.model_validate(
            {"kind": "csv", "events": "a", "labels": "b", "inline": {"label_column": "y"}}
        )
    with pytest.raises(ValueError, match="only the id and the event time can be generated"):
        Contract.model_validate(
            {**CONTRACT.model_dump(), "columns": [*(c.model_dump() for c in CONTRACT.columns),
             {"name": "z", "kind": "number", "generated": True}]}
        )  # fmt: skip


def test_other_spellings_of_the_outcomes_are_another_delivery_of_them() -> None:
    first, second = inline(), inline(positive=["yes", "perhaps"])
    assert first.outcome_digest("d") == inline(generated_id="content").outcome_digest("d")
    assert len({first.outcome_digest("d"), second.outcome_digest("d"), "d"}) == 3
