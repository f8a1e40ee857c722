"""Batches: the same ones from wherever the rows lie."""

import numpy as np
import pytest
import torch

from app.data.features import Encoded
from app.model.tasks import BinaryTask, RankingTask
from app.training.batches import (
    Batch,
    Batches,
    ResidentBatches,
    StreamedBatches,
    open_batches,
)
from app.training.rows import Rows

CPU = torch.device("cpu")


def make_rows(number: int = 103, groups: bool = False) -> Rows:
    chance = np.random.default_rng(0)
    numbers = chance.random((number, 3), np.float32)
    categories = chance.integers(0, 9, (number, 2))
    lists = np.sort(chance.integers(0, 20, number)) if groups else None
    return Rows(Encoded(numbers, categories), chance.integers(0, 2, number), lists)


def collect(batches: Batches, order: torch.Tensor, num_steps: int = 11) -> list[Batch]:
    return [
        Batch(*(None if column is None else column.clone() for column in batch))
        for batch in batches.epoch(order, 10, num_steps)
    ]


def columns(rows: Rows) -> list[torch.Tensor]:
    parts = rows.encoded.numbers, rows.encoded.categories, rows.labels.astype(np.float32)
    return [torch.from_numpy(part) for part in parts]


def test_a_batch_is_the_rows_of_the_order() -> None:
    rows, order = make_rows(), torch.randperm(103)
    batches = collect(open_batches(rows, BinaryTask(), CPU), order)
    assert [batch.num_rows for batch in batches] == [10] * 10 + [3]
    third = order[20:30].numpy()
    np.testing.assert_array_equal(batches[2].numbers_BF, rows.encoded.numbers[third])
    np.testing.assert_array_equal(batches[2].categories_BC, rows.encoded.categories[third])
    np.testing.assert_array_equal(batches[2].targets_B, rows.labels[third])
    assert batches[2].groups_B is None


# A chunk of less than a batch, one that is no whole number of batches, and one beyond all rows.
@pytest.mark.parametrize("chunk_rows", [4, 25, 1000])
def test_streamed_batches_are_the_resident_ones(chunk_rows: int) -> None:
    rows, order = make_rows(), torch.randperm(103)
    resident = collect(ResidentBatches(columns(rows), CPU), order)
    streamed = collect(StreamedBatches(columns(rows), CPU, chunk_rows), order)
    assert len(resident) == len(streamed) == 11
    for one, other in zip(resident, streamed, strict=True):
        for mine, theirs in zip(one[:3], other[:3], strict=True):
            assert torch.equal(mine, theirs)


def test_no_more_steps_come_than_are_asked_for() -> None:
    rows, order = make_rows(), torch.randperm(103)
    for batches in (
        ResidentBatches(columns(rows), CPU),
        StreamedBatches(columns(rows), CPU, chunk_rows=20),
    ):
        assert [batch.num_rows for batch in collect(batches, order, num_steps=3)] == [10] * 3


def test_lists_come_along() -> None:
    rows, order = make_rows(groups=True), torch.arange(103)
    (first, *_) = collect(open_batches(rows, RankingTask(), CPU, "host"), order)
    np.testing.assert_array_equal(first.groups_B, rows.groups[:10])


def test_rows_of_the_processor_are_not_copied() -> None:
    rows = make_rows()
    batches = open_batches(rows, BinaryTask(), CPU)
    rows.encoded.numbers[5] = 7.0
    (batch,) = batches.epoch(torch.tensor([5]), 10, 1)
    assert batch.numbers_BF.eq(7).all()


def test_an_epoch_that_is_left_halfway_leaves_no_thread_behind() -> None:
    import threading

    before = threading.active_count()
    rows = make_rows()
    for _ in StreamedBatches(columns(rows), CPU, 10).epoch(torch.arange(103), 10, 11):
        break
    assert threading.active_count() == before
