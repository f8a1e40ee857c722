"""The rows of the preprocessing benchmark: seeded, written once, the same for every contender.

Ten numbers and ten categories beside an id and a time, with nulls where the contract allows them
and one bad row in 2,000: out of range, not finite, null where none may be, or outside a closed set.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.config import Config
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.sections import ClusterConfig, FeaturesConfig, SourceConfig
from benchmarks.harness.orders import orders, values_of

ROW_GROUP = 125_000
BAD_SHARE = 1 / 2000
NUM_BINS = 16
MIN_COUNT = 20
FIRST_DAY_US = 1_577_836_800_000_000  # 2020-01-01
SECOND_US = 1_000_000

# name: minimum, maximum, share of nulls
NUMBERS = {
    "balance": (-8.0, 8.0, 0.05),
    "amount": (0.0, 10_000.0, 0.0),
    "price": (0.0, 1000.0, 0.0),
    "minute": (0.0, 1439.0, 0.0),
    "waiting": (0.0, 5000.0, 0.10),
    "age": (-30.0, 130.0, 0.02),
    "distance": (0.0, 100_000.0, 0.05),
    "share": (0.0, 1.0, 0.0),
    "load": (0.0, 500.0, 0.01),
    "temperature": (-60.0, 140.0, 0.03),
}
WHOLE = ("minute", "distance")
# name: number of values, share of nulls, whether the contract lists them
CATEGORIES = {
    "channel": (3, 0.0, True),
    "weekday": (7, 0.0, True),
    "tier": (5, 0.04, True),
    "region": (24, 0.0, True),
    "state": (50, 0.01, True),
    "maker": (120, 0.05, False),
    "depot": (400, 0.0, False),
    "product": (1000, 0.0, False),
    "route": (3000, 0.02, False),
    "campaign": (12, 0.30, False),
}


# What a bad row has in one of its cells.
WAYS: tuple[tuple[str, object], ...] = (
    ("amount", -1.0),
    ("price", float("nan")),
    ("share", float("inf")),
    ("load", 501.0),
    ("channel", "elsewhere"),
    ("depot", None),
)


def vocabulary(name: str) -> list[str]:
    """Name the values of a category."""
    return values_of(name, CATEGORIES[name][0])


def contract() -> Contract:
    """Describe the columns as a model's configuration would."""
    numbers = [
        Column(name=name, kind="number", nullable=nulls > 0, minimum=low, maximum=high)
        for name, (low, high, nulls) in NUMBERS.items()
    ]
    return orders(numbers, CATEGORIES)


def config(workspace: Path) -> Config:
    """Make a model's configuration around the contract; two cores."""
    return Config(
        name="orders",
        workspace=workspace,
        source=SourceConfig(kind="parquet", events="rows"),
        contract=contract(),
        features=FeaturesConfig(num_bins=NUM_BINS, min_category_count=MIN_COUNT),
        cluster=ClusterConfig(num_cpus=2, object_store_mb=200),
    )


def write_rows(folder: Path, num_rows: int, seed: int = 0, row_group: int = ROW_GROUP) -> int:
    """Write files of four row groups, unless they are there; returns the number of bad rows."""
    done = folder / "_bad_rows"  # Readers of a folder pass over such names.
    if done.exists():
        return int(done.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    num_bad = 0
    for file, first in enumerate(range(0, num_rows, 4 * row_group)):
        last = min(first + 4 * row_group, num_rows)
        path = folder / f"rows-{file:04d}.parquet"
        with pq.ParquetWriter(path, _block(0, 1, seed)[0].schema) as writer:
            for start in range(first, last, ROW_GROUP):
                table, bad = _block(start, min(row_group, last - start), seed)
                writer.write_table(table, row_group_size=row_group)
                num_bad += bad
    done.write_text(str(num_bad))
    return num_bad


def _block(first: int, num_rows: int, seed: int) -> tuple[pa.Table, int]:
    chance = np.random.default_rng((seed, first))
    places = np.arange(first, first + num_rows, dtype=np.int64)
    columns: dict[str, pa.Array] = {
        "order_id": pa.array([f"o{seed}-{place:010d}" for place in places]),
        "ordered_at": pa.array(FIRST_DAY_US + places * SECOND_US, pa.int64()).cast(TIMESTAMP),
    }
    for name, values in _numbers(chance, num_rows).items():
        nulls = chance.random(num_rows) < NUMBERS[name][2]
        columns[name] = pa.array(values, mask=nulls)
    for name, (size, null_share, _) in CATEGORIES.items():
        weights = 1 / np.arange(1, size + 1) ** (1.0 if size < 1000 else 1.4)
        codes = chance.choice(size, num_rows, p=weights / weights.sum())
        mask = chance.random(num_rows) < null_share
        indices = pa.array(codes.astype(np.int32), mask=mask)
        columns[name] = pa.array(vocabulary(name)).take(indices)
    bad = np.flatnonzero(chance.random(num_rows) < BAD_SHARE)
    return pa.table(_spoil(columns, bad, chance)), len(bad)


def _numbers(chance: np.random.Generator, size: int) -> dict[str, npt.NDArray[np.generic]]:
    return {
        "balance": np.clip(chance.normal(0, 1, size), -8, 8),
        "amount": np.clip(chance.lognormal(3, 1, size), 0, 10_000),
        "price": np.round(chance.uniform(0, 1000, size), 2),
        "minute": chance.integers(0, 1440, size).astype(np.int32),
        "waiting": np.clip(chance.exponential(60, size), 0, 5000),
        "age": np.clip(chance.normal(50, 12, size), -30, 130),
        "distance": chance.integers(0, 100_001, size),
        "share": chance.beta(2, 5, size),
        "load": np.clip(chance.gamma(2, 20, size), 0, 500),
        "temperature": np.round(np.clip(chance.normal(55, 18, size), -60, 140), 1),
    }


def _spoil(
    columns: dict[str, pa.Array], bad: npt.NDArray[np.int64], chance: np.random.Generator
) -> dict[str, pa.Array]:
    """Spoil one cell of every bad row, in one of six ways."""
    ways = chance.integers(0, len(WAYS), len(bad))
    for way, (name, value) in enumerate(WAYS):
        spoilt = np.zeros(len(columns[name]), bool)
        spoilt[bad[ways == way]] = True
        cell = pa.scalar(value, columns[name].type)
        columns[name] = pc.if_else(pa.array(spoilt), cell, columns[name])
    return columns
