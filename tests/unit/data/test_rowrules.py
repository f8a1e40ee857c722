"""A rule says of one row of plain values what it says of whole columns."""

from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.expressions import Expression
from app.contracts.syntax import parse
from app.contracts.times import micros_of
from app.data.rowrules import row_function
from app.data.rules import evaluate
from tests.unit.contracts.trees import COLUMNS, rows, trees
from tests.unit.data.test_rules import columns_of

PLACES = {name: place for place, name in enumerate(COLUMNS)}


def plain(row: dict[str, object]) -> list[object]:
    return [micros_of(v) if isinstance(v, datetime) else v for v in (row[n] for n in COLUMNS)]


@settings(max_examples=500, deadline=None)
@given(st.one_of(trees(), trees("number")), rows)
def test_a_row_alone_has_the_outcome_of_columns(tree: Expression, row: dict[str, object]) -> None:
    [whole] = evaluate(tree, columns_of([row]), 1).to_pylist()
    alone = row_function(tree, PLACES)(plain(row))
    assert alone == whole
    assert type(alone) is type(whole)


@given(st.text(max_size=6) | st.sampled_from(["İ", "ΟΔΟΣ", "ẞ", "Ǆ"]))
def test_letters_are_lowered_as_in_columns(text: str) -> None:
    tree = parse("lower(d) == e", COLUMNS)
    row: dict[str, object] = dict.fromkeys(COLUMNS) | {"d": text, "e": text.lower()}
    assert [row_function(tree, PLACES)(plain(row))] == evaluate(
        tree, columns_of([row]), 1
    ).to_pylist()
