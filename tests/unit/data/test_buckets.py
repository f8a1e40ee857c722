"""Texts in buckets."""

import numpy as np

from app.data.buckets import Buckets


def test_the_bucket_of_a_text_is_the_same_for_ever() -> None:
    buckets = Buckets("depot", 1000)
    # As written down once: a model that is on disk relies on them.
    assert [buckets.one(text) for text in ("", "north", "nörd", "日本")] == [677, 939, 612, 897]


def test_texts_spread_evenly() -> None:
    buckets = Buckets("driver", 50)
    counts = np.bincount([buckets.one(f"d{i}") for i in range(20_000)], minlength=50)
    # Chi-square with 49 degrees of freedom: one in a million lies above.
    assert ((counts - 400) ** 2 / 400).sum() < 115


def test_texts_that_meet_under_one_key_part_under_another() -> None:
    one, other = Buckets("home", 20), Buckets("work", 20)
    meeting = [text for text in map(str, range(2000)) if one.one(text) == one.one("0")]
    assert len(meeting) > 50
    assert len({other.one(text) for text in meeting}) > 15


def test_every_bucket_is_below_the_number() -> None:
    assert {Buckets("depot", 3).one(str(i)) for i in range(100)} == {0, 1, 2}
    assert Buckets("a" * 200, 1).one("x") == 0
