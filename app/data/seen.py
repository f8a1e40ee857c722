"""Remember which ids have been seen, in 16 bytes an id, whatever their length.

Knows text and hashes; knows nothing of rows, files or tables. Two ids are taken for the same when
both of their 64-bit hashes agree: among a billion ids that happens by chance once in 10**20 times.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Column

# Two keys of SipHash; they are public, and part of no file that outlives an ingest.
KEYS = ("mainspring ids 1", "mainspring ids 2")
MAX_RUN = 2**22


class Hashes(NamedTuple):
    """Hashes of some ids, in two halves of 64 bits."""

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]

    def at(self, places: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "Hashes":
        """Return the hashes at some places, or where a mask says so."""
        return Hashes(self.high[places], self.low[places])

    def __len__(self) -> int:
        """Count ids, not halves."""
        return len(self.high)


def hash_ids(*columns: pa.Array | pa.ChunkedArray) -> Hashes:
    """Hash a column of text without nulls; of several columns, what a row has in all of them."""
    texts = (column.cast(pa.string()).to_pylist() for column in columns)
    rows = [row[0] if len(row) == 1 else "\0".join(row) for row in zip(*texts, strict=True)]
    values = np.array(rows, dtype=object)
    halves = (pd.util.hash_array(values, hash_key=key, categorize=False) for key in KEYS)
    return Hashes(*halves)


def hash_unique(rows: pa.Table, column: Column) -> Hashes:
    """Hash the cells of a column in which no value may come twice; a null hashes like no text."""
    cells = rows[column.name]
    if column.kind == "number":
        cells = pc.add(cells, 0.0)  # A zero is a zero, whatever its sign.
    elif column.kind == "time":
        cells = cells.cast(pa.int64())
    return hash_ids(cells.cast(pa.string()).fill_null(""))


class SeenIds:
    """A set of hashes that grows: runs sorted by first half, each twice as long as the next.

    Runs of MAX_RUN stay as they are: merging two takes as much memory again.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._runs: list[Hashes] = []

    def __len__(self) -> int:
        """Count the hashes."""
        return sum(len(run) for run in self._runs)

    def add(self, hashes: Hashes) -> None:
        """Add hashes that are not in yet, each once."""
        if len(hashes):
            self._push(hashes.at(np.argsort(hashes.high)))

    def merge(self, other: "SeenIds") -> None:
        """Add all hashes of another set that shares none with this one."""
        for run in other._runs:
            self._push(run)

    def contains(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Tell which hashes are in."""
        found = np.zeros(len(hashes), bool)
        if self._runs:
            # Looked for in order, neighbours are found in the same part of memory.
            order = np.argsort(hashes.high)
            ordered = hashes.at(order)
            found[order] = np.logical_or.reduce([_within(run, ordered) for run in self._runs])
        return found

    def _push(self, run: Hashes) -> None:
        self._runs.append(run)
        while len(self._runs) > 1 and _may_merge(*map(len, self._runs[-2:])):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(_merged(before, last))


def repeats(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Tell which hashes stand earlier among the same."""
    order = np.lexsort((hashes.low, hashes.high))
    ordered = hashes.at(order)
    again = np.zeros(len(hashes), bool)
    same = (ordered.high[1:] == ordered.high[:-1]) & (ordered.low[1:] == ordered.low[:-1])
    again[order[1:][same]] = True
    return again


def _may_merge(before: int, last: int) -> bool:
    return before < 2 * last and before + last <= MAX_RUN


def _within(run: Hashes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(hashes), bool)
    places = np.searchsorted(run.high, hashes.high)
    left = np.arange(len(hashes))
    # One turn for nearly all: two ids rarely share the first half of their hash.
    while len(left):
        left = left[places[left] < len(run)]
        left = left[run.high[places[left]] == hashes.high[left]]
        same = run.low[places[left]] == hashes.low[left]
        found[left[same]] = True
        left = left[~same]
        places[left] += 1
    return found


def _merged(longer: Hashes, shorter: Hashes) -> Hashes:
    """Merge two sorted runs, holding little beside them and the result."""
    places = np.searchsorted(longer.high, shorter.high) + np.arange(len(shorter))
    rest = np.ones(len(longer) + len(shorter), bool)
    rest[places] = False
    halves = []
    for one, other in zip(longer, shorter, strict=True):
        half = np.empty(len(rest), np.uint64)
        half[places], half[rest] = other, one
        halves.append(half)
    return Hashes(*halves)
