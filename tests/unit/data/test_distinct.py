"""Distinct texts by their hashes, and rows without a few of them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.data.distinct import surely_distinct, take_most

texts = st.lists(st.text(max_size=20), max_size=30)


@settings(deadline=None)
@given(values=texts, start=st.integers(0, 5))
def test_what_is_surely_distinct_is_distinct_and_short_distinct_texts_are_sure(
    values: list[str], start: int
) -> None:
    column = pa.array(values, pa.string()).slice(start)
    assert surely_distinct(column) == (len(set(values[start:])) == len(values[start:]))


@settings(deadline=None)
@given(values=texts.filter(bool), twice=st.integers(0, 29))
def test_a_text_that_comes_twice_is_never_passed_over(values: list[str], twice: int) -> None:
    assert not surely_distinct(pa.array([*values, values[twice % len(values)]], pa.string()))


def test_texts_differ_in_any_byte_and_in_length() -> None:
    stem = "x" * 40
    changed = [stem[:i] + "y" + stem[i + 1 :] for i in range(40)]
    assert surely_distinct(pa.array([stem, *changed, *(stem[:i] for i in range(40)), "a", "a\0"]))


@pytest.mark.parametrize(
    "column",
    [pa.array(["a", None]), pa.array(["a" * 65, "b"]), pa.array(["a", "b"], pa.large_string())],
)
def test_nulls_long_texts_and_other_types_are_left_to_others(column: pa.Array) -> None:
    assert not surely_distinct(column)


def test_many_ids_are_sure() -> None:
    assert surely_distinct(pa.array([f"order-{i}" for i in range(20_000)]))


@settings(deadline=None)
@given(dropped=st.sets(st.integers(0, 999), max_size=40), start=st.integers(0, 3))
def test_most_rows_are_taken_as_take_takes_them(dropped: set[int], start: int) -> None:
    column = pa.array([f"v{i % 7}" for i in range(1003)], pa.string()).dictionary_encode()
    table = pa.table({"n": np.arange(1003.0), "v": column}).slice(start, 1000)
    positions = np.delete(np.arange(1000), sorted(dropped))
    taken = take_most(table, positions)
    assert taken.equals(table.take(pa.array(positions)).cast(taken.schema))
    assert taken.num_rows == 1000 - len(dropped)


def test_a_strangers_buffer_may_end_in_the_middle_of_a_number() -> None:
    ends = np.array([0, 1, 2], np.int32).tobytes() + b"\0\0\0"
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(ends), pa.py_buffer(b"ab"))
    texts.validate(full=True)
    assert surely_distinct(texts)
