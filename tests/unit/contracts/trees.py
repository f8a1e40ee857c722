"""Random expressions, their text, and what plain Python makes of them: an oracle row by row."""

import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from app.contracts.expressions import MAX_DEPTH, Apply, Expression, Name, Type, Value, apply

COLUMNS: dict[str, Type] = {
    "a": "number", "b": "number", "d": "text", "e": "text", "t": "time", "u": "time",
    "p": "pseudonym", "q": "pseudonym",
}  # fmt: skip
COMPARED: dict[str, Callable[[object, object], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
COMPUTED: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-300, 1e308, -1e308]
numbers = st.one_of(st.sampled_from(EDGES), st.floats(allow_nan=False, allow_infinity=False))
texts = st.text("aAbBzZ éÉ؛😀'", max_size=4)
times = st.datetimes(
    datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC)
) | st.sampled_from([datetime(2013, 4, 1, hour, tzinfo=UTC) for hour in range(3)])
literals: dict[Type, st.SearchStrategy[Value]] = {
    "number": numbers.map(lambda v: Value(v, "number")),
    "text": texts.map(lambda v: Value(v, "text")),
    "time": times.map(lambda v: Value(v, "time")),
}
rows = st.fixed_dictionaries(
    {
        **{name: st.none() | numbers | st.sampled_from([math.nan, math.inf]) for name in "ab"},
        **{name: st.none() | texts for name in "de"},
        **{name: st.none() | times for name in "tu"},
        **{name: st.none() | st.sampled_from(["Ada", "Bob"]) for name in "pq"},
    }
)


@st.composite
def trees(draw: st.DrawFn, kind: Type = "truth", levels: int = 4) -> Expression:
    """A tree of a type, at most so many levels high."""
    names = [Name(name, given) for name, given in COLUMNS.items() if given == kind]
    if kind == "pseudonym":
        return draw(st.sampled_from(names))
    if kind != "truth" and (levels <= 1 or draw(st.booleans())):
        return draw(st.sampled_from(names) | literals[kind])

    def below(wanted: Type) -> Expression:
        return draw(trees(wanted, levels - 1))

    if kind == "number":
        made = draw(st.sampled_from([*COMPUTED, "negative", "abs", "length", "min", "max", "time"]))
        if made == "time":
            unit = draw(st.sampled_from(["hours_between", "minutes_between"]))
            return apply(unit, below("time"), below("time"))
        if made == "negative":
            inner = below("number")
            return inner if isinstance(inner, Value) else apply(made, inner)
        if made in ("abs", "length"):
            return apply(made, below("number" if made == "abs" else "text"))
        return apply(made, below("number"), below("number"))
    if kind == "text":
        return apply("lower", below("text"))
    if kind == "time":
        return apply(draw(st.sampled_from(["min", "max"])), below("time"), below("time"))
    wanted: Type = draw(st.sampled_from(["number", "text", "time", "pseudonym"]))
    made = draw(st.sampled_from(["and", "or", "not", "is null", "in", "compare"]))
    if levels > 1 and made in ("and", "or"):
        return apply(made, below("truth"), below("truth"))
    if levels > 1 and made == "not":
        return apply("not", below("truth"))
    if made == "is null":
        return apply("is null", below(wanted))
    if made == "in" and wanted != "pseudonym":
        return apply("in", below(wanted), *draw(st.lists(literals[wanted], min_size=1, max_size=3)))
    signs = ["==", "!="] if wanted == "pseudonym" else list(COMPARED)
    return apply(draw(st.sampled_from(signs)), below(wanted), below(wanted))


def written(tree: Expression) -> str:
    """The text of a tree, with every parenthesis."""
    if isinstance(tree, Name):
        return tree.name
    if isinstance(tree, Value):
        if isinstance(tree.value, datetime):
            return f"time '{tree.value.isoformat()}'"
        return f'"{tree.value}"' if isinstance(tree.value, str) else repr(tree.value)
    parts = [written(argument) for argument in tree.arguments]
    if tree.operator == "negative":
        return f"-({parts[0]})"
    if tree.operator == "is null":
        return f"({parts[0]}) is null"
    if tree.operator == "in":
        return f"({parts[0]}) in [{', '.join(parts[1:])}]"
    if tree.operator == "not":
        return f"not ({parts[0]})"
    if tree.operator in ("and", "or") or tree.operator in COMPARED or tree.operator in COMPUTED:
        return f" {tree.operator} ".join(f"({part})" for part in parts)
    return f"{tree.operator}({', '.join(parts)})"


def expected(tree: Expression, row: Mapping[str, object]) -> object:
    """What a tree is for a row; None is unknown."""
    if isinstance(tree, Name):
        return known(row[tree.name])
    if isinstance(tree, Value):
        return tree.value
    return known(_applied(tree, [expected(argument, row) for argument in tree.arguments]))


def known(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _applied(tree: Apply, given: list[object]) -> object:
    made = tree.operator
    if made == "is null":
        return given[0] is None
    if made in ("and", "or"):
        decisive = made == "or"
        return decisive if decisive in given else None if None in given else not decisive
    if given[0] is None or (made != "in" and None in given):
        return None
    if made == "in":
        return given[0] in given[1:]
    if made == "/" and given[1] == 0:
        return None
    if made in COMPUTED or made in COMPARED:
        return {**COMPUTED, **COMPARED}[made](*given)
    return _called(made, given)


def _called(made: str, given: list[object]) -> object:
    if made in ("hours_between", "minutes_between"):
        micros = (given[1] - given[0]) // timedelta(microseconds=1)
        minutes = float(micros) / 60e6
        return minutes / 60 if made == "hours_between" else minutes
    plain = {
        "not": operator.not_, "negative": operator.neg, "abs": abs, "min": min, "max": max,
        "lower": str.lower, "length": lambda text: float(len(text)),
    }  # fmt: skip
    return plain[made](*given)


assert MAX_DEPTH > 10  # Trees here and their parentheses stay within it.
