"""Sum up the values of a column so that sums can be added: nulls, range, quantiles, top values.

Knows Arrow columns and the contract's column; keeps no row, and of a column whose values must not
be shown nothing but a count. Adding numbers, times and counts is exact and free of any order. A
category's values are exact while there are at most MAX_VALUES; beyond, the counts are those of
Misra and Gries (Science of Computer Programming 2, 1982), merged as by Agarwal et al. (Mergeable
Summaries, PODS 2012): each falls short by at most `shortfall`, under 1 in MAX_VALUES of the rows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.rows import Column

# Numbers are counted by their first 8 bits of mantissa: whole numbers up to 512 exactly, others to
# one part in 256 of their size.
TRUNCATED_BITS = np.uint64(52 - 8)
# From so many values on, counting all 2**20 truncated numbers is faster than sorting.
MANY = 50_000
MAX_VALUES = 1000


def shows_values(column: Column) -> bool:
    """Tell whether a report may show values of a column: public ones that name nobody."""
    return column.privacy == "public" and column.kind != "identifier"


@dataclass(frozen=True)
class Numbers:
    """The known values of numbers: how often each truncated one occurred, and their range."""

    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    minimum: float | None = None
    maximum: float | None = None

    @classmethod
    def collect(cls, column: pa.ChunkedArray) -> Self:
        """Count the finite values of a block."""
        known: NDArray[np.float64] = column.drop_null().to_numpy() + 0.0
        known = known[np.isfinite(known)]
        if not len(known):
            return cls()
        keys = (known.view(np.uint64) >> TRUNCATED_BITS).astype(np.int64)
        if len(keys) < MANY:
            found, counts = np.unique(keys, return_counts=True)
        else:
            counted = np.bincount(keys)
            found = np.flatnonzero(counted)
            counts = counted[found]
        values = (found.astype(np.uint64) << TRUNCATED_BITS).view(np.float64)
        order = np.argsort(values)
        limits = float(known.min()), float(known.max())
        return cls(values[order], counts[order].astype(np.int64), *limits)

    def merge(self, other: Self) -> Self:
        """Add two blocks."""
        together = np.concatenate([self.values, other.values])
        values, place = np.unique(together, return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        ends = [v for v in (self.minimum, other.minimum) if v is not None]
        tops = [v for v in (self.maximum, other.maximum) if v is not None]
        return type(self)(values, counts, min(ends, default=None), max(tops, default=None))

    def quantile(self, share: float) -> float | None:
        """Give a value that this share of the known values do not exceed, within 1 in 256."""
        if self.minimum is None or self.maximum is None:
            return None
        rank = max(int(np.ceil(share * self.counts.sum())), 1)
        place = min(int(np.searchsorted(self.counts.cumsum(), rank)), len(self.values) - 1)
        return min(max(float(self.values[place]), self.minimum), self.maximum)

    def histogram(self, num_bins: int) -> tuple[list[float], list[int]]:
        """Count between the first and the last hundredth; what lies beyond joins the end bins.

        Returns the edges, one more than counts; none when there is no value or only one.
        """
        low, high = self.quantile(0.01), self.quantile(0.99)
        if low is None or high is None:
            return [], []
        if low == high:
            low, high = float(self.values[0]), float(self.values[-1])
        width = high / num_bins - low / num_bins
        if not (width > 0 and np.isfinite(width)):
            return [], []
        shares = np.arange(num_bins + 1) / num_bins
        # Where the range itself overflows, no product may reach it.
        whole = np.isfinite(high - low)
        edges = (
            low + width * np.arange(num_bins + 1) if whole else low * (1 - shares) + high * shares
        )
        places = np.clip(np.searchsorted(edges, self.values, side="right") - 1, 0, num_bins - 1)
        return edges.tolist(), np.bincount(places, self.counts, num_bins).astype(int).tolist()


@dataclass(frozen=True)
class Values:
    """The known values of a category, or the most frequent of them."""

    counts: Counter[str] = field(default_factory=Counter)
    shortfall: int = 0

    @classmethod
    def collect(cls, column: pa.ChunkedArray) -> Self:
        """Count the values of a block."""
        counted = pc.value_counts(column.drop_null())
        texts, counts = (counted.field(i).to_pylist() for i in (0, 1))
        return cls(Counter(dict(zip(texts, counts, strict=True)))).cut()

    def merge(self, other: Self) -> Self:
        """Add two blocks."""
        counts, shortfall = self.counts + other.counts, self.shortfall + other.shortfall
        return type(self)(counts, shortfall).cut()

    def cut(self) -> Self:
        """Keep at most MAX_VALUES: take the count of the next one from each."""
        if len(self.counts) <= MAX_VALUES:
            return self
        taken = sorted(self.counts.values(), reverse=True)[MAX_VALUES]
        kept = {value: count - taken for value, count in self.counts.items() if count > taken}
        return type(self)(Counter(kept), self.shortfall + taken)

    def top(self, number: int) -> list[tuple[str, int]]:
        """Give the most frequent values; of equals, the one that comes first as text."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:number]


@dataclass(frozen=True)
class Times:
    """The range of known times, in microseconds since 1970."""

    minimum: int | None = None
    maximum: int | None = None

    @classmethod
    def collect(cls, column: pa.ChunkedArray) -> Self:
        """Find the range of a block."""
        found = pc.min_max(column.cast(pa.int64()))
        return cls(found["min"].as_py(), found["max"].as_py())

    def merge(self, other: Self) -> Self:
        """Span two blocks."""
        ends = [v for v in (self.minimum, other.minimum) if v is not None]
        tops = [v for v in (self.maximum, other.maximum) if v is not None]
        return type(self)(min(ends, default=None), max(tops, default=None))


Known = Numbers | Values | Times
COLLECTORS: dict[str, Callable[[pa.ChunkedArray], Known]] = {
    "number": Numbers.collect,
    "category": Values.collect,
    "time": Times.collect,
}


@dataclass(frozen=True)
class ColumnFigures:
    """One column of some rows; `known` is there when its values may be shown."""

    num_rows: int
    num_nulls: int
    known: Known | None

    @classmethod
    def collect(cls, values: pa.ChunkedArray, column: Column) -> Self:
        """Sum up a block of typed values."""
        known: Known | None = None
        if shows_values(column):
            known = COLLECTORS[column.kind](values)
        return cls(len(values), values.null_count, known)

    def merge(self, other: Self) -> Self:
        """Add two blocks of the same column."""
        assert type(self.known) is type(other.known)
        known = None if self.known is None else self.known.merge(other.known)  # type: ignore[arg-type]
        return type(self)(self.num_rows + other.num_rows, self.num_nulls + other.num_nulls, known)


def collect_columns(rows: pa.Table, columns: Sequence[Column]) -> dict[str, ColumnFigures]:
    """Sum up the columns of a block of accepted rows."""
    return {column.name: ColumnFigures.collect(rows[column.name], column) for column in columns}


def merge_columns(parts: Iterable[dict[str, ColumnFigures]]) -> dict[str, ColumnFigures]:
    """Add the figures of blocks that have the same columns."""
    total: dict[str, ColumnFigures] = {}
    for part in parts:
        for name, figures in part.items():
            total[name] = total[name].merge(figures) if name in total else figures
    return total
