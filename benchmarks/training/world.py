"""The rows and the network of the training benchmark: seeded, sized as flights are.

Made as an encoder gives them, since encoding is measured elsewhere. The outcome follows from two
numbers and a category.
"""

import numpy as np
import torch

from app.data.features import Encoded, InputShape
from app.model.networks import TabularNetwork
from app.sections import NetworkConfig, TrainingConfig
from app.training.rows import Block, Rows

NUM_BINS = 8
SIZES = (20, 4, 110, 8, 10, 40, 150)
BLOCK_ROWS = 25_000
STOP_ROWS = 4_096


def shape_of(num_numbers: int) -> InputShape:
    """Say how wide a row is: numbers, two in three of them nullable, and the categories."""
    return InputShape(
        num_bins=(NUM_BINS,) * num_numbers,
        has_null=tuple(i % 3 > 0 for i in range(num_numbers)),
        num_categories=SIZES,
    )


def make_rows(number: int, num_numbers: int, seed: int) -> Rows:
    """Make encoded rows with outcomes."""
    chance = np.random.default_rng(seed)
    numbers = chance.random((number, num_numbers), np.float32) * NUM_BINS
    categories = np.stack([chance.integers(0, size, number) for size in SIZES], axis=1)
    score = numbers[:, 0] - numbers[:, 1] + (categories[:, 0] % 3)
    labels = (chance.random(number) < 1 / (1 + np.exp(1 - score / 2))).astype(np.int64)
    return Rows(Encoded(numbers, categories), labels)


def block_of(rows: Rows, first: int = 0) -> Block:
    """Give rows as a block of those from a place on, as workers get them."""
    return {
        "numbers": rows.encoded.numbers,
        "categories": rows.encoded.categories,
        "label": rows.labels,
        "place": np.arange(first, first + len(rows)),
    }


def training(batch_rows: int, epochs: int, **others: object) -> TrainingConfig:
    """Settings as those of configs/flights.yaml, a constant rate apart: rounds are alike."""
    network = NetworkConfig(hidden=192, num_layers=2, num_members=4, dropout=0.3)
    settings: dict[str, object] = {
        "network": network,
        "batch_rows": batch_rows,
        "epochs": epochs,
        "patience": epochs,
        "refit": False,
        "schedule": "constant",
        "learning_rate": 0.002,
        "weight_decay": 0.3,
        "threads_per_worker": 1,
    }
    return TrainingConfig.model_validate({**settings, **others})


def network_of(config: TrainingConfig, num_numbers: int) -> TabularNetwork:
    """Make the network with the weights of its seed: every contender starts from them."""
    torch.manual_seed(config.seed)
    return TabularNetwork(config.network, shape_of(num_numbers))
