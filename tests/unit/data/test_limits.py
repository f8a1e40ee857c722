"""Columns that are looked at together are passed over only where nothing is wrong with them."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.columns import Column
from app.data.cells import Cells
from app.data.limits import MOST_TOGETHER, limits, within

value = st.one_of(
    st.none(), st.floats(-20, 20), st.sampled_from([0.0, 10.0, math.nan, math.inf, -math.inf])
)
columns = st.builds(
    lambda nullable, low, high: Column(
        name="x", kind="number", nullable=nullable, minimum=low, maximum=high
    ),
    st.booleans(),
    st.sampled_from([None, 0.0]),
    st.sampled_from([None, 10.0]),
)


def cells_of(values: list[float | None]) -> Cells:
    return Cells(pa.array(values, pa.float64(), from_pandas=False), [])


@given(data=st.data(), kinds=st.lists(columns, min_size=1, max_size=4), size=st.integers(1, 5))
def test_what_is_named_is_what_limits_find_nothing_about(
    data: st.DataObject, kinds: list[Column], size: int
) -> None:
    named = [kind.model_copy(update={"name": f"x{i}"}) for i, kind in enumerate(kinds)]
    cells = {
        column.name: cells_of(data.draw(st.lists(value, min_size=size, max_size=size)))
        for column in named
    }
    found = within(cells, named)
    assert found == {c.name for c in named if not limits(cells[c.name], c)}


@pytest.mark.parametrize("size", [0, MOST_TOGETHER + 1])
def test_of_no_rows_or_very_many_none_is_named(size: int) -> None:
    column = Column(name="x", kind="number")
    assert within({"x": cells_of([1.0] * size)}, [column]) == frozenset()
