"""Rows divided by a hash of their key: for good, evenly, and whole entities on one side."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.data.splits import (
    GATE,
    NUM_PARTS,
    STOP,
    TRAIN,
    SplitError,
    key_places,
    parts_of,
    split_keys,
    split_shares,
)
from app.sections import SplitConfig

SPLIT = SplitConfig(by="id", gate_share=0.2, stop_share=0.15)
MANY = pa.array([f"row-{i}" for i in range(20_000)])


def test_the_shares_are_those_asked_for() -> None:
    roles = split_shares(MANY, SPLIT, seed=7).roles
    shares = np.bincount(roles, minlength=3) / len(roles)
    assert shares[[TRAIN, STOP, GATE]] == pytest.approx([0.65, 0.15, 0.2], abs=0.01)
    assert not split_shares(MANY, SPLIT, 7).gate_days


@given(st.lists(st.text(max_size=5), min_size=1, max_size=40), st.integers(-(2**31), 2**31))
@settings(deadline=None)
def test_a_key_has_its_place_whatever_stands_beside_it(keys: list[str], seed: int) -> None:
    places = key_places(pa.array(keys), seed)
    alone = [key_places(pa.array([key]), seed)[0] for key in keys]
    assert places.tolist() == alone
    assert all(0 <= place < 1 for place in alone)


def test_the_seed_chooses_the_rows() -> None:
    first, second = (split_shares(MANY, SPLIT, seed).mask(GATE) for seed in (1, 2))
    assert (first & second).mean() == pytest.approx(0.04, abs=0.01)


def test_a_larger_window_holds_out_what_a_smaller_one_did() -> None:
    small = split_shares(MANY.slice(0, 500), SPLIT, 7).roles
    assert (split_shares(MANY, SPLIT, 7).roles[:500] == small).all()


def test_an_entity_stands_on_one_side_and_a_row_without_one_by_its_id() -> None:
    rows = pa.table({"id": ["a", "b", "c", "d"], "who": ["x", None, "x", None]})
    assert split_keys(rows, "entity", "id", "who").to_pylist() == ["x", "b", "x", "d"]
    assert split_keys(rows, "id", "id", "who").to_pylist() == ["a", "b", "c", "d"]


def test_rows_that_leave_a_side_empty_are_refused_with_their_numbers() -> None:
    with pytest.raises(SplitError, match="1 rows leave"):
        split_shares(pa.array(["only"]), SPLIT, 7)


def test_the_parts_of_what_is_held_out_are_even() -> None:
    places = key_places(MANY, 7)
    held_out = places[places < 0.2]
    counts = np.bincount(parts_of(held_out, 0.2), minlength=NUM_PARTS)
    assert len(counts) == NUM_PARTS
    assert counts.min() > 0.7 * counts.mean()
