"""Show the columns of an ingest: how their values spread, what is missing, what was refused.

Knows the report's columns and SVG; knows nothing of rows.
"""

from collections.abc import Sequence
from math import isfinite

from app.console.markup import Markup, join, tag
from app.data.report import ColumnReport

WIDTH, HEIGHT = 168.0, 34.0
NUM_SHOWN = 4
COLUMNS_STYLE = """
.columns td { vertical-align: middle; height: 50px; }
.columns td:nth-child(2), .columns th:nth-child(2) { width: 290px; text-align: left; }
.columns .name { font-weight: 560; display: block; }
.columns .name + small { color: var(--faint); font-size: 12.5px; }
.spread { width: 168px; height: 34px; } .spread rect { fill: var(--loop); fill-opacity: 0.62; }
.spread line { stroke: var(--line); }
.mix { display: flex; width: 168px; height: 8px; border-radius: 2px; overflow: hidden;
  background: var(--bar); margin: 3px 0 4px; gap: 1px; }
.mix i { display: block; height: 100%; background: var(--loop); }
.mix i:nth-child(1) { opacity: 0.8; } .mix i:nth-child(2) { opacity: 0.6; }
.mix i:nth-child(3) { opacity: 0.45; } .mix i:nth-child(4) { opacity: 0.3; }
.shares { display: flex; flex-wrap: wrap; gap: 0 9px; font-size: 12.5px; color: var(--soft);
  line-height: 1.4; width: 270px; }
.shares b { color: var(--ink); font-weight: 560; }
.hidden { color: var(--faint); font-size: 12.5px; }
td.bad { color: var(--bad); font-weight: 620; } td.quiet { color: var(--faint); }
"""


def columns_section(columns: Sequence[ColumnReport]) -> Markup:
    """Tell every column of the accepted rows on one line."""
    names = ("column", "values", "null", "least", "median", "most", "refused", "unseen")
    head = tag("thead", tag("tr", *(tag("th", name) for name in names)))
    rows = [tag("tr", *_cells(column)) for column in columns]
    table = tag("table", head, tag("tbody", *rows), class_="columns")
    said = (
        "What was accepted, column by column. Refused counts the reasons about a column; unseen "
        "those of its values that stand outside the contract's closed set."
    )
    return tag(
        "section",
        tag("h2", "Columns"),
        tag("p", said),
        tag("div", table, class_="scroll"),
    )


def _cells(column: ColumnReport) -> list[Markup]:
    kind = ", ".join(filter(None, [column.kind, column.unit, _privacy(column)]))
    nulls = f"{column.null_share * 100:.1f} %" if column.null_share else "–"
    return [
        tag("td", tag("span", column.name, class_="name"), tag("small", kind)),
        tag("td", _values(column)),
        tag("td", nulls, class_="quiet" if nulls == "–" else None),
        *(tag("td", short(value)) for value in _ends(column)),
        _count(column.num_complaints),
        _count(column.num_unseen),
    ]


def _ends(column: ColumnReport) -> tuple[float | str | None, ...]:
    """Give least, median and most; a time's stand where other columns show their values."""
    if column.kind == "time":
        return (None, None, None)
    return (column.minimum, column.quantiles.get("0.5"), column.maximum)


def _privacy(column: ColumnReport) -> str:
    return "" if column.privacy == "public" else column.privacy


def _count(number: int) -> Markup:
    return tag("td", f"{number:,}" if number else "–", class_="bad" if number else "quiet")


def short(value: float | str | None) -> str:
    """Write a limit in little room: a number to four digits, a time to its minute.

    >>> short(1234567.0), short(0.000126), short(-7.0), short("2013-01-01T10:00:00+00:00")
    ('1,234,567', '0.000126', '-7', '2013-01-01 10:00')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value[:16].replace("T", " ")
    if isfinite(value) and value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:,.4g}"


def _values(column: ColumnReport) -> Markup:
    if not column.shows_values:
        return tag("span", "values withheld", class_="hidden")
    if column.counts:
        return _spread(column.counts)
    if column.top:
        return join([_mix(column), _shares(column)])
    if column.minimum is None:
        return tag("span", "no value", class_="hidden")
    return tag("span", f"{short(column.minimum)} to {short(column.maximum)}", class_="hidden")


def _spread(counts: Sequence[int]) -> Markup:
    """Draw a histogram."""
    step, tallest = WIDTH / len(counts), max(counts) or 1
    bars = []
    for place, count in enumerate(counts):
        height = (HEIGHT - 1) * count / tallest
        # Little is drawn as a line, so that it is not taken for nothing.
        height = max(height, 1.0) if count else 0.0
        x, y = place * step, HEIGHT - 1 - height
        bars.append(tag("rect", x=x, y=y, width=max(step - 1.0, 1.0), height=height))
    ground = tag("line", x1=0, x2=WIDTH, y1=HEIGHT - 0.5, y2=HEIGHT - 0.5)
    box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return tag("svg", ground, *bars, viewBox=box, class_="spread")


def _mix(column: ColumnReport) -> Markup:
    """Draw the shares of the most frequent categories among the accepted rows that have one."""
    known = max(round(column.num_rows * (1 - column.null_share)), 1)
    parts = [tag("i", style=f"width:{item.count / known:.2%}") for item in column.top[:NUM_SHOWN]]
    return tag("div", *parts, class_="mix")


def _shares(column: ColumnReport) -> Markup:
    """Name the most frequent categories and their counts."""
    named = [
        tag("span", tag("b", _cut(item.value)), f" {item.count:,}")
        for item in column.top[:NUM_SHOWN]
    ]
    if column.num_distinct is None:
        named.append(tag("span", "and very many others"))
    elif column.num_distinct > NUM_SHOWN:
        named.append(tag("span", f"and {column.num_distinct - NUM_SHOWN:,} others"))
    return tag("div", *named, class_="shares")


def _cut(value: str) -> str:
    return value if len(value) <= 18 else f"{value[:17]}…"
