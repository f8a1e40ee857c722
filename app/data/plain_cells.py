"""Bring columns to types whose every value can be read, compared and shown.

Knows Arrow types; knows nothing of contracts or files. Dictionaries are unpacked, times are in UTC;
a column with times that no calendar has becomes text, so that each can be refused by itself.
"""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Seconds of the years 1 to 9999, and days.
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
DAY = 86_400
# The longest that a duration can be as Python has it.
MOST_SECONDS = 999_999_999 * DAY
INT64 = (-(2**63), 2**63 - 1)


def plain_cells(table: pa.Table, dictionaries: Collection[str] = ()) -> pa.Table:
    """Return a table of plain columns; the values stay, and the dictionaries that are named."""
    for place, field in enumerate(table.schema):
        if field.name in dictionaries:
            continue
        column = _plain(table[field.name])
        if column.type != field.type:
            table = table.set_column(place, field.with_type(column.type), column)
    return table


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        known = column if kind.tz is None else column.cast(pa.timestamp(kind.unit, "UTC"))
        factor = UNITS[kind.unit]
        limits = FIRST_SECOND * factor, (LAST_SECOND + 1) * factor - 1
        return _or_text(known, column.cast(pa.int64()), limits, f"{kind.unit} since 1970")
    if pa.types.is_date32(kind):
        limits = FIRST_SECOND // DAY, LAST_SECOND // DAY
        return _or_text(column, column.cast(pa.int32()), limits, "days since 1970")
    if pa.types.is_date64(kind):
        limits = FIRST_SECOND * 1000, LAST_SECOND * 1000
        return _or_text(column, column.cast(pa.int64()), limits, "ms since 1970")
    if pa.types.is_time(kind):
        whole = pa.int32() if pa.types.is_time32(kind) else pa.int64()
        limits = 0, DAY * UNITS[kind.unit] - 1
        return _or_text(column, column.cast(whole), limits, f"{kind.unit} of a day")
    if pa.types.is_duration(kind):
        limits = -MOST_SECONDS * UNITS[kind.unit], MOST_SECONDS * UNITS[kind.unit]
        return _or_text(column, column.cast(pa.int64()), limits, kind.unit)
    return column


def _or_text(
    column: pa.ChunkedArray, numbers: pa.ChunkedArray, limits: tuple[int, int], unit: str
) -> pa.ChunkedArray:
    """Keep a column within limits; of any other say what it can of each value."""
    low, high = max(limits[0], INT64[0]), min(limits[1], INT64[1])
    ends = pc.min_max(numbers).as_py()
    if ends["min"] is None or (low <= ends["min"] and ends["max"] <= high):
        return column
    wide = numbers.cast(pa.int64())
    inside = pc.and_(pc.greater_equal(wide, low), pc.less_equal(wide, high))
    counted = pc.binary_join_element_wise(wide.cast(pa.string()), unit, " ")
    if pa.types.is_duration(column.type):
        # Without its unit a length of time would be a number.
        return counted
    readable = pc.if_else(inside, column, pa.scalar(None, column.type)).cast(pa.string())
    return pc.if_else(inside, readable, counted)
