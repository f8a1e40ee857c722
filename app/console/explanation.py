"""Draw one explained prediction as a self-contained HTML page: what each column added to it.

Knows explanations and HTML; knows nothing of how they came about. The page runs no script and
fetches nothing; what came from outside is escaped by `markup`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.console.card_style import CARD_STYLE
from app.console.charts import ForestRow, forest
from app.console.markup import Markup, tag
from app.console.page import META
from app.console.refusals import REFUSALS_STYLE, table
from app.console.style import STYLE
from app.serving.explain_messages import METHOD, Attribution, Explained, ReferenceRow, Shown

NUM_DRAWN = 15
# About nineteen of twenty means over as many orders lie so close to the exact share.
ERRORS_EACH_SIDE = 2.0
MAX_CHARACTERS = 28


@dataclass(frozen=True)
class ExplainedPrediction:
    """A prediction that was logged, and its explanation by the version that made it."""

    model: str
    version: str
    label: str
    scale: str
    logged: float
    """The probability in the log."""
    explained: Explained
    reference: ReferenceRow


def render_explanation(one: ExplainedPrediction) -> str:
    """Give the page as HTML."""
    body = tag(
        "main",
        tag("header", *_header(one)),
        tag("section", tag("h2", "What each column added"), *_drawing(one)),
        tag("section", tag("h2", "Every column"), _columns(one)),
        tag("footer", "The page holds everything it shows; it loads nothing."),
    )
    style = Markup(STYLE + REFUSALS_STYLE + CARD_STYLE)
    title = tag("title", f"{one.model}: why {one.explained.probability:.3f}")
    head = tag("head", META, title, tag("style", style))
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _header(one: ExplainedPrediction) -> list[Markup]:
    explained, reference = one.explained, one.reference
    first = explained.attributions[0]
    headline = (
        f"{one.label} {explained.probability:.1%}, where the middle of training has "
        f"{reference.probability:.1%}; {first.column} moves it most"
    )
    row = ("Row ", tag("code", explained.row_id), " by version ", tag("code", one.version[:12]))
    facts = (
        ("logged", f"{one.logged:.4f}", "probability"),
        ("explained", f"{explained.probability:.4f}", f"{explained.value:+.3f}"),
        ("reference", f"{reference.probability:.4f}", f"{reference.value:+.3f}"),
        ("left over", f"{explained.residual:.1e}", f"of at most {explained.tolerance:.1e}"),
    )
    drawn = [tag("div", tag("dt", t), tag("dd", v, tag("small", more))) for t, v, more in facts]
    columns = f"grid-template-columns:repeat({len(facts)},1fr)"
    return [
        tag("p", tag("b", "Mainspring"), f" · explanation · {one.model}", class_="over"),
        tag("h1", headline),
        tag("p", *row, f". Figures with a sign are {one.scale}.", class_="lede"),
        tag("dl", *drawn, class_="facts", style=columns),
    ]


def _drawing(one: ExplainedPrediction) -> list[Markup]:
    shares = one.explained.attributions
    rows = [_row(share) for share in shares[:NUM_DRAWN]]
    rest = sum(share.attribution for share in shares[NUM_DRAWN:])
    if len(shares) > NUM_DRAWN:
        name = f"{len(shares) - NUM_DRAWN} other columns"
        rows.append(_bar(name, "together", rest, 0.0))
    drawn = forest(
        "Attributions",
        rows,
        reference=0.0,
        across=f"added to the reference's {one.reference.value:+.3f}: {one.scale}",
        left=430.0,
        headings=("added",),
    )
    said = tag("p", f"{METHOD} The reference: {one.reference.description}")
    return [said, tag("div", drawn, class_="scroll")]


def _row(share: Attribution) -> ForestRow:
    return _bar(share.column, _told(share), share.attribution, share.standard_error)


def _bar(name: str, note: str, value: float, error: float) -> ForestRow:
    around = ERRORS_EACH_SIDE * error
    style = "bad" if value > 0 else "good"
    if abs(value) <= around:
        style = "calm"
    return ForestRow(name, note, value, value - around, value + around, style, (f"{value:+.4f}",))


def _columns(one: ExplainedPrediction) -> Markup:
    reference = {each.column: each for each in one.reference.columns}
    head = [(title, "") for title in ("", "this row", "reference", "added", "standard error")]
    rows = [_cells(share, reference[share.column]) for share in one.explained.attributions]
    return table(head, [tag("tr", *(tag("td", text) for text in cells)) for cells in rows])


def _cells(share: Attribution, reference: Shown) -> Sequence[str]:
    figures = (f"{share.attribution:+.4f}", f"{share.standard_error:.4f}")
    return (share.column, _told(share), _told(reference), *figures)


def _told(one: Shown) -> str:
    """Write a value in little room.

    >>> _told(Shown(column="a", shown=True, value=0.125)), _told(Shown(column="a", shown=False))
    ('0.125', 'not public')
    """
    if not one.shown:
        return "not public"
    if one.value is None:
        return "no value"
    text = f"{one.value:.6g}" if isinstance(one.value, float) else one.value
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
