"""A rule is read as it is meant, or refused with its place; no text of one is ever run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.contracts.expressions import Apply, ExpressionError, Name, Value, apply, names_in
from app.contracts.syntax import MAX_CHARACTERS, TOKEN, parse
from tests.unit.contracts.trees import COLUMNS, trees, written

audited: list[str] = []
listening = False


def audit(event: str, arguments: tuple[object, ...]) -> None:
    if listening:
        audited.append(event)


sys.addaudithook(audit)


@contextmanager
def nothing_happens() -> Iterator[None]:
    """Fail when the interpreter compiles, runs, imports or opens anything inside."""
    global listening
    audited.clear()
    listening = True
    try:
        yield
    finally:
        listening = False
    assert not audited


@settings(deadline=None)
@given(trees())
def test_what_is_written_is_read_back(tree: Apply) -> None:
    if names_in(tree) and len(written(tree)) <= MAX_CHARACTERS:
        assert parse(written(tree), COLUMNS) == tree


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a + b * a > 1", "(a + (b * a)) > 1"),
        ("a - b - a > 1", "((a - b) - a) > 1"),
        ("-a * b < 1", "((-a) * b) < 1"),
        ("a > 1 or a < 0 and b > 1", "(a > 1) or ((a < 0) and (b > 1))"),
        ("not a == b and a > 1", "(not (a == b)) and (a > 1)"),
        ("not a is null", "not (a is null)"),
        ("a is not null", "not (a is null)"),
        ("d not in ['x', \"y\"]", "not (d in ['x', 'y'])"),
        ("a in [1, -2, 3e1]", "a in [1.0,-2.0,30.0]"),
        ("t < time '2013-04-01T02:00:00+02:00'", "t < time '2013-04-01T00:00:00Z'"),
        ("a > 1 and b > 1 and a > 2", "a > 1 and (b > 1 and a > 2)"),
        ("d == 'time'", 'd == "time"'),
    ],
)
def test_operators_bind_as_in_arithmetic(text: str, same: str) -> None:
    assert parse(text, COLUMNS) == parse(same, COLUMNS)


def test_a_column_may_have_the_name_of_a_function() -> None:
    tree = parse("min(min, time) > 1", {"min": "number", "time": "number"})
    assert names_in(tree) == ("min", "time")


MISTAKES = [
    ("a = 1", "character 3, =: write == to compare"),
    ("a > 1 && b > 1", "character 7, &: write and"),
    ("a == null", "character 6, null: nothing equals null; write is null"),
    ("a < b < 1", "character 7, <: comparisons do not chain; write a < b and b < c"),
    ("a > 'x'", "character 3, >: > compares a number with a text; compare like with like"),
    ("c > 1", "character 1, c: no column has that name; columns are a, b, d"),
    ("a.real > 1", "character 2, .: columns have no attributes"),
    ("a[0] > 1", "character 2, [: expected and, or, or the end"),
    ("exec('x') > 1", "character 1, exec: no such function; functions are abs, lower"),
    ("a + 1", "gives a number; write a condition"),
    ("1 < 2", "names no column"),
    ("abs(d) > 1", "character 1, abs: abs takes a number, got a text"),
    ("length(d, d) > 1", "length takes a text, got a text, a text"),
    ("min(a) > 1", "min takes two or more numbers, or times, got a number"),
    ("a in []", "character 3, in: in takes a list of at least one value"),
    ("a in [b]", "in takes a list of values, not of columns"),
    ("a in ['x']", "in compares a number with a text"),
    ("a in [1", "character 8, the end: expected ] after the values"),
    ("d == 'x", "character 6, ': the text is not closed"),
    ("a >", "character 4, the end: expected a column, a value"),
    ("(a > 1", "character 7, the end: expected ) after what ( began"),
    ("a > 1 b", "character 7, b: expected and, or, or the end"),
    ("a not 1", "character 7, 1: expected in after not"),
    ("a > 1e999", "character 5, 1e999: is too large for a number"),
    ("t > time 'May'", "character 10, 'May': is no ISO 8601 time"),
    ("t > time '2013-04-01'", "has no time zone"),
    ("t > time '0001-01-01T00:00:00+05:00'", "is no ISO 8601 time"),
    ("p == 'Ada'", "== compares a personal column with a text; only its pseudonym is kept"),
    ("p < q", "< cannot compare a pseudonym"),
    ("length(p) > 1", "length takes a text, got a pseudonym"),
    ("", "character 1, the end: expected a column"),
    ("(" * 400 + "a > 1" + ")" * 400, "nests more than 32 deep"),
    ("not " * 200 + "a > 1", "nests more than 32 deep"),
    ("a" + " + a" * 100 + " > 1", "nests more than 32 deep; split it into several rules"),
    ("a > 1 or " * 200 + "a > 1", "has 1805 characters, more than 1000"),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES, ids=[text[:20] for text, _ in MISTAKES])
def test_a_mistake_is_answered_with_its_place_and_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, COLUMNS)
    assert says in str(caught.value)


def test_a_long_chain_of_alternatives_is_not_deep() -> None:
    tree = parse(" or ".join(f"a == {i}" for i in range(90)), COLUMNS)
    assert isinstance(tree, Apply)
    assert (len(tree.arguments), tree.depth) == (90, 3)


pieces = st.sampled_from(
    [*"ab dtp()[],.<>=+-*/'\"\\\n\0;:{}@é", "and", "or", "not", "in", "is", "null", "min", "abs",
     "time", "==", "__class__", "__import__", "eval", "lambda", "os.system", "1", "1e5", "'x'"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(pieces, max_size=40).map(" ".join) | st.text(max_size=60))
@example("__import__('os').system('true')")
@example("().__class__.__bases__[0].__subclasses__()")
@example("eval('1') == 1")
@example("f'{a}' == 'x'")
def test_any_text_is_read_or_refused_and_nothing_runs(text: str) -> None:
    with nothing_happens():
        try:
            tree = parse(text, COLUMNS)
        except ExpressionError:
            return
    assert set(names_in(tree)) <= set(COLUMNS)


def test_the_audit_would_notice() -> None:
    with pytest.raises(AssertionError), nothing_happens():
        eval("1")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_reading_takes_every_character_once(text: str) -> None:
    assert all(match.end() > match.start() for match in TOKEN.finditer(text))


def test_pieces_that_do_not_fit_are_refused_by_whoever_builds_them() -> None:
    with pytest.raises(ExpressionError, match="and takes truths, got a number"):
        apply("and", Value(1.0, "number"), Value(1.0, "number"))
    deep: Apply | Name = Name("a", "number")
    for _ in range(31):
        deep = apply("negative", deep)
    with pytest.raises(ExpressionError, match="nests more than 32 deep"):
        apply("negative", deep)
