"""Count what an encoder is fitted from: exactly, block by block, in any order.

Knows columns and counts; draws no edges and no vocabulary.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.rows import Contract

# Numbers are counted by their first 16 bits of mantissa: integers below 131,072 exactly, others to
# 8e-6 of their size.
TRUNCATED_BITS = 52 - 16


@dataclass(frozen=True)
class NumberCounts:
    """How often each (truncated) value of a number occurred; values ascend."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    num_nulls: int
    minimum: float | None
    maximum: float | None

    @classmethod
    def collect(cls, name: str, values: NDArray[np.float64]) -> Self:
        """Count one block; NaN stands for null."""
        known = values[~np.isnan(values)] + 0.0  # Adding zero makes -0.0 and 0.0 one bucket.
        if not np.isfinite(known).all():
            raise ValueError(
                f"column {name}: holds infinite values; validate rows before fitting an encoder"
            )
        bits = known.view(np.int64) >> TRUNCATED_BITS << TRUNCATED_BITS
        buckets, counts = np.unique(bits.view(np.float64), return_counts=True)
        limits = (float(known.min()), float(known.max())) if len(known) else (None, None)
        return cls(buckets, counts.astype(np.int64), len(values) - len(known), *limits)

    def merge(self, other: Self) -> Self:
        """Add two counts exactly."""
        values, place = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        lows = [v for v in (self.minimum, other.minimum) if v is not None]
        highs = [v for v in (self.maximum, other.maximum) if v is not None]
        limits = (min(lows), max(highs)) if lows else (None, None)
        return type(self)(values, counts, self.num_nulls + other.num_nulls, *limits)

    def quantile(self, numerator: int, denominator: int) -> float:
        """Give the smallest value that at least this share of the rows do not exceed."""
        rank = -(
            -numerator * int(self.counts.sum()) // denominator
        )  # Integers: no rounding anywhere.
        value = float(self.values[np.searchsorted(self.counts.cumsum(), max(rank, 1))])
        assert self.minimum is not None
        assert self.maximum is not None
        return min(max(value, self.minimum), self.maximum)


@dataclass(frozen=True)
class CategoryCounts:
    """How often each value of a category occurred."""

    counts: Counter[str]
    num_nulls: int

    @classmethod
    def collect(cls, column: pa.ChunkedArray) -> Self:
        """Count one block."""
        counted = pc.value_counts(column)
        counts = Counter(dict(zip(*(counted.field(i).to_pylist() for i in (0, 1)), strict=True)))
        return cls(counts, counts.pop(None, 0))

    def merge(self, other: Self) -> Self:
        """Add two counts exactly."""
        return type(self)(self.counts + other.counts, self.num_nulls + other.num_nulls)


@dataclass(frozen=True)
class Statistics:
    """All that an encoder is fitted from. Merging is exact, associative and commutative."""

    num_rows: int
    numbers: dict[str, NumberCounts]
    categories: dict[str, CategoryCounts]
    times: tuple[str, ...]

    @classmethod
    def collect(cls, table: pa.Table, contract: Contract) -> Self:
        """Count one block of accepted rows."""
        kinds = {column.name: column.kind for column in contract.features}
        return cls(
            table.num_rows,
            {
                n: NumberCounts.collect(n, number_column(table, n))
                for n, k in kinds.items()
                if k == "number"
            },
            {
                n: CategoryCounts.collect(text_column(table, n))
                for n, k in kinds.items()
                if k == "category"
            },
            tuple(n for n, k in kinds.items() if k == "time"),
        )

    def merge(self, other: Self) -> Self:
        """Add two blocks' statistics."""
        assert self.times == other.times
        assert list(self.numbers) == list(other.numbers)
        return type(self)(
            self.num_rows + other.num_rows,
            {name: counts.merge(other.numbers[name]) for name, counts in self.numbers.items()},
            {
                name: counts.merge(other.categories[name])
                for name, counts in self.categories.items()
            },
            self.times,
        )

    @classmethod
    def merge_all(cls, parts: Iterable[Self]) -> Self:
        """Add the statistics of all blocks; at least one."""
        first, *rest = parts
        for part in rest:
            first = first.merge(part)
        return first

    def to_json(self) -> bytes:
        """Write as JSON, to travel between processes."""
        document = {
            "num_rows": self.num_rows,
            "numbers": {
                name: [c.values.tolist(), c.counts.tolist(), c.num_nulls, c.minimum, c.maximum]
                for name, c in self.numbers.items()
            },
            "categories": {
                name: [dict(sorted(c.counts.items())), c.num_nulls]
                for name, c in self.categories.items()
            },
            "times": self.times,
        }
        return json.dumps(document).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what to_json wrote."""
        document = json.loads(content)
        numbers = {
            name: NumberCounts(np.array(values, np.float64), np.array(counts, np.int64), *rest)
            for name, (values, counts, *rest) in document["numbers"].items()
        }
        categories = {
            name: CategoryCounts(Counter(counts), num_nulls)
            for name, (counts, num_nulls) in document["categories"].items()
        }
        return cls(document["num_rows"], numbers, categories, tuple(document["times"]))


def number_column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Read a number column with NaN for null. Raises ValueError when it is missing."""
    column = any_column(table, name)
    if column.type != pa.float64():
        column = column.cast(pa.float64())
    values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
    return values


def text_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Read a category column as strings. Raises ValueError when it is missing."""
    column = any_column(table, name)
    return column if column.type == pa.string() else column.cast(pa.string())


def any_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Read a column. Raises ValueError when it is missing."""
    if name not in table.schema.names:
        raise ValueError(
            f"rows have no column {name}; the model needs it, got {', '.join(table.schema.names)}"
        )
    return table.column(name)
