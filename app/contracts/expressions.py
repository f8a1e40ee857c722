"""Say what an expression over a row's columns is made of, and which pieces fit together.

Knows operators and types; knows nothing of text, of contracts, or of how rows are judged. A tree is
typed as it is built: one that has been built can be evaluated over any rows, and always ends.
Nothing in it can name an attribute, call anything beyond OPERATORS, or grow without bound.

Values are numbers (always finite), texts, times, truths and pseudonyms, and each may be null, which
stands for "unknown": null in, null out, except that `and` and `or` follow Kleene (false and null is
false, true or null is true) and that `is null` always knows. What has no finite value is null: a
division by zero, an overflow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Type = Literal["number", "text", "time", "truth", "pseudonym"]
MAX_DEPTH = 32


class ExpressionError(ValueError):
    """An expression that makes no sense: what was got, and what to write instead."""


@dataclass(frozen=True)
class Name:
    """The value of a column."""

    name: str
    type: Type
    depth: int = 1


@dataclass(frozen=True)
class Value:
    """A value written out; a time is in UTC."""

    value: float | str | datetime
    type: Type
    depth: int = 1


@dataclass(frozen=True)
class Apply:
    """An operator over values; made by `apply` only, which checks it."""

    operator: str
    arguments: tuple["Expression", ...]
    type: Type
    depth: int


Expression = Name | Value | Apply
Signature = Callable[[str, tuple[Type, ...]], Type]


def apply(operator: str, *arguments: Expression) -> Apply:
    """Put an operator over values. Raises ExpressionError when they do not fit it.

    >>> apply("<", Name("weight", "number"), Value(40.0, "number")).type
    'truth'
    >>> apply("<", Name("weight", "number"), Value("40", "text"))
    Traceback (most recent call last):
    app.contracts.expressions.ExpressionError: < compares a number with a text; compare like with \
like
    """
    parts: list[Expression] = []
    for argument in arguments:
        # A chain of the same connective is one node, so that it may be long without being deep.
        flat = operator in ("and", "or") and isinstance(argument, Apply)
        if flat and isinstance(argument, Apply) and argument.operator == operator:
            parts += argument.arguments
        else:
            parts.append(argument)
    result = OPERATORS[operator](operator, tuple(part.type for part in parts))
    depth = 1 + max(part.depth for part in parts)
    if depth > MAX_DEPTH:
        raise ExpressionError(f"nests more than {MAX_DEPTH} deep; split it into several rules")
    if operator == "in" and not all(isinstance(part, Value) for part in parts[1:]):
        raise ExpressionError("in takes a list of values, not of columns; use == and or")
    return Apply(operator, tuple(parts), result, depth)


def names_in(expression: Expression) -> tuple[str, ...]:
    """Name the columns that an expression reads, each once, in the order in which it names them."""
    if isinstance(expression, Name):
        return (expression.name,)
    if isinstance(expression, Value):
        return ()
    found = [name for argument in expression.arguments for name in names_in(argument)]
    return tuple(dict.fromkeys(found))


def _said(kind: Type) -> str:
    return f"a {kind}"


def _all(wanted: Type, result: Type) -> Signature:
    """Take any number of arguments of one type."""

    def check(operator: str, given: tuple[Type, ...]) -> Type:
        for one in given:
            if one != wanted:
                raise ExpressionError(f"{operator} takes {wanted}s, got {_said(one)}")
        return result

    return check


def _each(*wanted: Type, result: Type) -> Signature:
    """Take arguments of given types."""

    def check(operator: str, given: tuple[Type, ...]) -> Type:
        if given != wanted:
            expected, got = (", ".join(map(_said, types)) or "nothing" for types in (wanted, given))
            raise ExpressionError(f"{operator} takes {expected}, got {got}")
        return result

    return check


def _alike(*allowed: Type) -> Signature:
    """Compare two values of one type."""

    def check(operator: str, given: tuple[Type, ...]) -> Type:
        for one in given:
            if one == "pseudonym" and set(given) != {"pseudonym"}:
                raise ExpressionError(
                    f"{operator} compares a personal column with {_said(given[given[0] == one])}; "
                    "only its pseudonym is kept, so ask `is null` or compare it with another "
                    "personal column"
                )
            if one not in allowed:
                raise ExpressionError(f"{operator} cannot compare {_said(one)}")
        if len(set(given)) > 1:
            left, right = map(_said, given[:2])
            raise ExpressionError(
                f"{operator} compares {left} with {right}; compare like with like"
            )
        return "truth"

    return check


def _among(operator: str, given: tuple[Type, ...]) -> Type:
    """Look a value up in a list of the same type."""
    if len(given) < 2:
        raise ExpressionError(f"{operator} takes a list of at least one value, got an empty one")
    for one in given[1:]:
        _alike("number", "text", "time")(operator, (given[0], one))
    return "truth"


def _extreme(operator: str, given: tuple[Type, ...]) -> Type:
    """Choose among two or more numbers, or among times."""
    if len(given) < 2 or len(set(given)) > 1 or given[0] not in ("number", "time"):
        got = ", ".join(map(_said, given)) or "nothing"
        raise ExpressionError(f"{operator} takes two or more numbers, or times, got {got}")
    return given[0]


def _anything(operator: str, given: tuple[Type, ...]) -> Type:
    return "truth"


FUNCTIONS: Mapping[str, Signature] = {
    "abs": _each("number", result="number"),
    "lower": _each("text", result="text"),
    "length": _each("text", result="number"),
    "hours_between": _each("time", "time", result="number"),
    "minutes_between": _each("time", "time", result="number"),
    "min": _extreme,
    "max": _extreme,
}
OPERATORS: Mapping[str, Signature] = {
    **dict.fromkeys(("+", "-", "*", "/"), _each("number", "number", result="number")),
    "negative": _each("number", result="number"),
    **dict.fromkeys(("==", "!="), _alike("number", "text", "time", "pseudonym")),
    **dict.fromkeys(("<", "<=", ">", ">="), _alike("number", "text", "time")),
    "in": _among,
    "is null": _anything,
    "not": _each("truth", result="truth"),
    **dict.fromkeys(("and", "or"), _all("truth", "truth")),
    **FUNCTIONS,
}
