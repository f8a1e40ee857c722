"""Hold the contenders' files against each other, so that a fast one has done the same work."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.preprocessing.data import CATEGORIES, NUM_BINS, NUMBERS

# Bins. Our edges differ in their sixth digit, being counted by 16 bits of mantissa; those of
# scikit-learn lie between two values that stand beside each other in order, which in a tail are
# further apart than elsewhere.
TOLERANCE = 0.002
VALUES_APART = 6


class Disagreement(AssertionError):
    """Two contenders wrote different rows."""


def check(into: Path, other: Path, num_bad: int) -> float:
    """Return the largest difference of a place. Raises Disagreement for any other difference."""
    columns = ["order_id", *NUMBERS, *CATEGORIES]
    mine, theirs = (_rows(folder, columns[:1]) for folder in (into, other))
    order, their_order = (np.argsort(ids["order_id"].to_numpy()) for ids in (mine, theirs))
    refused = [_num_refused(folder) for folder in (into, other)]
    if refused != [num_bad, num_bad]:
        raise Disagreement(f"{into.name} and {other.name} refused {refused}, {num_bad} are bad")
    furthest = 0.0
    for name in columns:
        left = _rows(into, [name])[name].to_numpy()[order]
        right = _rows(other, [name])[name].to_numpy()[their_order]
        if name in NUMBERS:
            furthest = max(furthest, float(np.abs(left - right).max()))
        if len(left) != len(right) or (name not in NUMBERS and (left != right).any()):
            raise Disagreement(f"{into.name} and {other.name} differ in {name}")
    if furthest > TOLERANCE + VALUES_APART * NUM_BINS / len(order):
        raise Disagreement(f"{into.name} and {other.name} place a number {furthest} bins apart")
    return furthest


def _rows(folder: Path, columns: list[str]) -> pa.Table:
    return pq.read_table(folder / "rows", columns=columns)


def _num_refused(folder: Path) -> int:
    files = [*folder.glob("refused.parquet"), *folder.glob("quarantine/*.parquet")]
    return sum(pq.read_metadata(file).num_rows for file in files)
