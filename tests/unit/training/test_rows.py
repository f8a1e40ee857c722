"""Shards: which worker learns from which rows, and at what cost of memory."""

import tracemalloc

import numpy as np
import pytest

from app.data.features import Encoded
from app.training.rows import Block, Rows, shard, whole

NUM_ROWS = 1003
STOP = Rows(Encoded(np.full((7, 2), 9.0, np.float32), np.full((7, 1), 9)), np.arange(7))


def make_blocks(size: int, lists: bool = False, number: int = NUM_ROWS) -> list[Block]:
    place = np.arange(number)
    everything: Block = {
        "numbers": np.stack([place, -place], axis=1).astype(np.float32),
        "categories": place[:, None] * 3,
        "label": place % 2,
        "place": place,
    }
    if lists:
        everything["list"] = place // 5
    cut = range(0, number, size)
    return [{name: column[i : i + size] for name, column in everything.items()} for i in cut]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_shards_depend_on_the_rows_and_the_number_of_workers_alone(num_workers: int) -> None:
    chance = np.random.default_rng(num_workers)
    seen = []
    for rank in range(num_workers):
        first, _ = shard(make_blocks(100), rank, num_workers, STOP)
        blocks = make_blocks(37)
        chance.shuffle(blocks)
        again, _ = shard(blocks, rank, num_workers, STOP)
        assert not blocks
        np.testing.assert_array_equal(first.encoded.numbers, again.encoded.numbers)
        np.testing.assert_array_equal(first.encoded.categories, again.encoded.categories)
        np.testing.assert_array_equal(first.labels, again.labels)
        assert (np.diff(first.encoded.numbers[:, 0]) == num_workers).all()
        seen.append(first.encoded.numbers[:, 0])
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(NUM_ROWS))
    assert max(map(len, seen)) - min(map(len, seen)) <= 1


def test_a_list_stays_with_one_worker() -> None:
    stop = Rows(STOP.encoded, STOP.labels, np.arange(7))
    owners = [set(shard(make_blocks(100, lists=True), r, 2, stop)[0].groups) for r in range(2)]
    assert not owners[0] & owners[1]
    assert owners[0] | owners[1] == set(range(-(-NUM_ROWS // 5)))


def test_a_refit_has_the_workers_part_of_the_stop_rows_behind_and_no_copy_of_the_others() -> None:
    train, everything = shard(make_blocks(100), 1, 2, STOP)
    expected = train.and_(STOP.part(1, 2))
    np.testing.assert_array_equal(everything.encoded.numbers, expected.encoded.numbers)
    np.testing.assert_array_equal(everything.labels, expected.labels)
    assert np.shares_memory(train.encoded.numbers, everything.encoded.numbers)
    assert np.shares_memory(train.encoded.categories, everything.encoded.categories)


def test_all_stop_rows_come_in_their_order() -> None:
    blocks = make_blocks(100)
    rows = whole(blocks[::-1])
    np.testing.assert_array_equal(rows.encoded.numbers[:, 0], np.arange(NUM_ROWS))


def test_a_shard_is_held_once() -> None:
    blocks = make_blocks(5_000, number=400_000)
    tracemalloc.start()
    train, _ = shard(blocks, 0, 1, STOP)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = sum(part.nbytes for part in (*vars(train.encoded).values(), train.labels))
    # Places and their order, 8 bytes a row each, come on top; real rows are wider than these.
    assert peak < held + 5 * 8 * len(train)
