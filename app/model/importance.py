"""Ask what a model leans on: shuffle one column at a time and see how much the loss rises.

Knows tables and a function that gives a loss a row; knows nothing of networks. Source: Breiman,
Random forests (2001); Fisher, Rudin and Dominici, All models are wrong, but many are useful (2019).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.contracts.evaluations import Importance
from app.contracts.records import Metric
from app.model.intervals import Array, normal

Losses = Callable[[pa.Table], Array]


def spread_places(num_rows: int, most: int) -> NDArray[np.int64]:
    """Choose at most so many rows, evenly spread over all of them."""
    return np.unique(np.linspace(0, num_rows - 1, min(most, num_rows)).astype(np.int64))


def permuted_importance(
    losses: Losses,
    rows: pa.Table,
    columns: Sequence[str],
    *,
    num_repeats: int,
    confidence: float,
    seed: int,
) -> tuple[Importance, ...]:
    """Give how much the mean loss rises when a column's values are dealt out anew, largest first.

    Shuffling a column of the table is shuffling its encoded columns, all of them together: a row's
    code depends on that row alone. The interval is of rows like these and of other shuffles: its
    variance is that of the mean over rows plus that of the mean over repeats. What columns share
    is found in none of them, since each stands in for the others.
    """
    plain = losses(rows)
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(rows)) for _ in range(num_repeats)]
    measured = []
    for column in columns:
        rises_RN = np.stack([losses(_shuffled(rows, column, o)) - plain for o in orders])
        measured.append(Importance(column=column, rise=_mean_rise(rises_RN, confidence)))
    return tuple(sorted(measured, key=lambda one: -one.rise.value))


def _shuffled(rows: pa.Table, column: str, order: NDArray[np.int64]) -> pa.Table:
    place = rows.schema.get_field_index(column)
    return rows.set_column(place, rows.schema.field(place), rows.column(place).take(order))


def _mean_rise(rises_RN: Array, confidence: float) -> Metric:
    num_repeats, num_rows = rises_RN.shape
    over_rows = float(rises_RN.mean(axis=0).var(ddof=1)) / num_rows
    over_repeats = float(rises_RN.mean(axis=1).var(ddof=1)) / num_repeats
    return normal(float(rises_RN.mean()), math.sqrt(over_rows + over_repeats), confidence)
