"""A network that gathers says what the network says, of every shape, task and kind of row."""

import numpy as np
import pytest
import torch

from app.data.features import Encoded, InputShape
from app.data.rowwise import FEW_ROWS
from app.model.gathered import TILE_ROWS, fits
from app.model.networks import TabularNetwork, frozen
from app.model.tasks import LearningTask, MulticlassTask, RankingTask, RegressionTask
from app.sections import NetworkConfig

SHAPE = InputShape(
    num_bins=(4, 0, 1, 16, 256), has_null=(True, True, False, False, True), num_categories=(2, 9)
)
TASKS = (None, MulticlassTask(num_outputs=3), RegressionTask(mean=3, scale=9), RankingTask())


def make_network(
    members: int, layers: int, task: LearningTask | None = None, shape: InputShape = SHAPE
) -> TabularNetwork:
    torch.manual_seed(members * 10 + layers)
    config = NetworkConfig(hidden=24, num_layers=layers, num_members=members, embedding=3)
    return TabularNetwork(config, shape, task)


def make_rows(size: int, shape: InputShape = SHAPE) -> Encoded:
    """Draw places within bins, on edges, at both ends, and nulls where a number may have one."""
    chance = np.random.default_rng(size)
    numbers = np.empty((size, len(shape.num_bins)), np.float32)
    for i, (bins, has_null) in enumerate(zip(shape.num_bins, shape.has_null, strict=True)):
        drawn = chance.uniform(0, bins, size)
        numbers[:, i] = np.where(chance.random(size) < 0.4, np.round(drawn), drawn)
        numbers[chance.random(size) < 0.1, i] = bins
        if has_null:
            numbers[chance.random(size) < 0.2, i] = -1
    codes = [chance.integers(0, n, size) for n in shape.num_categories]
    return Encoded(numbers, np.stack(codes, axis=1) if codes else np.empty((size, 0), np.int64))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("members", "layers"), [(1, 1), (1, 3), (4, 2)])
def test_gathering_says_what_the_network_says(
    task: LearningTask | None, members: int, layers: int
) -> None:
    network, rows = make_network(members, layers, task).eval(), make_rows(3 * TILE_ROWS + 5)
    expected = network.predict(rows)
    quick = frozen(network)
    assert quick.gathered is not None
    scale = task.scale if isinstance(task, RegressionTask) else 1.0
    np.testing.assert_allclose(quick.predict(rows), expected, rtol=0, atol=1e-6 * scale)


def test_a_row_of_many_is_what_it_is_among_few() -> None:
    network, rows = frozen(make_network(4, 2)), make_rows(100)
    few = [Encoded(rows.numbers[i : i + FEW_ROWS], rows.categories[i : i + FEW_ROWS])
           for i in range(0, 100, FEW_ROWS)]  # fmt: skip
    apart = np.concatenate([network.predict(each) for each in few])
    np.testing.assert_allclose(network.predict(rows), apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "shape",
    [
        InputShape(num_bins=(), has_null=(), num_categories=(5,)),
        InputShape(num_bins=(3,), has_null=(True,), num_categories=()),
    ],
)
def test_rows_of_numbers_alone_or_of_categories_alone_are_gathered(shape: InputShape) -> None:
    network, rows = make_network(1, 2, shape=shape).eval(), make_rows(50, shape)
    expected = network.predict(rows)
    np.testing.assert_allclose(frozen(network).predict(rows), expected, rtol=0, atol=1e-6)


def test_a_wide_first_layer_is_multiplied_as_ever() -> None:
    assert fits(512, SHAPE)
    assert not fits(513, SHAPE)
    assert not fits(8, InputShape(num_bins=(), has_null=(), num_categories=()))
