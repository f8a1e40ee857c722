"""Read a few rows of parsed JSON value by value, where nothing is wrong with any of them.

A served row is alone, and judging columns of one value each costs many times what they hold. What
is not plainly good is left to whole columns, which say why: there is one judge of what is wrong.
Knows parsed JSON and the contract; knows nothing of rules, of ids seen before, or of reasons.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from app.contracts.rows import Column, Contract
from app.data.cells import JSON_READERS

Reader = Callable[[object], object]


class Doubtful(ValueError):
    """A value that is not within its limits."""


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
    """Make what reads a value of a column and holds it against the limits, or raises."""
    read, within, nullable = JSON_READERS[column.kind], _limits(column), column.nullable

    def read_good(value: object) -> object:
        if value is None and nullable:
            return None
        given = read(value)
        if not within(given):
            raise Doubtful
        return given

    return read_good


def _limits(column: Column) -> Callable[[Any], bool]:
    """Make what tells whether a value that could be read is within the limits of its column."""
    if column.kind == "number":
        low = -math.inf if column.minimum is None else column.minimum
        high = math.inf if column.maximum is None else column.maximum
        return lambda number: low <= number <= high and not math.isinf(number)
    if column.categories is not None:
        return frozenset(column.categories).__contains__
    return bool if column.kind == "identifier" else lambda value: True
