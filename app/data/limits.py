"""Hold the cells of one column against the limits of the contract: nulls, ranges, closed sets.

Knows typed Arrow arrays and one Column; knows nothing of rows or tables. The usual column, which
has nothing to complain of, costs a few reductions.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Column
from app.data.cells import Cells, Complaint, shown


def limits(cells: Cells, column: Column) -> list[Complaint]:
    """Find nulls, values that are not finite or out of range, and values outside a closed set.

    A cell that could not be read is null by now and has its complaint already.
    """
    values = cells.array
    complaints: list[Complaint] = []
    if values.null_count and not column.nullable:
        already = {position for position, _ in cells.complaints}
        nulls = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
        complaints = [(int(i), "is needed and absent or null") for i in nulls if i not in already]
    if values.null_count == len(values):
        return complaints
    if column.kind == "number":
        complaints += _out_of_range(values, column)
    elif column.categories is not None:
        allowed = ", ".join(column.categories)
        outside = _outside(values, _closed_set(column.categories))
        complaints += each(values, outside, column, f"must be one of {allowed}")
    elif column.kind == "identifier":
        complaints += each(values, as_mask(pc.equal(values, "")), column, "must not be empty")
    return complaints


@lru_cache(maxsize=256)
def _closed_set(categories: tuple[str, ...]) -> pa.Array:
    return pa.array(categories, pa.string())


def _outside(values: pa.Array, allowed: pa.Array) -> npt.NDArray[np.bool_]:
    """Mark what is neither null nor allowed; of a dictionary only distinct values are looked up."""
    if not pa.types.is_dictionary(values.type):
        return ~as_mask(pc.or_(pc.is_in(values, value_set=allowed), values.is_null()))
    outside = ~as_mask(pc.is_in(values.dictionary, value_set=allowed))
    if not outside.any():
        return np.zeros(len(values), bool)
    # A null's index is put behind the last one, and is not outside.
    indices: npt.NDArray[np.int32] = values.indices.fill_null(len(outside)).to_numpy()
    return np.append(outside, False).take(indices)


def as_mask(condition: pa.Array) -> npt.NDArray[np.bool_]:
    """Return a condition as a mask; where it is null it is false."""
    if condition.null_count:
        condition = condition.fill_null(False)
    mask: npt.NDArray[np.bool_] = condition.to_numpy(zero_copy_only=False)
    return mask


def each(
    values: pa.Array, wrong: npt.NDArray[np.bool_], column: Column, problem: str
) -> list[Complaint]:
    """Complain about every cell that a mask marks, with the value got."""
    return [
        (int(i), f"{problem}, got {shown(values[int(i)].as_py(), column)}")
        for i in np.flatnonzero(wrong)
    ]


def _out_of_range(values: pa.Array, column: Column) -> list[Complaint]:
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum
    numbers = values.to_numpy(zero_copy_only=False)
    # The usual column is settled by three reductions. A null reads as NaN, which fmin and fmax pass
    # over; a NaN that is no null is one too many.
    if np.count_nonzero(np.isnan(numbers)) == values.null_count:
        smallest, largest = np.fmin.reduce(numbers), np.fmax.reduce(numbers)
        if smallest >= low and largest <= high and smallest > -np.inf and largest < np.inf:
            return []
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    finite = np.isfinite(numbers)
    outside = valid & finite & ~((numbers >= low) & (numbers <= high))
    return [
        *each(values, valid & np.isnan(numbers), column, "is NaN; send null for an unknown value"),
        *each(values, valid & np.isinf(numbers), column, "must be finite"),
        *each(values, outside, column, f"must be in {low:g}..{high:g}"),
    ]
