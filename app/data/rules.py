"""Hold rows against the rules of a contract: each condition, over whole columns at once.

Knows typed Arrow arrays and typed expressions; knows nothing of how either was read. Three values
of truth: a rule is broken only where it is definitely false, so a null that leaves it open breaks
nothing (a column that must be there is not nullable).
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.expressions import Apply, Expression, Name, Value, names_in
from app.contracts.rows import ARROW_TYPES, TIMESTAMP, Column, Contract, Rule
from app.data.cells import Complaint, shown
from app.data.limits import as_mask
from app.data.quarantine import Reasons

MICROS_PER_MINUTE = 60_000_000.0
SHOWN_CONDITION = 200
# Microseconds apart, just under what an int64 counts.
WIDEST = 9.2e18

# A pa.Array or a pa.Scalar; pyarrow ships no types.
Operand = Any


def add_broken_rules(
    typed: pa.Table, contract: Contract, reasons: Reasons, broken: frozenset[int]
) -> None:
    """Complain about rows, not in `broken`, that a rule of the contract is false for.

    A rule is not asked about a row one of whose named columns is wrong by itself: a value that
    could not be read is no null that somebody sent.
    """
    if not contract.rules or not typed.num_rows:
        return
    arrays = {name: _plain(typed[name].combine_chunks()) for name in typed.column_names}
    for rule in contract.rules:
        condition = contract.conditions[rule.name]
        named = [contract.by_name[name] for name in names_in(condition)]
        own = tuple(f"{column.name} " for column in named)
        false = as_mask(pc.invert(evaluate(condition, arrays, typed.num_rows)))
        positions = [
            position
            for position in np.flatnonzero(false).tolist()
            if position not in broken and not _any_begins(reasons, position, own)
        ]
        told = _told(rule, named, arrays, positions)
        reasons.add(f"rule {rule.name}:", told)


def evaluate(expression: Expression, columns: Mapping[str, pa.Array], num_rows: int) -> pa.Array:
    """Evaluate an expression over columns of the same length: one value, or null, a row.

    Numbers come as float64, texts as string, times as timestamp[us, UTC], truths as bool.
    """
    result = _value(expression, columns)
    return pa.repeat(result, num_rows) if isinstance(result, pa.Scalar) else result


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _any_begins(reasons: Reasons, position: int, own: tuple[str, ...]) -> bool:
    return any(said.startswith(own) for said in reasons.by_row.get(position, ()))


def _told(
    rule: Rule, named: list[Column], arrays: Mapping[str, pa.Array], positions: list[int]
) -> list[Complaint]:
    """Say what was expected, and the values got."""
    expect = " ".join(rule.expect.split())
    problem = f"expected {expect[:SHOWN_CONDITION]}{'…' * (len(expect) > SHOWN_CONDITION)}"
    return [
        (i, f"{problem}, got {', '.join(_cell(arrays[c.name][i], c) for c in named)}")
        for i in positions
    ]


def _cell(cell: pa.Scalar, column: Column) -> str:
    """Show one value of a row, as `name value`."""
    if not cell.is_valid:
        return f"{column.name} null"
    if column.privacy == "personal":
        return f"{column.name} withheld"
    # Arrow writes times beyond the years of Python's calendar, too.
    value = str(cell.cast(pa.string())) if column.kind == "time" else shown(cell.as_py(), column)
    return f"{column.name} {value}"


def _value(expression: Expression, columns: Mapping[str, pa.Array]) -> Operand:
    if isinstance(expression, Name):
        cells = columns[expression.name]
        return _finite(cells) if expression.type == "number" else cells
    if isinstance(expression, Value):
        return pa.scalar(expression.value, ARROW_TYPES.get(expression.type, pa.string()))
    if expression.operator == "in":
        return _among(expression, columns)
    arguments = [_value(argument, columns) for argument in expression.arguments]
    return EVALUATORS[expression.operator](*arguments)


def _finite(cells: Operand) -> Operand:
    """Make null what is no finite number."""
    return pc.if_else(pc.is_finite(cells), cells, pa.scalar(None, pa.float64()))


def _arithmetic(
    compute: Callable[[Operand, Operand], Operand],
) -> Callable[[Operand, Operand], Operand]:
    return lambda left, right: _finite(compute(left, right))


def _among(expression: Apply, columns: Mapping[str, pa.Array]) -> Operand:
    inner, *listed = expression.arguments
    cells = _value(inner, columns)
    if inner.type == "number":
        # A zero is a zero, whatever its sign; is_in tells them apart.
        cells = pc.add(cells, 0.0)
    found = pc.is_in(cells, value_set=_value_set(tuple(listed)))
    return pc.if_else(pc.is_valid(cells), found, pa.scalar(None, pa.bool_()))


@lru_cache(maxsize=256)
def _value_set(listed: tuple[Value, ...]) -> pa.Array:
    values = [value.value for value in listed]
    values = [value + 0.0 if isinstance(value, float) else value for value in values]
    return pa.array(values, ARROW_TYPES.get(listed[0].type, pa.string()))


def _minutes_between(start: Operand, end: Operand) -> Operand:
    first, last = (cells.cast(TIMESTAMP).cast(pa.int64()) for cells in (start, end))
    apart = pc.subtract(last.cast(pa.float64(), safe=False), first.cast(pa.float64(), safe=False))
    near = pc.less(pc.abs(apart), WIDEST)
    micros = pc.subtract(last, first).cast(pa.float64(), safe=False)
    return pc.if_else(near, pc.divide(micros, MICROS_PER_MINUTE), pa.scalar(None, pa.float64()))


def _lower(texts: Operand) -> Operand:
    try:
        return pc.utf8_lower(texts)
    except pa.ArrowInvalid:
        # A file can hold bytes that are no text: what cannot be read is unknown.
        contents = texts.cast(pa.binary()).to_pylist()
        return pc.utf8_lower(pa.array([_decoded(content) for content in contents], pa.string()))


def _decoded(content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return None


def _folded(compute: Callable[[Operand, Operand], Operand]) -> Callable[..., Operand]:
    return lambda *parts: reduce(compute, parts)


EVALUATORS: Mapping[str, Callable[..., Operand]] = {
    "+": _arithmetic(pc.add),
    "-": _arithmetic(pc.subtract),
    "*": _arithmetic(pc.multiply),
    "/": _arithmetic(pc.divide),
    "negative": pc.negate,
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "is null": pc.is_null,
    "not": pc.invert,
    "and": _folded(pc.and_kleene),
    "or": _folded(pc.or_kleene),
    "abs": pc.abs,
    "lower": _lower,
    "length": lambda texts: pc.utf8_length(texts).cast(pa.float64()),
    "hours_between": lambda start, end: pc.divide(_minutes_between(start, end), 60.0),
    "minutes_between": _minutes_between,
    # Where one of the two is null, so is the comparison and with it the choice.
    "min": _folded(lambda one, other: pc.if_else(pc.less(one, other), one, other)),
    "max": _folded(lambda one, other: pc.if_else(pc.less(one, other), other, one)),
}
