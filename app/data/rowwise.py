"""Encode a few rows value by value, to the bits that whole columns come to.

A served row is alone, and making arrays of one value each costs ten times what they hold. Knows
Arrow tables, places and codes; knows nothing of encoders or where rows come from.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from app.data.cells import DICTIONARY
from app.data.places import Places

# Up to so many rows cost less value by value.
FEW_ROWS = 16

# A row's values by the places of its columns.
Values = Sequence[Any] | Mapping[int, Any]

TEXTS = (pa.string(), DICTIONARY)


class StandingPlan:
    """A plan for rows whose columns stand at known places."""

    def __init__(
        self,
        numbers: Sequence[tuple[int, Callable[[float], float], float]],
        categories: Sequence[tuple[int, Callable[[str | None], int]]],
    ) -> None:
        """Take each number's column, place of a value and of a null; each category's likewise."""
        self._numbers, self._categories = list(numbers), list(categories)

    @property
    def columns(self) -> list[int]:
        """The columns that are read: the numbers', then the categories'."""
        numbers = [column for column, _, _ in self._numbers]
        return [*numbers, *(column for column, _ in self._categories)]

    def places(self, row: Values) -> list[float]:
        """Give the places of a row's numbers."""
        return [
            # A NaN is a null too, as in a column.
            null if (value := row[column]) is None or value != value else place(value)
            for column, place, null in self._numbers
        ]

    def codes(self, row: Values) -> list[int]:
        """Give the codes of a row's categories."""
        return [code(row[column]) for column, code in self._categories]


class RowPlan:
    """What each value of a row becomes, wherever it stands."""

    def __init__(
        self,
        numbers: Sequence[tuple[str, Places, float]],
        categories: Sequence[tuple[str, Callable[[str | None], int]]],
    ) -> None:
        """Take each number's name, places and null; each category's name and code of any text."""
        self._numbers = [(name, places.one, null) for name, places, null in numbers]
        self._categories = list(categories)
        # Tables that come one after the other have one schema: it is looked into once.
        self._known: tuple[pa.Schema, StandingPlan | None] = (pa.schema([]), None)
        self._named: tuple[Sequence[str], StandingPlan | None] = ((), None)

    def encode(self, table: pa.Table) -> tuple[list[list[float]], list[list[int]]] | None:
        """Give the places and the codes of each row.

        None when a column is missing or of another type: that is for whole columns to say.
        """
        plan = self._plan_for(table.schema)
        if plan is None:
            return None
        read = {column: table.column(column) for column in plan.columns}
        rows = [{at: cells[i].as_py() for at, cells in read.items()} for i in range(len(table))]
        return [plan.places(row) for row in rows], [plan.codes(row) for row in rows]

    def standing(self, names: Sequence[str]) -> StandingPlan:
        """Give the plan for rows with columns of these names. Raises ValueError if one lacks."""
        known, plan = self._named
        if plan is None or known is not names:
            plan = self._stand({name: column for column, name in enumerate(names)})
            self._named = names, plan
        return plan

    def _stand(self, columns: Mapping[str, int]) -> StandingPlan:
        try:
            return StandingPlan(
                [(columns[name], place, null) for name, place, null in self._numbers],
                [(columns[name], code) for name, code in self._categories],
            )
        except KeyError as error:
            raise ValueError(f"rows have no column {error.args[0]}") from None

    def _plan_for(self, schema: pa.Schema) -> StandingPlan | None:
        seen, plan = self._known
        if not schema.equals(seen):
            plan = self._look(schema)
            self._known = schema, plan
        return plan

    def _look(self, schema: pa.Schema) -> StandingPlan | None:
        names = [*(name for name, _, _ in self._numbers), *(name for name, _ in self._categories)]
        columns = {name: schema.get_field_index(name) for name in names}
        # A name that is missing, or that comes twice, is found at -1.
        if min(columns.values(), default=0) < 0:
            return None
        types = {name: schema.types[column] for name, column in columns.items()}
        numbers = all(types[name] == pa.float64() for name, *_ in self._numbers)
        fit = numbers and all(types[name] in TEXTS for name, _ in self._categories)
        return self._stand(columns) if fit else None
