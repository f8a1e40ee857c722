"""Read the text of an expression: precedence climbing over a few tokens, typed as it goes.

Knows characters and the types of columns; knows nothing of rows. No text is ever run: a character
is a token of the list below or an error that says where it stands and what to write instead.

From weakest to strongest: `or`, `and`, `not`, comparisons with `in [..]` and `is null`, `+ -`,
`* /`, the sign. Texts are quoted with ' or ", times are written `time "2013-04-01T00:00:00Z"`.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from app.contracts.expressions import (
    FUNCTIONS,
    MAX_DEPTH,
    Expression,
    ExpressionError,
    Name,
    Type,
    Value,
    apply,
    names_in,
)

MAX_CHARACTERS = 1000
TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_]))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<sign>==|!=|<=|>=|[-+*/<>()\[\],])
    """,
    re.VERBOSE | re.ASCII,
)
WORDS = frozenset({"and", "or", "not", "in", "is", "null"})
COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in", "is"})
POWERS = {
    "or": 1,
    "and": 2,
    **dict.fromkeys([*COMPARISONS, "not"], 4),
    **dict.fromkeys("+-", 5),
    **dict.fromkeys("*/", 6),
}
NOT_POWER, SIGN_POWER = 3, 7
HINTS = {
    "=": "write == to compare",
    "&": "write and",
    "|": "write or",
    "!": "write not",
    ".": "columns have no attributes; name a column",
    "'": "the text is not closed",
    '"': "the text is not closed",
}


class Token(NamedTuple):
    """A piece of text, and where it begins."""

    kind: str
    text: str
    place: int


def parse(text: str, columns: Mapping[str, Type]) -> Expression:
    """Read a condition over columns of given types.

    Raises ExpressionError, which names the character, what stands there and what to write, unless
    the text is one condition, true or false, that names a column and keeps the bounds.

    >>> parse("weight < 40 or depot in ['north']", {"weight": "number", "depot": "text"}).operator
    'or'
    >>> parse("weight = 40", {"weight": "number"})
    Traceback (most recent call last):
    app.contracts.expressions.ExpressionError: character 8, =: write == to compare
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            f"has {len(text)} characters, more than {MAX_CHARACTERS}; split it into several rules"
        )
    reader = _Reader(_tokens(text), columns)
    expression = reader.expression(0, 1)
    rest = reader.next
    if rest.kind != "end":
        raise _wrong(rest, "expected and, or, or the end")
    if expression.type != "truth":
        raise ExpressionError(f"gives a {expression.type}; write a condition that is true or false")
    if not names_in(expression):
        raise ExpressionError(f"names no column; columns are {', '.join(columns)}")
    return expression


def _tokens(text: str) -> list[Token]:
    found, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            token = Token("sign", text[place], place)
            raise _wrong(token, HINTS.get(text[place], "this stands in no expression; remove it"))
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(Token(kind, match.group(), place))
        place = match.end()
    return [*found, Token("end", "", len(text))]


def _wrong(token: Token, problem: str) -> ExpressionError:
    shown = token.text if len(token.text) <= 40 else f"{token.text[:40]}…"
    return ExpressionError(f"character {token.place + 1}, {shown or 'the end'}: {problem}")


class _Reader:
    """A place in a list of tokens."""

    def __init__(self, tokens: list[Token], columns: Mapping[str, Type]) -> None:
        self._tokens = tokens
        self._columns = columns
        self._at = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self.next
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _expect(self, text: str, after: str) -> None:
        token = self._take()
        if token.text != text or token.kind == "text":
            raise _wrong(token, f"expected {text} after {after}")

    def expression(self, power: int, depth: int) -> Expression:
        """Read what binds more strongly than `power`."""
        if depth > MAX_DEPTH:
            raise _wrong(self.next, f"nests more than {MAX_DEPTH} deep; split the rule")
        left, compared = self._operand(depth), False
        while self.next.kind in ("sign", "name") and POWERS.get(self.next.text, 0) > power:
            token = self._take()
            comparison = POWERS[token.text] == POWERS["=="]
            if comparison and compared:
                raise _wrong(token, "comparisons do not chain; write a < b and b < c")
            compared = comparison
            left = self._continued(left, token, depth)
        return left

    def _continued(self, left: Expression, token: Token, depth: int) -> Expression:
        """Read what follows an operator that stands after a value."""
        if token.text == "is":
            negated = self._skip("not")
            self._expect("null", "is")
            return self._made(token, negated, "is null", left)
        negated = token.text == "not"
        if negated:
            self._expect("in", "not")
        if negated or token.text == "in":
            return self._made(token, negated, "in", left, *self._list(token, depth))
        right = self.expression(POWERS[token.text], depth + 1)
        return self._made(token, False, token.text, left, right)

    def _made(self, token: Token, negated: bool, operator: str, *given: Expression) -> Expression:
        try:
            made = apply(operator, *given)
            return apply("not", made) if negated else made
        except ExpressionError as error:
            raise _wrong(token, str(error)) from None

    def _skip(self, text: str) -> bool:
        found = self.next.kind == "name" and self.next.text == text
        if found:
            self._take()
        return found

    def _operand(self, depth: int) -> Expression:
        token = self._take()
        if token.kind == "number":
            return _number(token)
        if token.kind == "text":
            return Value(token.text[1:-1], "text")
        if token.kind == "name" and token.text not in WORDS:
            return self._named(token, depth)
        if token.text == "not":
            return self._made(token, False, "not", self.expression(NOT_POWER, depth + 1))
        if token.text == "-":
            return self._signed(token, depth)
        if token.text == "(":
            inner = self.expression(0, depth + 1)
            self._expect(")", "what ( began")
            return inner
        if token.text == "null":
            raise _wrong(token, "nothing equals null; write is null or is not null")
        raise _wrong(token, "expected a column, a value, a function or (")

    def _signed(self, token: Token, depth: int) -> Expression:
        inner = self.expression(SIGN_POWER - 1, depth + 1)
        if isinstance(inner, Value) and isinstance(inner.value, float):
            return Value(-inner.value, "number")
        return self._made(token, False, "negative", inner)

    def _named(self, token: Token, depth: int) -> Expression:
        """Read a column, a function's call or a time."""
        if token.text == "time" and self.next.kind == "text":
            return _time(self._take())
        if self.next.text == "(" and self.next.kind == "sign":
            return self._call(token, depth)
        kind = self._columns.get(token.text)
        if kind is None:
            raise _wrong(token, f"no column has that name; columns are {', '.join(self._columns)}")
        return Name(token.text, kind)

    def _call(self, token: Token, depth: int) -> Expression:
        if token.text not in FUNCTIONS:
            raise _wrong(token, f"no such function; functions are {', '.join(FUNCTIONS)}")
        self._take()
        given = [self.expression(0, depth + 1)]
        while self.next.text == ",":
            self._take()
            given.append(self.expression(0, depth + 1))
        self._expect(")", f"the arguments of {token.text}")
        return self._made(token, False, token.text, *given)

    def _list(self, token: Token, depth: int) -> list[Expression]:
        """Read the values of a list."""
        self._expect("[", "in")
        values: list[Expression] = []
        while self.next.text != "]" or values:
            value = self._operand(depth + 1)
            if not isinstance(value, Value):
                raise _wrong(token, "in takes a list of values, not of columns; use == and or")
            values.append(value)
            if self.next.text != ",":
                break
            self._take()
        self._expect("]", "the values of a list")
        return values


def _number(token: Token) -> Value:
    number = float(token.text)
    if not math.isfinite(number):
        raise _wrong(token, "is too large for a number")
    return Value(number, "number")


def _time(token: Token) -> Value:
    try:
        moment = datetime.fromisoformat(token.text[1:-1])
        if moment.tzinfo is not None:
            return Value(moment.astimezone(UTC), "time")
    except (ValueError, OverflowError):
        raise _wrong(token, "is no ISO 8601 time, e.g. 2013-04-01T10:15:00Z") from None
    raise _wrong(token, "has no time zone; end it with Z or an offset such as +00:00")
