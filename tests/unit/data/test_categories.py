"""One category: which values get codes of their own, and what becomes of the others."""

import copy
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.data.categories import NULL, UNSEEN, CategoryFeature
from app.data.statistics import CategoryCounts
from app.sections import FeaturesConfig

HASHED = CategoryFeature(name="depot", vocabulary=("", "north", "nörd"), num_buckets=7)
texts = st.one_of(st.none(), st.text(max_size=5), st.sampled_from(["north", "nörd", "a", "b"]))


def fitted(counts: dict[str, int], **config: int) -> CategoryFeature:
    features = FeaturesConfig(**{"min_category_count": 5, **config})
    return CategoryFeature.fit("depot", CategoryCounts(Counter(counts), 3), features)


def codes(feature: CategoryFeature, values: list[str | None]) -> list[int]:
    return feature.codes(pa.chunked_array([pa.array(values, pa.string())])).tolist()


@given(st.lists(st.lists(texts, max_size=12), min_size=1, max_size=3))
def test_a_value_has_one_code_however_it_is_looked_up(blocks: list[list[str | None]]) -> None:
    alone = [HASHED.code_of[value] for block in blocks for value in block]
    arrays = [pa.array(block, pa.string()) for block in blocks]
    plain = pa.chunked_array(arrays)
    assert HASHED.codes(plain).tolist() == alone
    assert HASHED.codes(plain.dictionary_encode()).tolist() == alone
    apart = pa.chunked_array([array.dictionary_encode() for array in arrays])
    assert HASHED.codes(apart).tolist() == alone


def test_values_beyond_the_vocabulary_fall_into_buckets_behind_it() -> None:
    found = codes(HASHED, ["north", None, *map(str, range(200))])
    assert found[:2] == [3, NULL]
    assert set(found[2:]) == set(range(5, 12))
    assert max(found) == HASHED.num_codes - 1


def test_a_rare_value_of_training_and_a_new_one_share_the_buckets() -> None:
    counts = {f"rare {i}": 1 for i in range(400)} | {"common": 50}
    feature = fitted(counts, hash_buckets=20)
    assert (feature.vocabulary, feature.num_buckets) == (("common",), 20)
    trained = set(codes(feature, [f"rare {i}" for i in range(400)]))
    new = set(codes(feature, [f"new {i}" for i in range(400)]))
    assert trained == new == set(range(3, 23))


@pytest.mark.parametrize(
    ("counts", "num_buckets"),
    [
        # All values are in the vocabulary: no row would train a bucket.
        ({f"v{i}": 9 for i in range(60)}, 0),
        # Four values a bucket.
        ({f"v{i}": 4 for i in range(60)}, 15),
        # Five rows a bucket, as a value of the vocabulary has.
        ({f"v{i}": 1 for i in range(60)}, 12),
        ({f"v{i}": 1 for i in range(400)}, 80),
        ({f"v{i}": 1 for i in range(40_000)}, 1000),
        ({}, 0),
    ],
)
def test_there_are_no_more_buckets_than_training_fills(
    counts: dict[str, int], num_buckets: int
) -> None:
    assert fitted(counts, hash_buckets=1000).num_buckets == num_buckets


def test_frequent_values_beyond_the_largest_vocabulary_are_hashed_too() -> None:
    feature = fitted({f"v{i:03}": 9 for i in range(100)}, hash_buckets=8, max_categories=20)
    assert (len(feature.vocabulary), feature.num_buckets) == (20, 8)
    assert UNSEEN not in codes(feature, [f"v{i:03}" for i in range(100)])


def test_without_buckets_every_other_value_is_unseen() -> None:
    feature = fitted({f"v{i}": 1 for i in range(400)} | {"common": 9})
    assert codes(feature, ["common", None, "v1", "new"]) == [2, NULL, UNSEEN, UNSEEN]
    assert [feature.code_of[value] for value in ("common", None, "new")] == [2, NULL, UNSEEN]
    assert b"bucket" not in feature.model_dump_json().encode()


def test_a_feature_that_was_used_can_still_be_copied_part_by_part() -> None:
    """As it is when it travels between processes."""
    expected = [*codes(HASHED, ["x", None, "north"]), HASHED.code_of["x"]]
    again = copy.deepcopy(HASHED)
    assert [*codes(again, ["x", None, "north"]), again.code_of["x"]] == expected


def test_a_vocabulary_of_one_column_says_nothing_of_the_buckets_of_another() -> None:
    other = CategoryFeature(name="driver", vocabulary=HASHED.vocabulary, num_buckets=7)
    values = [str(i) for i in range(100)]
    assert codes(HASHED, values) != codes(other, values)
    assert np.unique(codes(other, values)).tolist() == list(range(5, 12))
