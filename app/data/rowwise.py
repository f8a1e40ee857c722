"""Encode a few rows value by value, to the bits that whole columns come to.

A served row is alone, and making arrays of one value each costs ten times what they hold. Knows
Arrow tables, places and codes; knows nothing of encoders or where rows come from.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from app.data.cells import DICTIONARY
from app.data.places import Places

# Up to so many rows cost less value by value.
FEW_ROWS = 16

TEXTS = (pa.string(), DICTIONARY)


class RowPlan:
    """Where each value of a row stands, and what it becomes."""

    def __init__(
        self,
        numbers: Sequence[tuple[str, Places, float]],
        categories: Sequence[tuple[str, Callable[[str | None], int]]],
    ) -> None:
        """Take each number's name, places and null; each category's name and code of any text."""
        self._numbers = [(name, places.one, null) for name, places, null in numbers]
        self._categories = list(categories)
        # Tables that come one after the other have one schema: it is looked into once.
        self._known: tuple[pa.Schema, list[int] | None] = (pa.schema([]), None)

    def encode(self, table: pa.Table) -> tuple[list[list[float]], list[list[int]]] | None:
        """Give the places and the codes of each row.

        None when a column is missing or of another type: that is for whole columns to say.
        """
        columns = self._columns(table.schema)
        if columns is None:
            return None
        read = [table.column(column) for column in columns]
        rows = [[column[i].as_py() for column in read] for i in range(table.num_rows)]
        return [self._places(row) for row in rows], [self._codes(row) for row in rows]

    def _columns(self, schema: pa.Schema) -> list[int] | None:
        """Find the numbers' columns, then the categories'."""
        seen, columns = self._known
        if not schema.equals(seen):
            columns = self._look(schema)
            self._known = schema, columns
        return columns

    def _look(self, schema: pa.Schema) -> list[int] | None:
        names = [name for name, *_ in (*self._numbers, *self._categories)]
        columns = [schema.get_field_index(name) for name in names]
        # A name that is missing, or that comes twice, is found at -1.
        if min(columns, default=0) < 0:
            return None
        types = [schema.types[column] for column in columns]
        numbers, texts = types[: len(self._numbers)], types[len(self._numbers) :]
        fit = all(t == pa.float64() for t in numbers) and all(t in TEXTS for t in texts)
        return columns if fit else None

    def _places(self, row: Sequence[float | None]) -> list[float]:
        return [
            # A NaN is a null too, as in a column.
            null if value is None or value != value else place(value)
            for (_, place, null), value in zip(self._numbers, row, strict=False)
        ]

    def _codes(self, row: Sequence[str | None]) -> list[int]:
        texts = row[len(self._numbers) :]
        return [code(text) for (_, code), text in zip(self._categories, texts, strict=True)]
