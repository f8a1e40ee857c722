"""Places of many columns together: those of each column alone, to the bit."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.data.gridplaces import BLOCK, GridPlaces
from app.data.places import Places

NULL = -1.0
numbers = st.one_of(st.floats(-100, 100), st.floats(allow_infinity=False), st.just(math.nan))
# Constants, grids, edges too near for a grid, and too far apart for a double.
edges = st.one_of(
    st.just([]),
    st.just([1.0]),
    st.lists(st.floats(-100, 100), min_size=2, max_size=40, unique_by=lambda x: x + 0.0),
    st.just([0.0, 5e-324, 2.0]),
    st.just([-1.7e308, 0.0, 1.7e308]),
).map(sorted)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), kinds=st.lists(edges, max_size=6), size=st.integers(0, 30))
def test_columns_together_are_placed_as_each_alone(
    data: st.DataObject, kinds: list[list[float]], size: int
) -> None:
    columns = [
        np.array(data.draw(st.lists(numbers, min_size=size, max_size=size)), np.float64)
        for _ in kinds
    ]
    for place, (kind, column) in enumerate(zip(kinds, columns, strict=True)):
        column[: len(kind)] = kind[:size]
        columns[place] = column
    assert_as_alone(kinds, columns, size)


def test_more_rows_than_a_block_and_columns_without_a_grid_between_others() -> None:
    drawn = np.random.default_rng(3)
    size = 2 * BLOCK + 7
    kinds = [sorted(drawn.normal(size=30).tolist()), [2.0], sorted(drawn.normal(size=9).tolist())]
    columns = [drawn.normal(size=size) for _ in kinds]
    columns[2][::5] = np.nan
    assert_as_alone(kinds, columns, size)


def assert_as_alone(kinds: list[list[float]], columns: list[np.ndarray], size: int) -> None:
    alone = np.empty((size, len(kinds) + 1), np.float32)
    alone[:, -1] = 7.0  # What stands behind the numbers is another's.
    together = alone.copy()
    for place, (kind, column) in enumerate(zip(kinds, columns, strict=True)):
        Places(kind).many(column, alone[:, place], NULL)
    GridPlaces([(Places(kind), NULL) for kind in kinds]).place(columns, together)
    assert np.array_equal(alone.view(np.int32), together.view(np.int32))
