"""Write a model card as Markdown, for repositories and reviews.

Knows the card; knows nothing of files. What came from outside is escaped, so that a category named
like a table's border does not become one.
"""

from collections.abc import Iterable, Sequence

from app.contracts.evaluations import EvaluationReport, SliceReport
from app.contracts.records import Metric
from app.governance.model_card import (
    FIGURE_NAMES,
    FOUND_BY,
    OPTIMISM,
    RULES,
    TOGETHER,
    Fact,
    ModelCard,
)

NUM_IMPORTANCE = 15


def render_markdown(card: ModelCard) -> str:
    """Give the card as Markdown."""
    parts = [
        f"# {_cell(card.model)}: model card",
        f"Version `{card.digest[:12]}`, {card.kind} by run `{_cell(card.run)}`, "
        f"{card.created_at:%Y-%m-%d %H:%M} UTC. Predicts `{_cell(card.label)}` ({card.task}), "
        f"asked {card.lead_minutes:g} minutes before the event."
        + (f" It is the {card.role}." if card.role != "none" else ""),
        "## Intended use and limits",
        *(_statement(s.term, s.says) for s in card.statements),
        "## How well it does",
        *_figures(card),
        "## Lineage",
        _table(
            ("", "", ""), ((f.term, f"`{_cell(f.value)}`", f.note) for f in card.lineage), raw=1
        ),
        "## Training",
        _epochs(card),
        "## Columns",
        _columns(card),
        "## How to reproduce it",
        *_commands(card.reproduce),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _statement(term: str, says: Sequence[str]) -> str:
    if len(says) == 1:
        return f"**{term}.** {_cell(says[0])}"
    return f"**{term}.**\n\n" + "\n".join(f"- {_cell(line)}" for line in says)


def _figures(card: ModelCard) -> list[str]:
    parts = []
    if card.gate is not None:
        gate = card.gate
        parts.append(
            f"**At its gate,** on {gate.num_rows:,} rows that nothing had seen: ROC-AUC "
            f"{span(gate.roc_auc, 3)}, PR-AUC {span(gate.pr_auc, 3)}, Brier score "
            f"{span(gate.brier, 4)}, calibration error {gate.calibration_error:.3f}."
        )
    if card.report is None:
        headline = card.evaluation.headline
        return [*parts, f"No report lies beside the run of this version. Stop rows: {headline}."]
    report = card.report
    shown = [
        (FIGURE_NAMES.get(name, name), f"{m.value:.4f}", f"{m.low:.4f} to {m.high:.4f}")
        for name, m in report.figures.items()
    ]
    parts += [
        f"**On its stop rows,** {report.num_rows:,} asked from {report.start:%Y-%m-%d} to "
        f"{report.end:%Y-%m-%d}. {OPTIMISM} {TOGETHER}",
        _table(("figure", "value", f"{report.confidence:.0%} interval"), shown),
        *_decisions(report),
        *_slices(report),
        *_importance(report),
    ]
    return parts


def _decisions(report: EvaluationReport) -> list[str]:
    point, costs = report.operating, report.costs
    if point is None:
        return []
    precision = "undefined" if point.precision is None else span(point.precision, 3)
    parts = [
        "### At the operating point",
        f"Rows are flagged from {point.threshold:.4f} on ({RULES[point.rule]}): "
        f"{point.flagged_share.value:.1%} of them, with precision {precision} and recall "
        f"{span(point.recall, 3)}.",
        _table(
            ("", "happened", "did not"),
            (
                ("flagged", f"{point.true_positive:,}", f"{point.false_positive:,}"),
                ("not flagged", f"{point.false_negative:,}", f"{point.true_negative:,}"),
            ),
        ),
    ]
    if costs is None:
        return parts
    unit = f"{_cell(costs.unit)} " if costs.unit else ""
    best = "flag nobody" if costs.best_threshold > 1 else f"from {costs.best_threshold:.4f} on"
    priced = (
        ("at the operating point", costs.operating),
        ("flag nobody", costs.nobody),
        ("flag everybody", costs.everybody),
        (f"cheapest on these very rows ({best})", costs.best),
        ("saved by the operating point", costs.saved),
    )
    rows = ((name, f"{m.value:.3f}", f"{m.low:.3f} to {m.high:.3f}") for name, m in priced)
    return [*parts, _table(("cost", f"{unit}a row", "interval"), rows)]


def _slices(report: EvaluationReport) -> list[str]:
    parts = []
    if report.declared:
        parts += ["### Declared slices", _slice_table(report.declared)]
    search = report.search
    if search is None:
        return parts
    parts += [
        "### Worst slices found",
        f"Of {search.num_tested:,} slices of one or two of {search.num_columns} public columns, "
        f"{search.num_significant:,} stand out against the other rows of their days, after control "
        "of false discoveries.",
    ]
    return [*parts, _slice_table(search.found)] if search.found else parts


def _slice_table(slices: Iterable[SliceReport]) -> str:
    rows = (
        (
            one.name,
            FOUND_BY[one.found_by],
            f"{one.num_rows:,}",
            f"{one.outcome:.3f}",
            "" if one.predicted is None else f"{one.predicted:.3f}",
            f"{one.excess.value:+.3f} ({one.excess.low:+.3f} to {one.excess.high:+.3f})",
            "" if one.roc_auc is None else span(one.roc_auc, 3),
        )
        for one in slices
    )
    return _table(
        ("slice", "why", "rows", "outcome", "predicted", "loss against the rest", "ROC-AUC"), rows
    )


def _importance(report: EvaluationReport) -> list[str]:
    if not report.importance:
        return []
    rows = [
        (one.column, f"{one.rise.value:+.4f}", f"{one.rise.low:+.4f} to {one.rise.high:+.4f}")
        for one in report.importance[:NUM_IMPORTANCE]
    ]
    more = len(report.importance) - len(rows)
    left = f"\n\n{more} other columns raise it less." if more > 0 else ""
    title = f"### What it leans on\n\nRise of the {report.loss} when a column is shuffled."
    return [f"{title}\n\n{_table(('column', 'rise', 'interval'), rows)}{left}"]


def _lineage(facts: Sequence[Fact]) -> str:
    return _table(("", "", ""), ((f.term, f"`{_cell(f.value)}`", f.note) for f in facts), raw=1)


def _epochs(card: ModelCard) -> str:
    if not card.epochs:
        return ""
    rows = (
        (
            str(one.number),
            f"{one.train_loss:.5f}",
            "" if one.stop_loss is None else f"{one.stop_loss:.5f}",
            "kept" if one.number == card.best_epoch else "",
        )
        for one in card.epochs
    )
    return _table(("epoch", "loss on train rows", "loss on stop rows", ""), rows)


def _columns(card: ModelCard) -> str:
    rows = ((c.name, c.kind, c.unit, c.privacy, c.use, c.description) for c in card.columns)
    return _table(("column", "kind", "unit", "privacy", "use", ""), rows)


def _commands(lines: Sequence[Fact]) -> list[str]:
    return [f"{_cell(line.term)}:\n\n```sh\n{line.value}\n```" for line in lines]


def span(metric: Metric, digits: int) -> str:
    """Write a figure with its interval.

    >>> span(Metric(value=0.71234, low=0.7, high=0.72), 3)
    '0.712 [0.700, 0.720]'
    """
    value, low, high = metric.value, metric.low, metric.high
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], raw: int | None = None) -> str:
    """Write a table; the column `raw` is Markdown already."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [text if place == raw else _cell(text) for place, text in enumerate(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    r"""Escape what would be markup.

    >>> print(_cell("a|b <i>"))
    a\|b &lt;i&gt;
    """
    flat = " ".join(text.split())
    for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "'")):
        flat = flat.replace(plain, safe)
    return flat
