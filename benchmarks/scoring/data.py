"""The rows of the scoring benchmark: seeded, written once, the same for every contender.

Thirty columns: an id, a time, twenty numbers and eight categories, with nulls where the contract
allows them. Every row is acceptable, since a plain loop has no word for one that is not.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.contracts.rows import TIMESTAMP
from benchmarks.harness.orders import values_of

FILE_ROWS, GROUP_ROWS = 500_000, 125_000
FIRST_DAY_US = 1_577_836_800_000_000  # 2020-01-01
SECOND_US = 1_000_000
NUM_NUMBERS = 20
NUMBERS = tuple(f"number_{i:02d}" for i in range(NUM_NUMBERS))
# name: number of values, share of nulls, whether the contract lists them
CATEGORIES = {
    "channel": (3, 0.0, True),
    "weekday": (7, 0.0, True),
    "tier": (5, 0.04, True),
    "region": (24, 0.0, True),
    "maker": (120, 0.05, False),
    "depot": (400, 0.0, False),
    "product": (1000, 0.0, False),
    "campaign": (12, 0.30, False),
}


def write_rows(folder: Path, num_rows: int, file_rows: int = FILE_ROWS) -> None:
    """Write files of some row groups, unless they are there."""
    done = folder / "_whole"  # Readers of a folder pass over such names.
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, first in enumerate(range(0, num_rows, file_rows)):
        last = min(first + file_rows, num_rows)
        path = folder / f"rows-{file:04d}.parquet"
        with pq.ParquetWriter(path, make_rows(0, 1).schema) as writer:
            for start in range(first, last, GROUP_ROWS):
                writer.write_table(make_rows(start, min(GROUP_ROWS, last - start)))
    done.touch()


def make_rows(first: int, num_rows: int) -> pa.Table:
    """Make rows, ids counting up from `first`."""
    chance = np.random.default_rng((7, first))
    places = np.arange(first, first + num_rows, dtype=np.int64)
    columns: dict[str, pa.Array] = {
        "order_id": pa.array([f"o-{place:010d}" for place in places]),
        "ordered_at": pa.array(FIRST_DAY_US + places * SECOND_US, pa.int64()).cast(TIMESTAMP),
    }
    for i, name in enumerate(NUMBERS):
        low, high = bounds(i)
        values = np.clip(_drawn(i, chance, num_rows), low, high)
        columns[name] = pa.array(values, mask=chance.random(num_rows) < null_share(i))
    for name, (size, share, _) in CATEGORIES.items():
        weights = 1 / np.arange(1, size + 1)
        codes = chance.choice(size, num_rows, p=weights / weights.sum())
        indices = pa.array(codes.astype(np.int32), mask=chance.random(num_rows) < share)
        columns[name] = pa.array(vocabulary(name)).take(indices)
    return pa.table(columns)


def vocabulary(name: str) -> list[str]:
    """Name the values of a category."""
    return values_of(name, CATEGORIES[name][0])


def bounds(number: int) -> tuple[float, float]:
    """Give the least and the highest value of a number, by its place."""
    return ((-8.0, 8.0), (0.0, 10_000.0), (0.0, 1000.0), (0.0, 1.0))[number % 4]


def null_share(number: int) -> float:
    """Give the share of rows in which a number is null, by its place."""
    return (0.0, 0.05, 0.0, 0.1, 0.0)[number % 5]


def _drawn(number: int, chance: np.random.Generator, size: int) -> np.ndarray:
    draws = (
        lambda: chance.normal(0, 1, size),
        lambda: chance.lognormal(3, 1, size),
        lambda: np.round(chance.uniform(0, 1000, size), 2),
        lambda: chance.beta(2, 5, size),
    )
    return draws[number % len(draws)]()
