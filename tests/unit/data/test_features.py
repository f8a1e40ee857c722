"""The encoder and the statistics that it is fitted from."""

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data import statistics
from app.data.features import Encoder, NumberFeature, Statistics
from app.data.statistics import CategoryCounts, NumberCounts
from app.sections import FeaturesConfig
from tests.learning_world import CONTRACT, make_encoder, make_rows

ROWS = make_rows(600)
CONFIG = FeaturesConfig(num_bins=8, min_category_count=5)
HASHING = FeaturesConfig(num_bins=8, min_category_count=40, hash_buckets=6)


def one_number(values: list[float | None], **config: int) -> NumberFeature:
    contract = Contract(
        id="i",
        event_time="t",
        label="y",
        columns=(
            Column(name="i", kind="identifier", feature=False),
            Column(name="t", kind="time", feature=False),
            Column(name="x", kind="number", nullable=True),
        ),
    )
    table = pa.table({"x": pa.array(values, pa.float64())})
    fitted = Encoder.fit(Statistics.collect(table, contract), FeaturesConfig(**config))
    return fitted.numbers[0]


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 600), max_size=6), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("config", [CONFIG, HASHING], ids=["plain", "hashing"])
def test_encoder_json_is_the_same_for_any_partitioning_and_order(
    config: FeaturesConfig, cuts: list[int], seed: int
) -> None:
    shuffled = ROWS.take(np.random.default_rng(seed).permutation(len(ROWS)))
    edges = [0, *sorted(cuts), len(ROWS)]
    blocks = [shuffled.slice(a, b - a) for a, b in pairwise(edges)]
    parts = [Statistics.collect(block, CONTRACT) for block in blocks]
    travelled = [Statistics.from_bytes(part.to_bytes()) for part in reversed(parts)]
    merged = Statistics.merge_all(travelled)
    whole = Encoder.fit(Statistics.collect(ROWS, CONTRACT), config)
    assert Encoder.fit(merged, config).to_json() == whole.to_json()


def test_a_changed_value_changes_the_encoder() -> None:
    column = pc.add(ROWS["weight"], 1.0)
    moved = ROWS.set_column(ROWS.schema.get_field_index("weight"), "weight", column)
    assert make_encoder(moved).to_json() != make_encoder(ROWS).to_json()


def test_encoder_read_back_encodes_the_same() -> None:
    encoder = make_encoder(ROWS)
    again = Encoder.from_json(encoder.to_json())
    first, second = encoder.transform(ROWS), again.transform(ROWS)
    np.testing.assert_array_equal(first.numbers, second.numbers)
    np.testing.assert_array_equal(first.categories, second.categories)


def test_a_row_is_encoded_alone_as_in_company() -> None:
    encoder = make_encoder(ROWS)
    together = encoder.transform(ROWS)
    for i in (0, 17, 599):
        alone = encoder.transform(ROWS.slice(i, 1))
        np.testing.assert_array_equal(alone.numbers[0], together.numbers[i])
        np.testing.assert_array_equal(alone.categories[0], together.categories[i])


def test_edges_are_quantiles_of_the_rows() -> None:
    values = np.random.default_rng(3).normal(size=4000)
    edges = one_number(values.tolist(), num_bins=10).edges
    expected = np.sort(values)[[0, *(400 * i - 1 for i in range(1, 10)), 3999]]
    np.testing.assert_allclose(edges, expected, rtol=2e-5)
    assert edges[0] == values.min()
    assert edges[-1] == values.max()


def test_a_number_becomes_its_position_clipped_at_both_ends() -> None:
    feature = NumberFeature(name="x", edges=(0.0, 10.0, 30.0), fill=1.0, has_null=True)
    values = np.array([-5.0, 0.0, 5.0, 10.0, 25.0, 30.0, 1e9, np.nan])
    assert feature.positions(values).tolist() == [0, 0, 0.5, 1, 1.75, 2, 2, -1]


def test_a_null_is_the_median_when_training_saw_none() -> None:
    feature = one_number([1.0, 2.0, 3.0, 4.0, 5.0], num_bins=4)
    assert not feature.has_null
    null, median = feature.positions(np.array([np.nan, 3.0]))
    assert null == median


@pytest.mark.parametrize("values", [[7.0] * 5, [None] * 5, [7.0, None]])
def test_constant_and_empty_columns_encode_to_finite_numbers(values: list[float | None]) -> None:
    feature = one_number(values, num_bins=4)
    assert feature.num_bins == 0
    assert np.isfinite(feature.positions(np.array([7.0, -1.0, np.nan]))).all()


def test_infinite_values_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="column x: holds infinite"):
        NumberCounts.collect("x", np.array([1.0, math.inf]))


def test_negative_zero_is_zero() -> None:
    counts = NumberCounts.collect("x", np.array([0.0, -0.0]))
    assert counts.values.tolist() == [0.0]
    assert counts.counts.tolist() == [2]


def test_unseen_and_null_categories_have_buckets_of_their_own() -> None:
    encoder = make_encoder(ROWS)
    depot = next(category for category in encoder.categories if category.name == "depot")
    codes = depot.codes(pa.chunked_array([["north", None, "moon", "west"]]))
    assert depot.vocabulary == ("north", "south", "west")
    assert codes.tolist() == [2, 1, 0, 4]


def test_rare_categories_share_the_unseen_bucket() -> None:
    table = pa.table({**{name: ROWS[name] for name in ROWS.column_names}})
    rare = pa.array(["common"] * 596 + ["rare"] * 4)
    table = table.set_column(table.schema.get_field_index("depot"), "depot", rare)
    depot = next(c for c in make_encoder(table).categories if c.name == "depot")
    assert depot.vocabulary == ("common",)


def test_the_vocabulary_keeps_the_most_frequent() -> None:
    config = FeaturesConfig(num_bins=8, min_category_count=1, max_categories=2)
    encoder = Encoder.fit(Statistics.collect(ROWS, CONTRACT), config)
    depot = next(c for c in encoder.categories if c.name == "depot")
    assert depot.vocabulary == ("north", "south")


def test_hashed_values_widen_the_shape_and_are_read_back() -> None:
    encoder = Encoder.fit(Statistics.collect(ROWS, CONTRACT), HASHING)
    depot, driver = encoder.categories
    assert (depot.num_buckets, driver.num_buckets) == (0, 6)
    assert encoder.shape.num_categories == (2 + 3, 2 + len(driver.vocabulary) + 6)
    again = Encoder.from_json(encoder.to_json())
    codes = again.transform(ROWS).categories
    np.testing.assert_array_equal(codes, encoder.transform(ROWS).categories)
    assert (codes.max(0) < encoder.shape.num_categories).all()
    hashed = codes[:, 1] >= 2 + len(driver.vocabulary)
    rare = [value not in {None, *driver.vocabulary} for value in ROWS["driver"].to_pylist()]
    assert hashed.tolist() == rare
    assert 0 < sum(rare) < len(ROWS)


def test_without_hashing_encoder_and_configuration_are_the_bytes_that_they_were() -> None:
    assert b"bucket" not in make_encoder(ROWS).to_json()
    assert "hash_buckets" not in FeaturesConfig().model_dump(mode="json")


def test_times_become_cycles_of_day_and_week() -> None:
    encoder = make_encoder(ROWS)
    due = ["2020-01-06T00:00:00", "2020-01-06T12:00:00", "2020-01-13T00:00:00", None]
    table = ROWS.slice(0, 4).set_column(
        1, "due", pa.array(due).cast(pa.timestamp("us")).cast(TIMESTAMP)
    )
    cycles = encoder.transform(table).numbers[:, 2:]
    midnight_on_monday = [0.5, 1.0, 0.5, 1.0]
    np.testing.assert_allclose(cycles[0], midnight_on_monday, atol=1e-6)
    np.testing.assert_allclose(cycles[1, :2], [0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(cycles[2], cycles[0], atol=1e-6)
    assert cycles[3].tolist() == [0.5] * 4


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="no column weight"):
        make_encoder(ROWS).transform(ROWS.drop_columns(["weight"]))


def test_dictionaries_are_counted_and_encoded_as_their_texts() -> None:
    encoded = [ROWS[name].dictionary_encode() for name in ("depot", "driver")]
    # A dictionary may hold a text twice, or one that no row has.
    indices = pa.array([0, 1, None, 2, 0] * 120, pa.int32())
    doubled = pa.DictionaryArray.from_arrays(indices, pa.array(["west", "north", "west", "moon"]))
    for depot in (encoded[0], pa.chunked_array([doubled.slice(0, 7), doubled.slice(7)])):
        short = ROWS.set_column(4, "depot", depot).set_column(5, "driver", encoded[1])
        texts = [column.cast(pa.string()) for column in (depot, encoded[1])]
        plain = ROWS.set_column(4, "depot", texts[0]).set_column(5, "driver", texts[1])
        encoder = make_encoder(plain)
        assert make_encoder(short).to_json() == encoder.to_json()
        first, second = encoder.transform(short), encoder.transform(plain)
        np.testing.assert_array_equal(first.categories, second.categories)


def test_columns_for_files_are_those_of_a_network() -> None:
    encoder = make_encoder(ROWS)
    columns, encoded = encoder.columns(ROWS), encoder.transform(ROWS)
    waves = ["due_day_sin", "due_day_cos", "due_week_sin", "due_week_cos"]
    assert list(columns) == ["weight", "stops", *waves, "depot", "driver"]
    assert [str(values.dtype) for values in columns.values()] == ["float32"] * 6 + ["int32"] * 2
    np.testing.assert_array_equal(np.stack(list(columns.values())[:6], 1), encoded.numbers)
    np.testing.assert_array_equal(np.stack(list(columns.values())[6:], 1), encoded.categories)


def test_merging_many_blocks_keeps_no_more_than_the_distinct_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "FEW_VALUES", 50)
    held: list[int] = []
    whole = Statistics._merged.__func__

    def noting(cls: type[Statistics], parts: list[Statistics]) -> Statistics:
        held.append(sum(part._num_values for part in parts))
        return whole(cls, parts)

    monkeypatch.setattr(Statistics, "_merged", classmethod(noting))
    block = Statistics.collect(ROWS.slice(0, 40), CONTRACT)
    merged = Statistics.merge_all(block for _ in range(100))
    assert merged.num_rows == 4000
    assert max(held) <= 2 * block._num_values + 2 * max(block._num_values, 50)
    assert len(held) > 10


def test_merging_columns_of_texts_waits_for_no_more_than_that_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "FEW_VALUES", 1000)
    merged, whole = [], Statistics._merged.__func__

    def noting(cls: type[Statistics], parts: list[Statistics]) -> Statistics:
        merged.append(len(parts))
        return whole(cls, parts)

    monkeypatch.setattr(Statistics, "_merged", classmethod(noting))
    texts = pa.chunked_array([[f"t{i}" for i in range(60)]])
    block = Statistics(60, {}, {"x": CategoryCounts.collect(texts)}, ())
    counts = Statistics.merge_all(block for _ in range(50)).categories["x"].counts
    assert set(counts.values()) == {50}
    assert max(merged) <= 3


exact = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


@settings(deadline=None)
@given(values=st.lists(exact, min_size=1, max_size=60))
def test_a_counted_value_keeps_its_rank_and_sixteen_bits(values: list[float]) -> None:
    counts = NumberCounts.collect("x", np.array([*values, math.nan]))
    assert (counts.num_nulls, int(counts.counts.sum())) == (1, len(values))
    assert (np.diff(counts.values) > 0).all()
    expected = np.sort(values)
    ranked = [counts.quantile(i, len(values)) for i in range(1, len(values) + 1)]
    assert (np.abs(ranked - expected) <= np.abs(expected) * 2**-16).all()
