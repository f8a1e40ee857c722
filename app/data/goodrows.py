"""Read a few rows of parsed JSON value by value, where nothing is wrong with any of them.

A served row is alone, and judging columns of one value each costs many times what they hold. What
is not plainly good is left to whole columns, which say why: there is one judge of what is wrong.
Knows parsed JSON and the contract; knows nothing of ids seen before, or of reasons.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from app.contracts.rows import Column, Contract
from app.contracts.times import micros_of
from app.data.cells import JSON_READERS
from app.data.rowrules import RowRules

Reader = Callable[[object], object]
# A row's values in the contract's order: float, text, microseconds since 1970, or None.
PlainRow = list[Any]
LARGEST = sys.float_info.max


class Doubtful(ValueError):
    """A value that is not within its limits."""


class GoodRows:
    """Reads rows of a contract; made once for many requests."""

    def __init__(self, contract: Contract) -> None:
        """Make a reader for each column."""
        self._known = contract.by_name.keys()
        self._readers = [(column.name, _reader(column)) for column in contract.columns]
        self._rules = RowRules(contract)
        self._unique = [contract.schema.get_field_index(column.name) for column in contract.unique]

    def values(self, rows: Sequence[object]) -> list[PlainRow] | None:
        """Give the rows' values; None when one of the rows is not plainly good."""
        read: list[PlainRow] = []
        try:
            for row in rows:
                if type(row) is not dict or not row.keys() <= self._known:
                    return None
                get = row.get
                read.append([reader(get(name)) for name, reader in self._readers])
        except (ValueError, OverflowError):
            return None
        if not all(map(self._rules.hold, read)):
            return None
        return None if len(rows) > 1 and self._repeats(read) else read

    def _repeats(self, rows: Sequence[PlainRow]) -> bool:
        """Tell whether a value may come twice where none may."""
        for place in self._unique:
            given = [row[place] for row in rows if row[place] is not None]
            if len(set(given)) < len(given):
                return True
        return False


def _reader(column: Column) -> Reader:
    """Make what reads a value of a column and holds it against the limits, or raises."""
    if column.kind == "number":
        return _number_reader(column)
    return _time_reader(column) if column.kind == "time" else _text_reader(column)


def _time_reader(column: Column) -> Reader:
    read, nullable = JSON_READERS["time"], column.nullable

    def read_time(value: object) -> object:
        return None if value is None and nullable else micros_of(read(value))

    return read_time


def _text_reader(column: Column) -> Reader:
    read, within, nullable = JSON_READERS[column.kind], _texts_of(column), column.nullable

    def read_text(value: object) -> object:
        if value is None and nullable:
            return None
        text = read(value)
        if not within(text):
            raise Doubtful
        return text

    return read_text


def _texts_of(column: Column) -> Callable[[str], bool]:
    """Make what tells whether a text is one that a column may hold."""
    if column.categories is not None:
        return frozenset(column.categories).__contains__
    return bool if column.kind == "identifier" else lambda text: True


def _number_reader(column: Column) -> Reader:
    low = -LARGEST if column.minimum is None else max(column.minimum, -LARGEST)
    high = LARGEST if column.maximum is None else min(column.maximum, LARGEST)
    read, nullable = JSON_READERS["number"], column.nullable

    def read_number(value: object) -> object:
        # Most values are floats within their limits.
        if type(value) is float and low <= value <= high:
            return value
        if value is None and nullable:
            return None
        number = read(value)
        if not low <= number <= high:
            raise Doubtful
        return number

    return read_number
