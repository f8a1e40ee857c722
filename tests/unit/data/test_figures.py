"""Figures of columns add up: any division into blocks gives the figures of the whole."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.rows import Column
from app.data.figures import MANY, MAX_VALUES, ColumnFigures, Numbers, Times, Values, shows_values

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-600, 600)


def chunked(values: list[object], kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def same(one: Numbers, other: Numbers) -> bool:
    arrays = (np.array_equal(one.values, other.values), np.array_equal(one.counts, other.counts))
    return all(arrays) and (one.minimum, one.maximum) == (other.minimum, other.maximum)


@settings(deadline=None)
@given(st.lists(st.lists(numbers, max_size=6), max_size=4))
def test_numbers_of_blocks_are_the_numbers_of_the_whole(blocks: list[list[object]]) -> None:
    def collect(block: list[object]) -> Numbers:
        return Numbers.collect(chunked([v if v is None else float(v) for v in block], pa.float64()))

    forwards, backwards = Numbers(), Numbers()
    for block in blocks:
        forwards = forwards.merge(collect(block))
        backwards = collect(block).merge(backwards)
    whole = collect([value for block in blocks for value in block])
    assert same(forwards, whole)
    assert same(backwards, whole)


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9).filter(lambda v: v == 0 or abs(v) > 1e-200), min_size=1),
       st.floats(0, 1))  # fmt: skip
def test_a_quantile_is_right_to_one_part_in_256(values: list[float], share: float) -> None:
    got = Numbers.collect(chunked(values, pa.float64())).quantile(share)
    exact = sorted(values)[max(int(np.ceil(share * len(values))), 1) - 1]
    assert got == pytest.approx(exact, rel=1 / 256, abs=0)


def test_many_numbers_are_counted_as_few_are() -> None:
    values = np.random.default_rng(1).normal(0, 1e3, MANY + 7)
    half = len(values) // 2
    parts = [pa.chunked_array([pa.array(part)]) for part in (values[:half], values[half:])]
    whole = Numbers.collect(pa.chunked_array([pa.array(values)]))
    assert same(whole, Numbers.collect(parts[0]).merge(Numbers.collect(parts[1])))
    assert whole.quantile(0.5) == pytest.approx(np.median(values), rel=1 / 200)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    numbers = Numbers.collect(chunked(values, pa.float64()))
    edges, counts = numbers.histogram(5)
    if not counts:
        span = numbers.values[-1] / 5 - numbers.values[0] / 5 if len(numbers.values) else 0.0
        assert span == 0 or not np.isfinite(span)
        return
    assert sum(counts) == len(values)
    assert edges == sorted(edges)
    assert len(edges) == 6


words = st.lists(st.none() | st.text("abc", max_size=2), max_size=8)


@settings(deadline=None)
@given(st.lists(words, max_size=4))
def test_categories_of_blocks_are_those_of_the_whole(blocks: list[list[object]]) -> None:
    total = Values()
    for block in blocks:
        total = total.merge(Values.collect(chunked(block, pa.string())))
    counted = Counter(value for block in blocks for value in block if value is not None)
    assert total == Values(counted)
    assert total.top(2) == sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:2]


def test_of_too_many_categories_the_frequent_ones_stay_within_what_is_promised() -> None:
    chance = np.random.default_rng(7)
    blocks = [
        [*(f"rare {i}" for i in chance.integers(0, 10**6, 3000)), *["often"] * 400, *["some"] * 90]
        for _ in range(8)
    ]
    total = Values()
    for block in blocks:
        total = total.merge(Values.collect(chunked(block, pa.string())))
    num_rows = sum(map(len, blocks))
    assert len(total.counts) <= MAX_VALUES
    assert 0 < total.shortfall <= num_rows / MAX_VALUES
    for value, true in (("often", 3200), ("some", 720)):
        assert true - total.shortfall <= total.counts[value] <= true


def test_times_span_all_blocks() -> None:
    moments = chunked([5, None, 3], pa.timestamp("us", tz="UTC"))
    empty = chunked([None], pa.timestamp("us", tz="UTC"))
    assert Times.collect(moments).merge(Times.collect(empty)) == Times(3, 5)


@pytest.mark.parametrize(
    ("kind", "privacy", "shows"),
    [
        ("category", "public", True),
        ("number", "public", True),
        ("identifier", "public", False),
        ("category", "quasi", False),
        ("number", "quasi", False),
        ("category", "personal", False),
    ],
)
def test_only_public_columns_that_name_nobody_keep_values(
    kind: str, privacy: str, shows: bool
) -> None:
    column = Column.model_validate({"name": "c", "kind": kind, "privacy": privacy})
    number = kind == "number"
    values = chunked([1.0 if number else "Ada", None], pa.float64() if number else pa.string())
    figures = ColumnFigures.collect(values, column)
    assert (figures.num_rows, figures.num_nulls) == (2, 1)
    assert (figures.known is not None) == shows == shows_values(column)
    assert shows or "Ada" not in repr(figures)
