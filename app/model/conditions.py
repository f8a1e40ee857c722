"""Cut the columns of a table into conditions that people can read: bins, categories, hours, nulls.

Knows tables and the contract; knows nothing of losses. Only public columns take part where what is
found is written down in clear.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.columns import Column
from app.contracts.evaluations import Condition
from app.contracts.times import micros_in
from app.data.features import number_column, text_column

NUM_BINS = 6
HOURS_A_BLOCK = 4
MICROS_PER_HOUR = 3_600_000_000
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MISSING = "is missing"
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Cut:
    """One column cut into conditions."""

    column: str
    says: tuple[str, ...]
    codes: Codes
    """[N]: which condition a row meets, or -1 for none."""

    def condition(self, code: int) -> Condition:
        """Describe a condition."""
        return Condition(column=self.column, says=self.says[code])


def cut_columns(rows: pa.Table, columns: Sequence[Column], min_rows: int) -> list[Cut]:
    """Cut columns; a condition that fewer than `min_rows` rows meet is left out."""
    cuts = []
    for column in columns:
        cuts += [kept for cut in _cuts(rows, column) if (kept := _supported(cut, min_rows)).says]
    return cuts


def _cuts(rows: pa.Table, column: Column) -> list[Cut]:
    if column.kind == "number":
        return [cut_number(column.name, number_column(rows, column.name))]
    if column.kind == "time":
        return cut_time(column.name, rows.column(column.name))
    return [cut_category(column.name, text_column(rows, column.name))]


def cut_number(name: str, values: NDArray[np.float64]) -> Cut:
    """Cut at quantiles of the rows, so that bins have about as many rows each; NaN is null.

    >>> cut_number("stops", np.array([1.0, 1.0, 2.0, 2.0])).says
    ('< 2', '>= 2', 'is missing')
    """
    known = values[~np.isnan(values)]
    inner = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    edges = np.unique(np.quantile(known, inner, method="higher")) if len(known) else np.empty(0)
    # A lowest edge at the minimum would leave an empty bin below it.
    edges = edges[edges > known.min()] if len(known) else edges
    codes = np.searchsorted(edges, values, side="right").astype(np.int32)
    shown = [f"{edge:.5g}" for edge in edges]
    between = [f"{low} to < {high}" for low, high in itertools.pairwise(shown)]
    says = (f"< {shown[0]}", *between, f">= {shown[-1]}") if shown else ("is known",)
    codes[np.isnan(values)] = len(says)
    return Cut(name, (*says, MISSING), codes)


def cut_category(name: str, values: pa.ChunkedArray) -> Cut:
    """Give every value a condition, and null one."""
    encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    names = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(len(names)).to_numpy().astype(np.int32)
    return Cut(name, (*(f"= {value}" for value in names), MISSING), codes)


def cut_time(name: str, times: pa.ChunkedArray) -> list[Cut]:
    """Cut by hour of the day and by day of the week, both UTC."""
    hours = pc.fill_null(micros_in(times), -1).to_numpy() // MICROS_PER_HOUR
    is_null = times.is_null().to_numpy()
    blocks = hours % 24 // HOURS_A_BLOCK
    starts = range(0, 24, HOURS_A_BLOCK)
    by_hour = tuple(f"from {h:02d}:00 to {h + HOURS_A_BLOCK - 1:02d}:59 UTC" for h in starts)
    # 1970-01-01 was a Thursday.
    days = (hours // 24 + 3) % 7
    return [
        Cut(name, says, np.where(is_null, -1, codes).astype(np.int32))
        for says, codes in ((by_hour, blocks), (tuple(f"on {day}" for day in DAYS), days))
    ]


def _supported(cut: Cut, min_rows: int) -> Cut:
    """Keep the conditions that enough rows meet, and enough do not."""
    counts = np.bincount(cut.codes[cut.codes >= 0], minlength=len(cut.says))
    keep = (counts >= min_rows) & (len(cut.codes) - counts >= min_rows)
    renamed = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1).astype(np.int32)
    says = tuple(text for text, kept in zip(cut.says, keep, strict=True) if kept)
    return Cut(cut.column, says, renamed[cut.codes])
