"""Count what the columns of a whole file hold, block by block, in bounded memory.

Knows columns with their kinds and spellings; knows nothing of what they are for. Cells are read as
an ingest will read them, so that what is counted as unreadable here is quarantined there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.util import hash_array

from app.contracts.rows import Column
from app.contracts.times import day_numbers, micros_in
from app.data.cells import cells_of_arrow
from app.data.inline import spelled
from app.sections import InlineConfig

# Beyond so many different values they are counted no more; beyond so many days likewise.
MAX_VALUES = 5_000
MAX_DAYS = 40_000
# 8 bytes for each value of a column that may be an id.
MAX_UNIQUE = 20_000_000
# Without a limit on both sides a number may be infinite; these stand for none yet.
NOTHING = (float("inf"), float("-inf"))


@dataclass
class Tally:
    """What one column holds, over a whole file."""

    column: Column
    num_rows: int = 0
    num_null: int = 0
    num_unreadable: int = 0
    complaint: str = ""
    """One of the cells that cannot be read."""
    minimum: float = NOTHING[0]
    """Of numbers, or of times in microseconds since 1970."""
    maximum: float = NOTHING[1]
    is_whole: bool = True
    values: Counter[str] | None = field(default_factory=Counter)
    """How often each value stands there; None when they are too many."""
    days: Counter[int] | None = field(default_factory=Counter)
    """Rows of each UTC day of a time; None when the days are too many."""
    num_characters: int = 0
    _hashes: list[NDArray[np.uint64]] | None = field(default_factory=list)
    _num_unique: int = 0

    @property
    def num_present(self) -> int:
        """Cells that hold something readable."""
        return self.num_rows - self.num_null - self.num_unreadable

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value of its own, surely."""
        return self._hashes is not None and self.num_present == self.num_rows

    @property
    def num_distinct(self) -> int | None:
        """How many different values there are; None when more than are counted."""
        return len(self.values) if self.values is not None else None

    def add(self, block: pa.ChunkedArray, config: InlineConfig) -> None:
        """Take in the cells of one block."""
        values = spelled(block, self.column, config)
        cells = cells_of_arrow(values, self.column)
        # A cell that could not be read is null as well.
        self.num_unreadable += len(cells.complaints)
        self.num_null += cells.array.null_count - len(cells.complaints)
        self.num_rows += len(cells.array)
        if cells.complaints and not self.complaint:
            self.complaint = cells.complaints[0][1]
        present = cells.array.drop_null()
        if len(present):
            self._measure(present)
            self._count(present)
            self._compare(present)

    def _measure(self, present: pa.Array) -> None:
        if self.column.kind == "number":
            finite = present.filter(pc.is_finite(present)).to_numpy(zero_copy_only=False)
            self.is_whole &= bool(np.all(finite == np.floor(finite)))
        elif self.column.kind == "time":
            finite = micros_in(present).to_numpy(zero_copy_only=False)
            if self.days is not None:
                self.days.update(day_numbers(present).tolist())
                self.days = self.days if len(self.days) <= MAX_DAYS else None
        else:
            self.num_characters += pc.sum(pc.utf8_length(present)).as_py()
            return
        if len(finite):
            self.minimum = min(self.minimum, float(finite.min()))
            self.maximum = max(self.maximum, float(finite.max()))

    def _count(self, present: pa.Array) -> None:
        if self.values is None:
            return
        counted = pc.value_counts(present.cast(pa.string()))
        for item in counted.to_pylist():
            self.values[item["values"]] += item["counts"]
        if len(self.values) > MAX_VALUES:
            self.values = None

    def _compare(self, present: pa.Array) -> None:
        """Keep looking for a value that comes twice; fractions are no ids."""
        if self._hashes is None:
            return
        if self.column.kind == "number" and not self.is_whole:
            self._hashes = None
            return
        hashes = hash_array(np.asarray(present.cast(pa.string()).to_pylist(), dtype=object))
        self._num_unique += len(hashes)
        if len(np.unique(hashes)) < len(hashes) or self._num_unique > MAX_UNIQUE:
            self._hashes = None
        else:
            self._hashes.append(hashes)

    def finish(self) -> None:
        """Compare the blocks with each other; call it once, after the last."""
        if self._hashes:
            if len(np.unique(np.concatenate(self._hashes))) < self._num_unique:
                self._hashes = None
            else:
                self._hashes = []


def tally(
    blocks: Iterable[pa.Table], columns: Mapping[str, Column], config: InlineConfig
) -> dict[str, Tally]:
    """Count the columns of a file; `columns` are by the file's own names for them."""
    tallies = {name: Tally(column) for name, column in columns.items()}
    for block in blocks:
        for name, counts in tallies.items():
            counts.add(block[name], config)
    for counts in tallies.values():
        counts.finish()
    return tallies
