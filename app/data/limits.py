"""Hold the cells of one column against the limits of the contract: nulls, ranges, closed sets.

Knows typed Arrow arrays and one Column; knows nothing of rows or tables. The usual column, which
has nothing to complain of, costs a few reductions.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Column
from app.data.cells import Cells, Complaint, shown

# Of more rows each column is so long that looking at it alone costs nothing beside.
MOST_TOGETHER = 4096


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


def within(cells: Mapping[str, Cells], columns: Sequence[Column]) -> frozenset[str]:
    """Name columns of numbers that surely have nothing which `limits` would complain of.

    All of them at once: for some thousand rows that is quicker than one by one. A column that is
    not named is to be looked at.
    """
    arrays = {
        column.name: cells[column.name].array
        for column in columns
        if column.kind == "number" and (column.nullable or not cells[column.name].array.null_count)
    }
    looked = [column for column in columns if column.name in arrays]
    if not looked or not 0 < len(arrays[looked[0].name]) <= MOST_TOGETHER:
        return frozenset()
    numbers_FB = np.stack([array.to_numpy(zero_copy_only=False) for array in arrays.values()])
    num_nulls = np.array([array.null_count for array in arrays.values()])
    low, high = (np.array(each) for each in zip(*map(_bounds, looked), strict=True))
    smallest, largest = np.fmin.reduce(numbers_FB, axis=1), np.fmax.reduce(numbers_FB, axis=1)
    good = np.count_nonzero(np.isnan(numbers_FB), axis=1) == num_nulls
    # A column of nulls alone has neither a smallest nor a largest value, and nothing wrong.
    is_empty = num_nulls == numbers_FB.shape[1]
    good &= is_empty | _inside(smallest, largest, low, high)
    return frozenset(column.name for column, is_good in zip(looked, good, strict=True) if is_good)


def _bounds(column: Column) -> tuple[float, float]:
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum
    return low, high


def _inside(smallest: Any, largest: Any, low: Any, high: Any) -> Any:
    """Tell whether all that lies between two values is finite and within bounds; NaN does not."""
    return (smallest >= low) & (largest <= high) & (smallest > -np.inf) & (largest < np.inf)


@lru_cache(maxsize=256)
def _closed_set(categories: tuple[str, ...]) -> pa.Array:
    return pa.array([*categories, None], pa.string())


def _outside(values: pa.Array, allowed: pa.Array) -> npt.NDArray[np.bool_]:
    """Mark what is neither null nor allowed; of a dictionary only distinct values are looked up."""
    if not pa.types.is_dictionary(values.type):
        # The set has a null among it, so that nothing is null in what is found.
        return ~as_mask(pc.is_in(values, value_set=allowed))
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
    low, high = _bounds(column)
    numbers = values.to_numpy(zero_copy_only=False)
    # The usual column is settled by three reductions. A null reads as NaN, which fmin and fmax pass
    # over; a NaN that is no null is one too many.
    if np.count_nonzero(np.isnan(numbers)) == values.null_count:
        smallest, largest = np.fmin.reduce(numbers), np.fmax.reduce(numbers)
        if _inside(smallest, largest, low, high):
            return []
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    finite = np.isfinite(numbers)
    outside = valid & finite & ~((numbers >= low) & (numbers <= high))
    return [
        *each(values, valid & np.isnan(numbers), column, "is NaN; send null for an unknown value"),
        *each(values, valid & np.isinf(numbers), column, "must be finite"),
        *each(values, outside, column, f"must be in {low:g}..{high:g}"),
    ]
