"""Read a few rows of parsed JSON value by value, where nothing is wrong with any of them.

A served row is alone, and judging columns of one value each costs many times what they hold. What
is not plainly good is left to whole columns, which say why: there is one judge of what is wrong.
Knows parsed JSON and the contract; knows nothing of rules, of ids seen before, or of reasons.
"""

import math
from collections.abc import Callable, Sequence
from datetime import datetime

import pyarrow as pa

from app.contracts.rows import Column, Contract

Reader = Callable[[object], object]


class Doubtful(ValueError):
    """A value that is not plainly good."""


class GoodRows:
    """Reads rows of a contract; made once for many requests."""

    def __init__(self, contract: Contract) -> None:
        """Make a reader for each column."""
        self._schema, self._types = contract.schema, contract.schema.types
        self._known = contract.by_name.keys()
        self._readers = [(column.name, _reader(column)) for column in contract.columns]
        self._unique = [column.name for column in contract.unique]

    def read(self, rows: Sequence[object]) -> pa.Table | None:
        """Give the rows in the contract's schema; None when one of them is not plainly good."""
        columns: list[list[object]] = [[] for _ in self._readers]
        try:
            for row in rows:
                if type(row) is not dict or not row.keys() <= self._known:
                    return None
                for values, (name, read) in zip(columns, self._readers, strict=True):
                    values.append(read(row.get(name)))
            arrays = [
                pa.array(values, kind) for values, kind in zip(columns, self._types, strict=True)
            ]
        except (ValueError, OverflowError):
            return None
        if len(rows) > 1 and self._repeats(columns):
            return None
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _repeats(self, columns: list[list[object]]) -> bool:
        """Tell whether a value may come twice where none may."""
        for name in self._unique:
            values = columns[self._schema.get_field_index(name)]
            given = [value for value in values if value is not None]
            if len(set(given)) < len(given):
                return True
        return False


def _reader(column: Column) -> Reader:
    """Make what reads a value of a column, or raises."""
    if column.kind == "number":
        read = _number_reader(column)
    elif column.kind == "time":
        read = _read_time
    else:
        read = _text_reader(column)
    nullable = column.nullable

    def read_or_null(value: object) -> object:
        if value is None:
            if not nullable:
                raise Doubtful
            return None
        return read(value)

    return read_or_null


def _number_reader(column: Column) -> Reader:
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum

    def read(value: object) -> float:
        # A type of its own, a boolean or a number's, is not what is meant.
        if type(value) is not float and type(value) is not int:
            raise Doubtful
        number = float(value)
        if not low <= number <= high or math.isinf(number):
            raise Doubtful
        return number

    return read


def _text_reader(column: Column) -> Reader:
    allowed = None if column.categories is None else frozenset(column.categories)
    filled = column.kind == "identifier"

    def read(value: object) -> str:
        if type(value) is not str or (filled and not value):
            raise Doubtful
        if allowed is not None and value not in allowed:
            raise Doubtful
        if not value.isascii():
            value.encode()  # A lone surrogate is no text.
        return value

    return read


def _read_time(value: object) -> datetime:
    if type(value) is not str:
        raise Doubtful
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise Doubtful
    return moment
