"""Histograms of columns on reference edges: the same thing for training and for live traffic.

Counts only: adding and merging are exact, cost O(1) a row and keep no value of any row. Knows
columns, edges and vocabularies; draws no conclusion from them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.data.features import (
    FIRST_KNOWN,
    NULL,
    UNSEEN,
    CategoryFeature,
    Encoder,
    number_column,
    text_column,
)

SCORES = "prediction"
NUM_SCORE_BINS = 20

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class NumberBins:
    """Bins of a number.

    With edges e0 < … < en the counts are: under e0, [e0, e1), …, [en-1, en], over en, null.
    """

    edges: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of counts."""
        return len(self.edges) + 2

    def count(self, values: NDArray[np.float64]) -> Counts:
        """Count values; NaN stands for null."""
        edges = np.array(self.edges)
        places = np.searchsorted(edges, values, side="right")
        if len(edges) > 1:
            places[values == edges[-1]] -= 1
        places[np.isnan(values)] = self.size - 1
        return np.bincount(places, minlength=self.size)

    @property
    def null_index(self) -> int:
        """Where nulls are counted."""
        return self.size - 1


@dataclass(frozen=True)
class CategoryBins:
    """Bins of a category. The counts are: unseen, null, then the vocabulary."""

    vocabulary: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of counts."""
        return len(self.vocabulary) + FIRST_KNOWN

    def count(self, column: pa.ChunkedArray) -> Counts:
        """Count values of a string column."""
        feature = CategoryFeature(name="", vocabulary=self.vocabulary)
        return np.bincount(feature.codes(column), minlength=self.size)

    @property
    def null_index(self) -> int:
        """Where nulls are counted."""
        return NULL


@dataclass(frozen=True)
class Histogram:
    """The counts of one column."""

    bins: NumberBins | CategoryBins
    counts: Counts

    @property
    def num_rows(self) -> int:
        """Rows counted."""
        return int(self.counts.sum())

    @property
    def null_share(self) -> float:
        """Share of nulls, 0 without rows."""
        return float(self.counts[self.bins.null_index]) / max(self.num_rows, 1)

    @property
    def unseen_share(self) -> float:
        """Share of values outside the vocabulary; 0 for numbers."""
        unseen = self.counts[UNSEEN] if isinstance(self.bins, CategoryBins) else 0
        return float(unseen) / max(self.num_rows, 1)

    @property
    def outside_share(self) -> float:
        """Share of values that training did not cover: unseen, or beyond its range."""
        if isinstance(self.bins, CategoryBins):
            return self.unseen_share
        return float(self.counts[0] + self.counts[-2]) / max(self.num_rows, 1)


@dataclass(frozen=True)
class Profile:
    """Histograms of a model's columns and predictions. Immutable: add and merge give new ones."""

    num_rows: int
    columns: dict[str, Histogram]
    scores: Histogram

    @classmethod
    def for_encoder(cls, encoder: Encoder, scores: Iterable[float] = ()) -> Self:
        """Give an empty profile on the encoder's edges and on quantiles of reference scores."""
        bins: dict[str, NumberBins | CategoryBins] = {
            number.name: NumberBins(_distinct(number.edges)) for number in encoder.numbers
        }
        bins |= {
            category.name: CategoryBins(category.vocabulary) for category in encoder.categories
        }
        return cls(
            0, {name: _empty(each) for name, each in bins.items()}, _empty(_score_bins(scores))
        )

    def empty_like(self) -> Self:
        """Give an empty profile on the same edges."""
        columns = {name: _empty(column.bins) for name, column in self.columns.items()}
        return type(self)(0, columns, _empty(self.scores.bins))

    def add(self, table: pa.Table, scores: NDArray[np.float64] | None = None) -> Self:
        """Count rows and, where given, their predicted probabilities; returns the new profile."""
        columns = {name: _counted(column, table, name) for name, column in self.columns.items()}
        added = type(self)(self.num_rows + table.num_rows, columns, self.scores)
        return added if scores is None else added.add_scores(scores)

    def add_scores(self, scores: NDArray[np.float64]) -> Self:
        """Count predicted probabilities; returns the new profile."""
        assert isinstance(self.scores.bins, NumberBins)
        counts = self.scores.counts + self.scores.bins.count(np.asarray(scores, np.float64))
        return replace(self, scores=replace(self.scores, counts=counts))

    def merge(self, other: Self) -> Self:
        """Add two profiles on the same edges exactly. Raises ValueError when the edges differ."""
        return type(self)(
            self.num_rows + other.num_rows,
            {
                name: _merged(name, column, other.columns.get(name))
                for name, column in self.columns.items()
            },
            _merged(SCORES, self.scores, other.scores),
        )

    def to_json(self) -> bytes:
        """Write as JSON: equal profiles give equal bytes."""
        columns = {name: _dump(column) for name, column in self.columns.items()}
        document = {"num_rows": self.num_rows, "columns": columns, "scores": _dump(self.scores)}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what to_json wrote."""
        document = json.loads(content)
        columns = {name: _load(column) for name, column in document["columns"].items()}
        return cls(document["num_rows"], columns, _load(document["scores"]))


def _score_bins(scores: Iterable[float]) -> NumberBins:
    known = np.sort(np.fromiter(scores, np.float64))
    if not len(known):
        return NumberBins(tuple(i / NUM_SCORE_BINS for i in range(NUM_SCORE_BINS + 1)))
    ranks = [len(known) * i // NUM_SCORE_BINS for i in range(1, NUM_SCORE_BINS)]
    return NumberBins(tuple(sorted({0.0, *known[ranks].tolist(), 1.0})))


def _distinct(edges: Sequence[float]) -> tuple[float, ...]:
    """Give a constant column a bin of its own."""
    return tuple(edges) if len(edges) != 1 else (edges[0], float(np.nextafter(edges[0], np.inf)))


def _empty(bins: NumberBins | CategoryBins) -> Histogram:
    return Histogram(bins, np.zeros(bins.size, np.int64))


def _counted(column: Histogram, table: pa.Table, name: str) -> Histogram:
    if isinstance(column.bins, NumberBins):
        more = column.bins.count(number_column(table, name))
    else:
        more = column.bins.count(text_column(table, name))
    return replace(column, counts=column.counts + more)


def _merged(name: str, mine: Histogram, other: Histogram | None) -> Histogram:
    if other is None or other.bins != mine.bins:
        raise ValueError(
            f"column {name}: profiles on different edges cannot be merged; use empty_like()"
        )
    return replace(mine, counts=mine.counts + other.counts)


def _dump(column: Histogram) -> dict[str, object]:
    if isinstance(column.bins, NumberBins):
        return {"edges": column.bins.edges, "counts": column.counts.tolist()}
    return {"vocabulary": column.bins.vocabulary, "counts": column.counts.tolist()}


def _load(document: dict[str, list[float]]) -> Histogram:
    counts = np.array(document["counts"], np.int64)
    if "edges" in document:
        return Histogram(NumberBins(tuple(document["edges"])), counts)
    return Histogram(CategoryBins(tuple(map(str, document["vocabulary"]))), counts)
