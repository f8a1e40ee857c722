"""A few rows, value by value: the bits of whole columns, for anything that a row may hold."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.rows import TIMESTAMP
from app.data.features import Encoder
from app.data.rowwise import FEW_ROWS
from tests.learning_world import make_encoder, make_rows

ROWS = make_rows(600)
FITTED = make_encoder(ROWS)
# Edges that no grid holds, a constant, and a number that training never saw.
ODD = Encoder.model_validate(
    {
        "numbers": [
            {"name": "weight", "edges": [0.0, 5e-324, 1.0, 1e9], "fill": 0.5, "has_null": False},
            {"name": "stops", "edges": [3.0], "fill": 0.0, "has_null": True},
        ],
        "times": ["due"],
        "categories": [
            {"name": "depot", "vocabulary": ["", "north", "nörd"]},
            {"name": "driver", "vocabulary": []},
        ],
    }
)
HASHED = ODD.model_copy(
    update={"categories": tuple(c.model_copy(update={"num_buckets": 5}) for c in ODD.categories)}
)

numbers = st.one_of(st.none(), st.floats(width=64), st.sampled_from([math.nan, -0.0, 5e-324, 1e9]))
texts = st.one_of(st.none(), st.text(max_size=4), st.sampled_from(["north", "west", "d1", "nörd"]))
moments = st.one_of(st.none(), st.integers(-(2**60), 2**60))
rows = st.lists(st.tuples(moments, numbers, numbers, texts, texts), min_size=1, max_size=FEW_ROWS)


def as_table(values: list[tuple[object, ...]], dictionaries: bool = False) -> pa.Table:
    types = [TIMESTAMP, pa.float64(), pa.float64(), pa.string(), pa.string()]
    columns = zip(*values, strict=True)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    if dictionaries:
        arrays = [*arrays[:3], *(array.dictionary_encode() for array in arrays[3:])]
    return pa.table(arrays, names=["due", "weight", "stops", "depot", "driver"])


@pytest.mark.parametrize("encoder", [FITTED, ODD, HASHED], ids=["fitted", "odd", "hashed"])
@settings(deadline=None)
@given(values=rows, dictionaries=st.booleans())
def test_few_rows_are_encoded_to_the_bits_of_many(
    encoder: Encoder, values: list[tuple[object, ...]], dictionaries: bool
) -> None:
    few = as_table(values, dictionaries)
    many = pa.concat_tables([few] * (FEW_ROWS + 1))
    first, whole = encoder.transform(few), encoder.transform(many)
    assert len(many) > FEW_ROWS
    assert first.numbers.tobytes() == whole.numbers[: len(few)].tobytes()
    assert first.categories.tobytes() == whole.categories[: len(few)].tobytes()


def test_a_plan_follows_a_table_whose_columns_stand_elsewhere() -> None:
    table = ROWS.slice(7, 1)
    expected = FITTED.transform(table)
    for names in (table.column_names[::-1], table.column_names, [*"ab", *table.column_names]):
        others = {name: pa.array([1.0]) for name in names if name not in table.column_names}
        turned = pa.table({**others, **{n: table[n] for n in names if n not in others}})
        again = FITTED.transform(turned)
        np.testing.assert_array_equal(again.numbers, expected.numbers)
        np.testing.assert_array_equal(again.categories, expected.categories)


def test_columns_of_other_types_are_read_as_whole_columns_are() -> None:
    table = ROWS.slice(7, 1)
    place = table.column_names.index("stops")
    whole = table.set_column(place, "stops", table["stops"].cast(pa.int32()))
    np.testing.assert_array_equal(FITTED.transform(whole).numbers, FITTED.transform(table).numbers)


def test_a_row_without_a_column_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no column depot"):
        FITTED.transform(ROWS.slice(0, 1).drop_columns(["depot"]))


@pytest.mark.parametrize("encoder", [FITTED, ODD, HASHED], ids=["fitted", "odd", "hashed"])
@settings(deadline=None)
@given(values=rows)
def test_plain_values_are_encoded_to_the_bits_of_tables(
    encoder: Encoder, values: list[tuple[object, ...]]
) -> None:
    table = as_table(values)
    # Columns stand elsewhere than in the encoder, and one is nobody's.
    names = ("driver", "stops", "surplus", "due", "depot", "weight")
    moved = [(row[4], row[2], 1.0, row[0], row[3], row[1]) for row in values]
    plain, whole = encoder.transform_rows(moved, names), encoder.transform(table)
    assert plain.numbers.tobytes() == whole.numbers.tobytes()
    assert plain.categories.tobytes() == whole.categories.tobytes()


def test_plain_values_without_a_column_are_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="no column stops"):
        ODD.transform_rows([(1.0, None, None, None)], ("weight", "due", "depot", "driver"))
