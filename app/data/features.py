"""Turn rows into what a network reads, the same way everywhere: training, batch scoring, serving.

A number becomes its position among the quantile edges of the training rows: a robust scale that
clips and imputes. A category becomes its place in a vocabulary, with a code for nulls, and one for
unseen values or several that share them by a hash. A time becomes its places in the day and in the
week. The encoder's JSON is the same byte for byte under any partitioning and order of the rows,
since its statistics are. Knows tables and columns; knows nothing of labels, networks or where rows
come from.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from app.contracts.rows import Frozen
from app.data.categories import FIRST_KNOWN, NULL, UNSEEN, CategoryFeature
from app.data.gridplaces import GridPlaces
from app.data.places import places_of
from app.data.rowwise import FEW_ROWS, RowPlan
from app.data.statistics import (
    NumberCounts,
    Statistics,
    any_column,
    number_column,
    text_column,
)
from app.sections import FeaturesConfig

__all__ = [
    "FIRST_KNOWN",
    "NULL",
    "UNSEEN",
    "CategoryFeature",
    "Encoded",
    "Encoder",
    "InputShape",
    "Statistics",
    "number_column",
    "text_column",
]

NULL_POSITION = -1.0
DAY_US = 86_400_000_000
# A column with nulls is copied: of a large table no more than so many rows of all at a time.
PIECE_ROWS = 16_384
WAVES = ("day_sin", "day_cos", "week_sin", "week_cos")


class InputShape(Frozen):
    """What a network must know of an encoder: widths, not meanings."""

    num_bins: tuple[int, ...] = Field(description="Quantile bins of each number, 0 for a constant.")
    has_null: tuple[bool, ...] = Field(description="Whether a number has a null indicator.")
    num_categories: tuple[int, ...] = Field(
        description="Codes of each category, unseen, null and hashed ones included."
    )


@dataclass(frozen=True)
class Encoded:
    """Rows as a network reads them.

    A number is kept compact, as bin index plus fraction (-1 for null): the network widens it per
    batch, so that a year of rows is 40 MB rather than 540.
    """

    numbers: NDArray[np.float32]
    """[B, F]: positions in 0..num_bins, or -1 for a null that training has seen."""
    categories: NDArray[np.int64]
    """[B, C]: 0 unseen, 1 null, then the vocabulary, then the buckets of hashed values."""

    def __len__(self) -> int:
        return len(self.numbers)

    def row(self, place: int) -> "Encoded":
        """Give one row alone."""
        return Encoded(self.numbers[place : place + 1], self.categories[place : place + 1])


class NumberFeature(Frozen):
    """One number: ascending quantile edges of the training rows, from minimum to maximum."""

    name: str
    edges: tuple[float, ...]
    fill: float = Field(description="Position that stands for a null when training has seen none.")
    has_null: bool

    @property
    def num_bins(self) -> int:
        """Number of bins between the edges."""
        return max(len(self.edges) - 1, 0)

    def positions(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Place values among the edges, linearly within a bin, clipped at both ends."""
        placed = np.empty(len(values), np.float64)
        self.place(values, placed)
        return placed

    def place(self, values: NDArray[np.float64], out: NDArray[Any]) -> None:
        """Write positions into an array of floats, a column of a larger one perhaps."""
        places_of(self.edges).many(values, out, self.null_position)

    @property
    def null_position(self) -> float:
        """What a null becomes."""
        return NULL_POSITION if self.has_null else self.fill


class Encoder(Frozen):
    """A fitted encoder."""

    numbers: tuple[NumberFeature, ...]
    times: tuple[str, ...]
    categories: tuple[CategoryFeature, ...]

    @classmethod
    def fit(cls, statistics: Statistics, config: FeaturesConfig) -> Self:
        """Choose edges and vocabularies from counts alone."""
        return cls(
            numbers=tuple(_number(n, c, config.num_bins) for n, c in statistics.numbers.items()),
            times=statistics.times,
            categories=tuple(
                CategoryFeature.fit(n, c, config) for n, c in statistics.categories.items()
            ),
        )

    @property
    def shape(self) -> InputShape:
        """Widths for the network. Each time is four numbers of one bin, after the numbers."""
        num_cycles = 4 * len(self.times)
        return InputShape(
            num_bins=tuple(n.num_bins for n in self.numbers) + (1,) * num_cycles,
            has_null=tuple(n.has_null for n in self.numbers) + (False,) * num_cycles,
            num_categories=tuple(c.num_codes for c in self.categories),
        )

    def transform(self, table: pa.Table) -> Encoded:
        """Encode accepted rows; each row's code depends on that row alone.

        Raises ValueError when a column is missing.
        """
        num_numbers = len(self.numbers)
        numbers_BF = np.empty((table.num_rows, num_numbers + 4 * len(self.times)), np.float32)
        categories_BC = np.empty((table.num_rows, len(self.categories)), np.int64)
        for i, name in enumerate(self.times):
            first = num_numbers + 4 * i
            numbers_BF[:, first : first + 4] = _cycles(table, name)
        if table.num_rows <= FEW_ROWS and self._by_row(table, numbers_BF, categories_BC):
            return Encoded(numbers_BF, categories_BC)
        # Of an empty table too it is seen whether a column is missing.
        for first in range(0, max(table.num_rows, 1), PIECE_ROWS):
            piece = table.slice(first, PIECE_ROWS)
            columns = [number_column(piece, number.name) for number in self.numbers]
            self._grid_places.place(columns, numbers_BF[first : first + PIECE_ROWS])
        for i, category in enumerate(self.categories):
            categories_BC[:, i] = category.codes(text_column(table, category.name))
        return Encoded(numbers_BF, categories_BC)

    def transform_rows(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Encoded:
        """Encode a few accepted rows of plain values, to the bits that `transform` comes to.

        A number is a float, a category a text, a time microseconds since 1970; any may be None.
        Raises ValueError when a column is missing.
        """
        numbers_BF = np.empty((len(rows), len(self.numbers) + 4 * len(self.times)), np.float32)
        categories_BC = np.empty((len(rows), len(self.categories)), np.int64)
        plan = self._row_plan.standing(names)
        for i, row in enumerate(rows):
            numbers_BF[i, : len(self.numbers)] = plan.places(row)
            categories_BC[i] = plan.codes(row)
        for i, name in enumerate(self.times):
            first, place = len(self.numbers) + 4 * i, names.index(name)
            micros = np.array([row[place] for row in rows], np.float64)
            numbers_BF[:, first : first + 4] = _waves(micros)
        return Encoded(numbers_BF, categories_BC)

    def columns(self, table: pa.Table) -> dict[str, NDArray[Any]]:
        """Encode accepted rows column by column, for files: what transform gives, by name.

        Numbers are float32, codes int32; a time is four numbers. Raises ValueError when a column
        is missing.
        """
        columns: dict[str, NDArray[Any]] = {}
        for number in self.numbers:
            columns[number.name] = np.empty(table.num_rows, np.float32)
            number.place(number_column(table, number.name), columns[number.name])
        for name in self.times:
            cycles = _cycles(table, name).astype(np.float32)
            columns |= {f"{name}_{wave}": cycles[:, i].copy() for i, wave in enumerate(WAVES)}
        for category in self.categories:
            codes = category.codes(text_column(table, category.name))
            columns[category.name] = codes.astype(np.int32)
        return columns

    def _by_row(
        self, table: pa.Table, numbers_BF: NDArray[np.float32], categories_BC: NDArray[np.int64]
    ) -> bool:
        """Encode a few rows value by value; False when a column is missing or of another type."""
        encoded = self._row_plan.encode(table)
        if encoded is None:
            return False
        for i, (places, codes) in enumerate(zip(*encoded, strict=True)):
            numbers_BF[i, : len(places)] = places
            categories_BC[i] = codes
        return True

    @cached_property
    def _grid_places(self) -> GridPlaces:
        return GridPlaces([(places_of(n.edges), n.null_position) for n in self.numbers])

    @cached_property
    def _row_plan(self) -> RowPlan:
        return RowPlan(
            [(n.name, places_of(n.edges), n.null_position) for n in self.numbers],
            [(c.name, c.code_of.__getitem__) for c in self.categories],
        )

    @property
    def digest(self) -> str:
        """Digest of the JSON."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Write as JSON: equal encoders give equal bytes."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what to_json wrote."""
        return cls.model_validate_json(content)


def _number(name: str, counts: NumberCounts, num_bins: int) -> NumberFeature:
    has_null = counts.num_nulls > 0
    if counts.minimum is None or counts.maximum is None:
        return NumberFeature(name=name, edges=(), fill=0.0, has_null=has_null)
    inner = {counts.quantile(i, num_bins) for i in range(1, num_bins)}
    edges = tuple(sorted({counts.minimum, *inner, counts.maximum}))
    middle = float(np.interp(counts.quantile(1, 2), edges, np.arange(len(edges), dtype=np.float64)))
    return NumberFeature(name=name, edges=edges, fill=middle, has_null=has_null)


def _cycles(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Give sine and cosine of the time of day and of week (UTC), moved to 0..1; a null is 0.5."""
    column = any_column(table, name).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return _waves(pc.cast(column, pa.float64(), safe=False).to_numpy())


def _waves(since_epoch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the four waves of times in microseconds since 1970, or NaN."""
    monday = since_epoch + 3 * DAY_US  # 1970-01-01 was a Thursday.
    angles = [2 * np.pi * (moved % period) / period for moved, period in
              ((since_epoch, DAY_US), (monday, 7 * DAY_US))]  # fmt: skip
    waves = np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return np.nan_to_num((waves + 1) / 2, nan=0.5)
