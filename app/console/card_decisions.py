"""Show what comes of flagging rows: the four counts, precision and recall, and the cost.

Knows the evaluation report and markup; knows nothing of the page around them.
"""

from app.console.markup import Markup, tag
from app.console.refusals import table
from app.contracts.evaluations import CostReport, EvaluationReport, OperatingPoint
from app.contracts.records import Metric
from app.governance.model_card import RULES


def decision_sections(report: EvaluationReport) -> list[Markup]:
    """Show the four counts at the operating point and what they cost; nothing without flags."""
    point = report.operating
    if point is None:
        return []
    said = (
        f"Rows are flagged from {point.threshold:.1%} on; the threshold comes from "
        f"{RULES[point.rule]}."
    )
    parts = [tag("h2", "At the operating point"), tag("p", said), _confusion(report, point)]
    return [tag("section", tag("div", *parts)), *_costs(report)]


def _confusion(report: EvaluationReport, point: OperatingPoint) -> Markup:
    def cell(number: int, name: str, style: str) -> Markup:
        share = f"{number / report.num_rows:.1%} of rows"
        return tag("td", tag("b", f"{number:,}"), tag("small", f"{name}, {share}"), class_=style)

    head = tag("tr", tag("th", ""), tag("th", "happened"), tag("th", "did not happen"))
    flagged = tag(
        "tr",
        tag("th", "flagged"),
        cell(point.true_positive, "found", "right"),
        cell(point.false_positive, "in vain", "wrong"),
    )
    left = tag(
        "tr",
        tag("th", "not flagged"),
        cell(point.false_negative, "missed", "wrong"),
        cell(point.true_negative, "left alone", "right"),
    )
    shown = [
        ("precision", point.precision, "of what is flagged, happens"),
        ("recall", point.recall, "of what happens, is flagged"),
        ("flagged", point.flagged_share, "of all rows"),
    ]
    figures = [
        tag("div", tag("dt", name), tag("dd", _percent(one), tag("small", _wide(one), note)))
        for name, one, note in shown
    ]
    matrix = tag("table", head, flagged, left, class_="confusion")
    return tag("div", matrix, tag("dl", *figures, class_="facts pair"), class_="decision")


def _costs(report: EvaluationReport) -> list[Markup]:
    costs = report.costs
    if costs is None:
        return []
    unit = f" in {costs.unit}" if costs.unit else ""
    rows = [
        tag(
            "tr",
            *(tag("td", text) for text in (name, f"{m.value:.3f}", interval(m.low, m.high, 3))),
        )
        for name, m in _priced(costs)
    ]
    said = (
        f"The operating point {saving(costs.saved)} a row against the cheaper of flagging nobody "
        "and everybody. Of well calibrated probabilities the cheapest threshold is "
        f"{costs.break_even:.1%}."
    )
    head = [("", ""), (f"cost a row{unit}", ""), (f"{report.confidence:.0%} interval", "")]
    title = tag("h3", "What it costs", class_="sub")
    return [tag("section", title, tag("p", said, class_="said"), table(head, rows))]


def saving(saved: Metric) -> str:
    """Say what is saved, or what it costs more: the interval has the sign of the verb.

    >>> saving(Metric(value=0.5, low=-0.25, high=1))
    'saves 0.500 (-0.250 to 1.000)'
    >>> saving(Metric(value=-0.8, low=-0.9, high=-0.75))
    'costs 0.800 (0.750 to 0.900) more'
    """
    if saved.value >= 0:
        return f"saves {saved.value:.3f} ({interval(saved.low, saved.high, 3)})"
    return f"costs {-saved.value:.3f} ({interval(-saved.high, -saved.low, 3)}) more"


def _priced(costs: CostReport) -> list[tuple[str, Metric]]:
    best = "flag nobody" if costs.best_threshold > 1 else f"from {costs.best_threshold:.1%} on"
    return [
        ("at the operating point", costs.operating),
        ("flag nobody", costs.nobody),
        ("flag everybody", costs.everybody),
        (f"cheapest on these very rows: {best}", costs.best),
    ]


def interval(low: float, high: float, digits: int) -> str:
    """Write an interval.

    >>> interval(0.1234, 0.5, 2)
    '0.12 to 0.50'
    """
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _percent(one: Metric | None) -> str:
    return "undefined" if one is None else f"{one.value:.1%}"


def _wide(one: Metric | None) -> str:
    return "" if one is None else f"{one.low:.1%} to {one.high:.1%} "
