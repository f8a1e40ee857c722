"""Profiles: exact counts on reference edges."""

import numpy as np
import pyarrow as pa
import pytest

from app.data.profile import CategoryBins, NumberBins, Profile
from tests.learning_world import make_encoder, make_rows

ROWS = make_rows(500)
ENCODER = make_encoder(ROWS)
SCORES = np.linspace(0.05, 0.6, 500)


def test_every_row_is_counted_once_in_every_column() -> None:
    profile = Profile.for_encoder(ENCODER).add(ROWS)
    assert set(profile.columns) == {"weight", "stops", "depot", "driver"}
    assert {column.num_rows for column in profile.columns.values()} == {500}
    assert profile.num_rows == 500


@pytest.mark.parametrize("cut", [0, 1, 250, 500])
def test_adding_in_parts_equals_adding_at_once(cut: int) -> None:
    empty = Profile.for_encoder(ENCODER, SCORES)
    whole = empty.add(ROWS, SCORES)
    first = empty.add(ROWS.slice(0, cut), SCORES[:cut])
    second = empty.add(ROWS.slice(cut), SCORES[cut:])
    assert second.merge(first).to_json() == whole.to_json()
    assert first.add(ROWS.slice(cut), SCORES[cut:]).to_json() == whole.to_json()


def test_adding_leaves_the_profile_as_it_was() -> None:
    empty = Profile.for_encoder(ENCODER)
    empty.add(ROWS)
    assert empty.num_rows == 0
    assert empty.columns["weight"].num_rows == 0


def test_profile_read_back_goes_on_counting() -> None:
    profile = Profile.for_encoder(ENCODER, SCORES).add(ROWS, SCORES)
    again = Profile.from_json(profile.to_json())
    assert again.add(ROWS, SCORES).to_json() == profile.add(ROWS, SCORES).to_json()


def test_values_beyond_the_reference_fall_outside() -> None:
    bins = NumberBins((0.0, 1.0, 2.0))
    counts = bins.count(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 2.5, np.nan, np.nan]))
    assert counts.tolist() == [1, 2, 2, 1, 2]


def test_reference_rows_are_never_outside_their_own_edges() -> None:
    profile = Profile.for_encoder(ENCODER).add(ROWS)
    assert profile.columns["weight"].outside_share == 0
    assert profile.columns["stops"].outside_share == 0


def test_a_constant_column_has_a_bin_of_its_own() -> None:
    constant = ROWS.set_column(3, "stops", pa.array([4.0] * 500))
    profile = Profile.for_encoder(make_encoder(constant)).add(constant)
    assert profile.columns["stops"].outside_share == 0
    elsewhere = constant.set_column(3, "stops", pa.array([5.0] * 500))
    assert profile.empty_like().add(elsewhere).columns["stops"].outside_share == 1


def test_nulls_and_unseen_categories_are_counted_apart() -> None:
    bins = CategoryBins(("a", "b"))
    assert bins.count(pa.chunked_array([["b", None, "z", "z", "a"]])).tolist() == [2, 1, 1, 1]
    rows = ROWS.set_column(4, "depot", pa.array(["moon"] * 250 + [None] * 250))
    depot = Profile.for_encoder(ENCODER).add(rows).columns["depot"]
    assert (depot.unseen_share, depot.null_share) == (0.5, 0.5)


def test_hashed_values_still_count_as_unseen() -> None:
    hashed = [c.model_copy(update={"num_buckets": 9}) for c in ENCODER.categories]
    encoder = ENCODER.model_copy(update={"categories": tuple(hashed)})
    rows = ROWS.set_column(4, "depot", pa.array(["moon"] * 250 + ["north"] * 250))
    assert encoder.transform(rows).categories[0, 0] >= 2 + len(hashed[0].vocabulary)
    profile = Profile.for_encoder(encoder).add(rows)
    assert profile.columns["depot"].unseen_share == 0.5
    assert profile.to_json() == Profile.for_encoder(ENCODER).add(rows).to_json()


def test_profiles_on_other_edges_are_not_merged() -> None:
    other = make_encoder(make_rows(500, seed=5))
    with pytest.raises(ValueError, match="different edges"):
        Profile.for_encoder(ENCODER).merge(Profile.for_encoder(other))


def test_score_edges_hold_equal_shares_of_the_reference_scores() -> None:
    profile = Profile.for_encoder(ENCODER, SCORES).add_scores(SCORES)
    assert profile.scores.counts[1:-2].tolist() == [25] * 20
