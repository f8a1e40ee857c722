"""Count what an encoder is fitted from: exactly, block by block, in any order.

Knows columns and counts; draws no edges and no vocabulary.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.rows import Contract
from app.data.cells import DICTIONARY

# Numbers are counted by their first 16 bits of mantissa: integers below 131,072 exactly, others to
# 8e-6 of their size.
TRUNCATED_BITS = 52 - 16
# A bucket is the kept bits of a magnitude, under the sign of the number: buckets ascend as numbers
# do, and -0.0 and 0.0 share one.
INFINITE = int(np.array(np.inf).view(np.int64)) >> TRUNCATED_BITS
UPPER_HALF = 1 if sys.byteorder == "little" else 0
# A bucket and its sign take 28 bits of 63, a count the others.
COUNT_BITS = 35
COUNTED = [pa.field("bucket", pa.int32()), pa.field("count", pa.int64())]
# So many counted values, 16 bytes each, are merged in one go.
FEW_VALUES = 4_000_000
# A counted text takes as much memory as so many counted numbers: 170 bytes of a dict.
TEXT_VALUES = 10


@dataclass(frozen=True)
class NumberCounts:
    """How often a value of a number fell into each bucket; buckets ascend, as their values do."""

    buckets: NDArray[np.int32]
    counts: NDArray[np.int64]
    num_nulls: int
    minimum: float | None
    maximum: float | None

    @classmethod
    def collect(cls, name: str, values: NDArray[np.float64]) -> Self:
        """Count one block; NaN stands for null."""
        buckets = _buckets(values)
        buckets.sort()
        # A NaN's kept bits are over those of infinity.
        first, last = np.searchsorted(buckets, np.array([-INFINITE, INFINITE + 1], np.int32))
        known = buckets[first:last]
        num_nulls = len(values) - len(known)
        if not len(known):
            return cls(known, np.empty(0, np.int64), num_nulls, None, None)
        if known[0] == -INFINITE or known[-1] == INFINITE:
            raise ValueError(
                f"column {name}: holds infinite values; validate rows before fitting an encoder"
            )
        starts = _starts(known)
        counts = np.diff(starts, append=len(known))
        # Adding zero makes -0.0 and 0.0 one value.
        limits = (float(np.fmin.reduce(values)) + 0.0, float(np.fmax.reduce(values)) + 0.0)
        return cls(known[starts], counts, num_nulls, *limits)

    @classmethod
    def merge_all(cls, parts: Sequence[Self]) -> Self:
        """Add counts exactly, in one sort; at least one."""
        # Bucket and count in one integer: sorting takes both along.
        packed = np.concatenate(
            [p.buckets.astype(np.int64) << COUNT_BITS | p.counts for p in parts]
        )
        packed.sort()
        buckets = (packed >> COUNT_BITS).astype(np.int32)
        packed &= (1 << COUNT_BITS) - 1
        starts = _starts(buckets)
        lows = [p.minimum for p in parts if p.minimum is not None]
        highs = [p.maximum for p in parts if p.maximum is not None]
        return cls(
            buckets[starts],
            np.add.reduceat(packed, starts) if len(starts) else packed,
            sum(p.num_nulls for p in parts),
            min(lows, default=None),
            max(highs, default=None),
        )

    @property
    def values(self) -> NDArray[np.float64]:
        """The value of each bucket that is nearest to zero."""
        magnitudes = (np.abs(self.buckets).astype(np.int64) << TRUNCATED_BITS).view(np.float64)
        return np.where(self.buckets < 0, -magnitudes, magnitudes)

    @cached_property
    def _ranks(self) -> NDArray[np.int64]:
        return self.counts.cumsum()

    def quantile(self, numerator: int, denominator: int) -> float:
        """Give the smallest value that at least this share of the rows do not exceed."""
        rank = -(-numerator * int(self._ranks[-1]) // denominator)  # Integers: no rounding.
        place = int(np.searchsorted(self._ranks, max(rank, 1)))
        value = float(replace(self, buckets=self.buckets[place : place + 1]).values[0])
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
        """Count one block, dictionary-encoded or not."""
        if pa.types.is_dictionary(column.type):
            return cls._of_dictionaries(column)
        counted = pc.value_counts(column)
        counts = Counter(dict(zip(*(counted.field(i).to_pylist() for i in (0, 1)), strict=True)))
        return cls(counts, counts.pop(None, 0))

    @classmethod
    def _of_dictionaries(cls, column: pa.ChunkedArray) -> Self:
        counts: Counter[str] = Counter()
        for chunk in column.chunks:
            used = np.bincount(chunk.indices.drop_null().to_numpy(), minlength=1)
            held = chunk.dictionary.take(pa.array(np.flatnonzero(used)))
            # Added one by one: a dictionary may hold a text twice.
            for text, number in zip(held.to_pylist(), used[used > 0].tolist(), strict=True):
                counts[text] += number
        return cls(counts, column.null_count)

    @classmethod
    def merge_all(cls, parts: Sequence[Self]) -> Self:
        """Add counts exactly; at least one."""
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.counts)
        return cls(counts, sum(part.num_nulls for part in parts))


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
        return type(self).merge_all([self, other])

    @classmethod
    def merge_all(cls, parts: Iterable[Self]) -> Self:
        """Add the statistics of all blocks, at least one, as they come.

        Holds at most about twice what the result needs, however many blocks there are.
        """
        blocks = iter(parts)
        merged, waiting, num_waiting = next(blocks), list[Self](), 0
        for part in blocks:
            waiting.append(part)
            num_waiting += part._num_values
            if num_waiting > max(merged._num_values, FEW_VALUES):
                merged, waiting, num_waiting = cls._merged([merged, *waiting]), [], 0
        return cls._merged([merged, *waiting])

    @classmethod
    def _merged(cls, parts: Sequence[Self]) -> Self:
        first, *rest = parts
        for part in rest:
            assert first.times == part.times
            assert list(first.numbers) == list(part.numbers)
        return cls(
            sum(part.num_rows for part in parts),
            {n: NumberCounts.merge_all([p.numbers[n] for p in parts]) for n in first.numbers},
            {
                n: CategoryCounts.merge_all([p.categories[n] for p in parts])
                for n in first.categories
            },
            first.times,
        )

    @cached_property
    def _num_values(self) -> int:
        texts = sum(len(c.counts) for c in self.categories.values())
        return sum(len(c.counts) for c in self.numbers.values()) + texts * TEXT_VALUES

    def to_bytes(self) -> bytes:
        """Write as an Arrow stream, to travel between processes: a batch for every number."""
        rest = {
            "num_rows": self.num_rows,
            "numbers": {n: [c.num_nulls, c.minimum, c.maximum] for n, c in self.numbers.items()},
            "categories": {n: [c.counts, c.num_nulls] for n, c in self.categories.items()},
            "times": self.times,
        }
        schema = pa.schema(COUNTED, metadata={"rest": json.dumps(rest)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            for counts in self.numbers.values():
                stream.write_batch(pa.record_batch([counts.buckets, counts.counts], schema=schema))
        content: bytes = sink.getvalue().to_pybytes()
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what to_bytes wrote."""
        with pa.ipc.open_stream(content) as stream:
            rest = json.loads(stream.schema.metadata[b"rest"])
            columns = [[column.to_numpy() for column in batch.columns] for batch in stream]
        numbers = {
            name: NumberCounts(*counted, *limits)
            for (name, limits), counted in zip(rest["numbers"].items(), columns, strict=True)
        }
        categories = {
            name: CategoryCounts(Counter(counts), num_nulls)
            for name, (counts, num_nulls) in rest["categories"].items()
        }
        return cls(rest["num_rows"], numbers, categories, tuple(rest["times"]))


def _buckets(values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Give the bucket of each value."""
    upper = np.ascontiguousarray(values).view(np.int32)[UPPER_HALF::2] >> TRUNCATED_BITS - 32
    # The kept bits of a negative number count upwards from the sign alone.
    return np.where(upper < 0, -(upper + np.int32(1 << 63 - TRUNCATED_BITS)), upper)


def _starts(ascending: NDArray[np.int32]) -> NDArray[np.intp]:
    """Find where a new value begins."""
    begins = np.ones(len(ascending), bool)
    np.not_equal(ascending[1:], ascending[:-1], out=begins[1:])
    return np.flatnonzero(begins)


def number_column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Read a number column with NaN for null. Raises ValueError when it is missing."""
    column = any_column(table, name)
    if column.type != pa.float64():
        column = column.cast(pa.float64())
    # Where a column is in one piece and has no null, it is read where it lies.
    whole = column.chunk(0) if column.num_chunks == 1 else column
    values: NDArray[np.float64] = whole.to_numpy(zero_copy_only=False)
    return values


def text_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Read a category column as strings, or dictionaries. Raises ValueError when it is missing."""
    column = any_column(table, name)
    return column if column.type in (pa.string(), DICTIONARY) else column.cast(pa.string())


def any_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Read a column. Raises ValueError when it is missing."""
    place = table.schema.get_field_index(name)
    if place < 0:
        raise ValueError(
            f"rows have no column {name}; the model needs it, got {', '.join(table.schema.names)}"
        )
    return table.column(place)
