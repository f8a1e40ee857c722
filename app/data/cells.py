"""Read the cells of one column as the contract's type, and say which could not be read.

Knows Arrow arrays, Python values of parsed JSON, and one Column; knows nothing of rows, tables or
limits. A cell that cannot be read becomes null and a complaint `(position, problem)`; a problem has
no subject, since the caller puts the column's name before it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP, Column

Complaint = tuple[int, str]
DICTIONARY = pa.dictionary(pa.int32(), pa.string())
NUMBER_TEXT = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
SHOWN_CHARACTERS = 60


class Cells(NamedTuple):
    """A column as the contract's type, with what could not be read."""

    array: pa.Array
    complaints: list[Complaint]


def shown(value: object, column: Column) -> str:
    """Quote a value in a message, cut to a readable length; a personal value is never shown.

    Neither is a nested one: it has names of its own, and one may be that of a guarded column.
    """
    if column.privacy == "personal":
        return "a value that is withheld"
    if is_nested(value):
        return "a nested value that is withheld"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def is_nested(value: object) -> bool:
    """Tell whether a value has parts with names: an object, or a list of more than plain values."""
    parts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(part, dict | list | tuple) for part in parts)


def cells_of_arrow(
    values: pa.Array | pa.ChunkedArray, column: Column, *, dictionaries: bool = False
) -> Cells:
    """Read an Arrow column. Text is parsed, so that CSV can be read without guessing.

    With `dictionaries` a category that comes dictionary-encoded stays so, as DICTIONARY.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    if values.type == column.arrow_type:
        return Cells(values, [])
    if pa.types.is_dictionary(values.type):
        if dictionaries and column.kind == "category" and _is_text_dictionary(values):
            return Cells(values.cast(DICTIONARY), [])
        values = values.dictionary_decode()
    if pa.types.is_null(values.type):
        return Cells(pa.nulls(len(values), column.arrow_type), [])
    if column.kind == "number":
        return _numbers_of_arrow(values, column)
    if column.kind == "time":
        return _times_of_arrow(values, column)
    return _strings_of_arrow(values, column)


def cells_of_json(values: Sequence[object], column: Column) -> Cells:
    """Read a column of parsed JSON, strictly.

    "3" and true are no numbers, 3 is no string, and a time has a zone.
    """
    types = set(map(type, values))
    if column.kind == "number" and types <= {float, int, type(None)}:
        try:
            return Cells(pa.array(values, pa.float64()), [])
        except (pa.ArrowInvalid, OverflowError):
            pass  # An integer beyond 2**53: read one by one below.
    elif column.kind in ("category", "identifier") and types <= {str, type(None)}:
        try:
            return Cells(pa.array(values, pa.string()), [])
        except UnicodeEncodeError:
            pass  # A lone surrogate: found one by one below.
    return _one_by_one(values, column, JSON_READERS[column.kind])


def _one_by_one(
    values: Sequence[object], column: Column, read: Callable[[object], object]
) -> Cells:
    cells: list[object] = [None] * len(values)
    complaints = []
    for position, value in enumerate(values):
        if value is None:
            continue
        try:
            cells[position] = read(value)
        except (ValueError, OverflowError) as error:
            complaints.append((position, f"{error}, got {shown(value, column)}"))
    return Cells(pa.array(cells, column.arrow_type), complaints)


def _read_number(value: object) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"must be a number, not {_json_name(value)}")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise ValueError("is too large for a number") from None


def _read_string(value: object) -> str:
    if type(value) is not str:
        raise ValueError(f"must be a string, not {_json_name(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is no valid Unicode text") from None
    return value


def _read_time(value: object) -> datetime:
    if type(value) is not str:
        raise ValueError(f"must be an ISO 8601 time with a zone, not {_json_name(value)}")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(
            "must be an ISO 8601 time with a zone, e.g. 2013-04-01T10:15:00Z"
        ) from None
    if moment.tzinfo is None:
        raise ValueError("has no time zone; end it with Z or an offset such as +00:00")
    return moment


# What reads a value of parsed JSON that is not null, by kind of column; ValueError, OverflowError.
JSON_READERS: dict[str, Callable[[object], Any]] = {
    "number": _read_number,
    "category": _read_string,
    "identifier": _read_string,
    "time": _read_time,
}
_JSON_NAMES = {
    bool: "a boolean",
    str: "a string",
    int: "a number",
    float: "a number",
    list: "a list",
}


def _json_name(value: object) -> str:
    return _JSON_NAMES.get(type(value), "an object")


def _all_wrong(values: pa.Array, column: Column, wanted: str) -> Cells:
    """Complain about every cell of a column whose Arrow type cannot be read."""
    positions = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
    problem = f"must be {wanted}, got a column of type {values.type}"
    return Cells(pa.nulls(len(values), column.arrow_type), [(int(i), problem) for i in positions])


def is_text(kind: pa.DataType) -> bool:
    """Tell whether an Arrow type holds text, in any of its layouts."""
    layouts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(layout(kind) for layout in layouts)


def _is_text_dictionary(values: pa.DictionaryArray) -> bool:
    """Tell whether a null is a null index, never an index of a null."""
    return is_text(values.type.value_type) and not values.dictionary.null_count


def _numbers_of_arrow(values: pa.Array, column: Column) -> Cells:
    kind = values.type
    if kind == pa.float64():
        return Cells(values, [])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Cells(values.cast(pa.float64(), safe=False), [])
    if not is_text(kind):
        return _all_wrong(values, column, "numbers")
    values = values.cast(pa.string())
    readable = pc.match_substring_regex(values, NUMBER_TEXT)
    numbers = pc.utf8_trim_whitespace(pc.if_else(readable, values, None)).cast(pa.float64())
    return Cells(numbers, _unreadable(values, readable, column, "must be a number"))


def _strings_of_arrow(values: pa.Array, column: Column) -> Cells:
    if values.type == pa.string():
        return Cells(values, [])
    # Whole numbers are how files often store identifiers; fractions would not round-trip.
    if is_text(values.type) or pa.types.is_integer(values.type):
        return Cells(values.cast(pa.string()), [])
    return _all_wrong(values, column, "text")


def _times_of_arrow(values: pa.Array, column: Column) -> Cells:
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return Cells(values.cast(TIMESTAMP, safe=False), [])
    if not is_text(kind):
        return _all_wrong(values, column, "times with a time zone")
    encoded = pc.dictionary_encode(values.cast(pa.string()))
    distinct = _one_by_one(encoded.dictionary.to_pylist(), column, _read_time)
    problems = dict(distinct.complaints)
    complaints: list[Complaint] = []
    if problems:
        indices = encoded.indices.to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(np.isin(indices, list(problems)))
        complaints = [(int(i), problems[int(indices[i])]) for i in wrong]
    return Cells(distinct.array.take(encoded.indices), complaints)


def _unreadable(
    values: pa.Array, readable: pa.Array, column: Column, problem: str
) -> list[Complaint]:
    positions = np.flatnonzero(pc.invert(readable).fill_null(False).to_numpy(zero_copy_only=False))
    return [(int(i), f"{problem}, got {shown(values[int(i)].as_py(), column)}") for i in positions]
