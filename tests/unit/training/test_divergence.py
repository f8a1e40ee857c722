"""A loss that is no number: noticed within the epoch, told with its batch."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.training.assembly import new_network
from app.training.divergence import CHECK_EVERY, LossWatch, TrainingDiverged, refuse_broken
from app.training.fitting import fit
from app.training.peers import Alone
from app.training.rows import Rows
from tests.learning_world import make_config, make_encoded

ENCODER, TRAIN, STOP = make_encoded()


def with_number(rows: Rows, row: int, number: int, value: float) -> Rows:
    numbers = rows.encoded.numbers.copy()
    numbers[row, number] = value
    return Rows(dataclasses.replace(rows.encoded, numbers=numbers), rows.labels)


def fit_rows(train: Rows, seen: list[Any] | None = None, **training: object) -> None:
    config = make_config(Path(), **training)
    network = new_network(config, ENCODER.shape)
    on_epoch = (lambda state: None) if seen is None else seen.append
    fit(network, train, STOP, config.training, on_epoch=on_epoch)


def test_the_batch_with_the_broken_row_is_named_before_the_epoch_ends() -> None:
    torch.manual_seed(0)
    seen: list[Any] = []
    with pytest.raises(TrainingDiverged) as told:
        fit_rows(with_number(TRAIN, 123, 1, math.nan), seen, batch_rows=16)
    assert seen == []
    message = str(told.value)
    assert "the loss is nan in the search, epoch 1, batch" in message
    assert "of 38 of worker 0" in message
    assert "its input is nan (number 2 of row 123 of the worker)" in message


def test_a_rate_too_high_is_told_with_the_batch_and_the_setting() -> None:
    with pytest.raises(TrainingDiverged, match=r"lower training\.learning_rate, got 1e\+30"):
        fit_rows(TRAIN, learning_rate=1e30)


@pytest.mark.parametrize("at", [0, 5, CHECK_EVERY - 1, CHECK_EVERY, CHECK_EVERY + 7])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_first_broken_step_is_found_at_the_next_look(at: int, value: float) -> None:
    num_steps = CHECK_EVERY + 8
    watch = LossWatch(num_steps, torch.device("cpu"), Alone())
    for step in range(num_steps):
        loss = torch.tensor(value if step >= at else 0.5)
        found = watch.saw(step, loss)
        if found is not None:
            break
    assert found is not None
    assert (found.step, found.worker) == (at, 0)
    assert step == (CHECK_EVERY - 1 if at < CHECK_EVERY else num_steps - 1)


def test_a_worker_whose_own_loss_is_fine_learns_whose_is_not() -> None:
    class OtherBroke:
        """The second of two workers; the first one's loss broke at step 3."""

        rank, size = 1, 2

        def mean(self, value: float) -> float:
            return math.nan

        def smallest(self, value: int) -> int:
            return min(value, 3 * 2 + 0)

    watch = LossWatch(5, torch.device("cpu"), OtherBroke())
    found = [watch.saw(step, torch.tensor(0.5)) for step in range(5)][-1]
    assert found is not None
    assert (found.step, found.worker) == (3, 0)
    assert "that worker's log" in found.explain("the search, epoch 1", 0.1, None)


def test_the_loss_of_the_last_steps_is_that_of_the_window() -> None:
    watch = LossWatch(CHECK_EVERY * 2, torch.device("cpu"), Alone())
    for step in range(CHECK_EVERY * 2):
        assert watch.saw(step, torch.tensor(float(step))) is None
    assert watch.recent == np.mean(range(CHECK_EVERY, CHECK_EVERY * 2))


def test_weights_that_are_no_numbers_are_refused() -> None:
    refuse_broken("refit", {"head": torch.ones(2)}, 0.1)
    with pytest.raises(TrainingDiverged, match="the refit ended with weights of head"):
        refuse_broken("refit", {"head": torch.tensor([1.0, math.nan])}, 0.1)
