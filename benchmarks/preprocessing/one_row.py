"""One row of 30 columns through the encoder, beside the least that any encoder must do.

The floor is one numpy.searchsorted for each of 15 numbers and one look-up in a dict for each of 15
categories, on values that were taken out of their table before. The encoder gets a table of one
row, as it does in serving. The two take turns.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data.features import Encoder, Statistics
from app.sections import FeaturesConfig

NUM_OF_EACH, NUM_FITTED, NUM_SHOWN = 15, 20_000, 64
TURNS = 300


def measure() -> tuple[float, float]:
    """Return the median microseconds of the encoder and of the floor, for one row."""
    encoder, table = _fitted()
    rows = [table.slice(i, 1) for i in range(NUM_SHOWN)]
    edges = [np.array(number.edges) for number in encoder.numbers]
    codes = [category.code_of for category in encoder.categories]
    numbers = [[row[n.name][0].as_py() for n in encoder.numbers] for row in rows]
    texts = [[row[c.name][0].as_py() for c in encoder.categories] for row in rows]

    def encode() -> None:
        for row in rows:
            encoder.transform(row)

    def floor() -> None:
        for values, cells in zip(numbers, texts, strict=True):
            for bins, value in zip(edges, values, strict=True):
                np.searchsorted(bins, value)
            for known, cell in zip(codes, cells, strict=True):
                known.get(cell, 0)

    taken: dict[Callable[[], None], list[float]] = {encode: [], floor: []}
    for _ in range(TURNS):
        for act, times in taken.items():
            began = time.perf_counter()
            act()
            times.append((time.perf_counter() - began) / NUM_SHOWN * 1e6)
    return statistics.median(taken[encode]), statistics.median(taken[floor])


def _fitted() -> tuple[Encoder, pa.Table]:
    numbers = [Column(name=f"number_{i}", kind="number") for i in range(NUM_OF_EACH)]
    categories = [Column(name=f"category_{i}", kind="category") for i in range(NUM_OF_EACH)]
    contract = Contract(
        id="id",
        event_time="at",
        label="y",
        columns=(
            Column(name="id", kind="identifier", feature=False),
            Column(name="at", kind="time", feature=False),
            *numbers,
            *categories,
        ),
    )
    chance = np.random.default_rng(0)
    columns: dict[str, object] = {
        "id": [str(i) for i in range(NUM_FITTED)],
        "at": pa.array(range(NUM_FITTED), TIMESTAMP),
    }
    for column in numbers:
        columns[column.name] = chance.normal(size=NUM_FITTED)
    for column in categories:
        columns[column.name] = [f"value {i}" for i in chance.integers(0, 200, NUM_FITTED)]
    table = pa.table(columns)
    return Encoder.fit(Statistics.collect(table, contract), FeaturesConfig(num_bins=16)), table
