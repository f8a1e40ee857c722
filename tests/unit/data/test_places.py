"""Places among edges: np.interp's, to the bit, for many values and for one."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.data.places import BLOCK, Places

finite = st.floats(allow_nan=False, allow_infinity=False)
near = st.floats(-1000, 1000)
edge_lists = st.one_of(
    st.lists(near, min_size=1, max_size=40, unique_by=lambda edge: edge + 0.0),
    st.lists(finite, min_size=2, max_size=12, unique_by=lambda edge: edge + 0.0),
    # One far edge puts the others into one cell of any grid.
    st.lists(near, min_size=2, max_size=300, unique_by=lambda edge: edge + 0.0).map(
        lambda edges: [*edges, 1e9]
    ),
).map(sorted)


def places(edges: list[float], values: list[float]) -> NDArray[np.float64]:
    out = np.empty(len(values))
    Places(edges).many(np.array(values, np.float64), out, math.nan)
    return out


def same_bits(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    return np.array_equal(left.view(np.int64), right.view(np.int64))


@settings(deadline=None)
@given(edges=edge_lists, values=st.lists(st.one_of(finite, near, st.just(math.inf)), max_size=50))
@example(edges=[0.0, 5e-324], values=[0.0, 5e-324, 1.0])
@example(edges=[-1.7e308, 0.0, 1.7e308], values=[-1e308, 1e308, 5.0])
@example(edges=[1.0, math.nextafter(1.0, 2.0), 2.0], values=[1.0, 1.5, 3.0])
def test_a_place_is_that_of_linear_interpolation(edges: list[float], values: list[float]) -> None:
    values = [*values, *edges, *(math.nextafter(edge, math.inf) for edge in edges), -math.inf]
    numbers = np.array(values)
    if len(edges) == 1:
        assert not places(edges, values).any()
        return
    expected = np.interp(numbers, np.array(edges), np.arange(float(len(edges))))
    assert same_bits(places(edges, values), expected)


@settings(deadline=None)
@given(edges=edge_lists, values=st.lists(st.one_of(finite, near), min_size=1, max_size=30))
@example(edges=[0.0, 5e-324, 1.0], values=[0.0, 5e-324, 0.5])
def test_one_value_and_many_come_to_the_same_bits(edges: list[float], values: list[float]) -> None:
    values = [*values, *edges]
    alone = np.array([Places(edges).one(value) for value in values])
    assert same_bits(alone, places(edges, values))


@pytest.mark.parametrize("edges", [[], [3.0], [0.0, 1.0, 3.0]])
def test_a_null_takes_the_place_that_it_is_given(edges: list[float]) -> None:
    out = np.empty(3, np.float32)
    Places(edges).many(np.array([math.nan, 0.0, math.nan]), out, -1.0)
    assert out.tolist() == [-1.0, 0.0, -1.0]


def test_more_values_than_a_block_go_into_a_column_of_a_larger_array() -> None:
    edges, values = [0.0, 1.0, 4.0], np.random.default_rng(0).uniform(-1, 5, 2 * BLOCK + 17)
    table = np.full((len(values), 3), 7.0, np.float32)
    Places(edges).many(values, table[:, 1], -1.0)
    expected = np.interp(values, edges, [0.0, 1.0, 2.0]).astype(np.float32)
    np.testing.assert_array_equal(table[:, 1], expected)
    assert (table[:, [0, 2]] == 7.0).all()
