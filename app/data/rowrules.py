"""Hold one row against the rules of a contract, value by value, as rules.evaluate does columns.

An expression becomes a function of a row once; asking it makes no array. Three values of truth as
there: None is unknown, and a rule is broken only where it is definitely false. Knows typed
expressions and plain values; knows nothing of how either was read, nor of what to complain.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.expressions import Expression, Name, Value
from app.contracts.rows import Contract
from app.contracts.times import micros_of
from app.data.rules import MICROS_PER_MINUTE

# A row's values in the contract's order: float, text, microseconds since 1970, or None.
Values = Sequence[Any]
Asked = Callable[[Values], Any]


class RowRules:
    """Tells whether a good row breaks a rule; made once for many rows."""

    def __init__(self, contract: Contract) -> None:
        """Make a function of each rule."""
        places = {name: place for place, name in enumerate(contract.schema.names)}
        self._rules = [row_function(rule, places) for rule in contract.conditions.values()]

    def hold(self, row: Values) -> bool:
        """Tell whether no rule is definitely false for a row, its personal values as they came."""
        return all(rule(row) is not False for rule in self._rules)


def row_function(expression: Expression, places: Mapping[str, int]) -> Asked:
    """Make a function of a row from an expression over columns at these places."""
    if isinstance(expression, Name):
        place = places[expression.name]
        if expression.type == "number":
            return lambda row: _finite(row[place])
        return lambda row: row[place]
    if isinstance(expression, Value):
        value = _plain(expression.value)
        return lambda row: value
    if expression.operator == "in":
        return _among([row_function(part, places) for part in expression.arguments])
    arguments = [row_function(part, places) for part in expression.arguments]
    return _applied(expression.operator, arguments)


def _applied(operator: str, arguments: Sequence[Asked]) -> Asked:
    if operator in CONNECTIVES:
        compute = CONNECTIVES[operator]
        return lambda row: reduce(compute, (argument(row) for argument in arguments))
    if operator == "is null":
        (only,) = arguments
        return lambda row: only(row) is None
    compute = STRICT[operator]
    if len(arguments) == 1:
        (one,) = arguments
        return lambda row: None if (value := one(row)) is None else compute(value)

    def apply(row: Values) -> Any:
        values = [argument(row) for argument in arguments]
        # Where one of them is unknown, so is the result.
        return None if None in values else reduce(compute, values)

    return apply


def _among(arguments: Sequence[Asked]) -> Asked:
    inner, *listed = arguments
    values = frozenset(value(()) for value in listed)
    return lambda row: None if (value := inner(row)) is None else value in values


def _plain(value: float | str | datetime) -> float | str | int:
    return micros_of(value) if isinstance(value, datetime) else value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _divided(left: float, right: float) -> float | None:
    # What has no finite value is unknown.
    return _finite(left / right) if right else None


def _minutes_between(start: int, end: int) -> float:
    return float(end - start) / MICROS_PER_MINUTE


def _lower(text: str) -> str:
    # Beyond ASCII, Python and Arrow differ over a few letters; columns are asked by Arrow.
    lowered: str = text.lower() if text.isascii() else pc.utf8_lower(pa.scalar(text)).as_py()
    return lowered


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _or(left: bool | None, right: bool | None) -> bool | None:
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


CONNECTIVES: Mapping[str, Callable[[Any, Any], Any]] = {"and": _and, "or": _or}
STRICT: Mapping[str, Callable[..., Any]] = {
    "+": lambda left, right: _finite(left + right),
    "-": lambda left, right: _finite(left - right),
    "*": lambda left, right: _finite(left * right),
    "/": _divided,
    "negative": lambda value: -value,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "not": lambda value: not value,
    "abs": abs,
    "lower": _lower,
    "length": lambda text: float(len(text)),
    "minutes_between": _minutes_between,
    "hours_between": lambda start, end: _minutes_between(start, end) / 60.0,
    "min": lambda one, other: one if one < other else other,
    "max": lambda one, other: other if one < other else one,
}
