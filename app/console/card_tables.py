"""Write the tables of a model card: figures, lineage, columns, commands.

Knows the card and markup; knows nothing of plots.
"""

from collections.abc import Sequence

from app.console.markup import Markup, tag
from app.console.refusals import table
from app.contracts.evaluations import EvaluationReport
from app.contracts.records import Evaluation, Metric
from app.governance.model_card import FIGURE_NAMES, CardColumn, Fact


def figures_table(report: EvaluationReport, gate: Evaluation | None) -> Markup:
    """Tell every figure with its interval, and beside it the gate's, where there was one."""
    head = [("", ""), ("on stop rows", ""), (f"{report.confidence:.0%} interval", "")]
    if gate is not None:
        head += [(f"at the gate, {gate.num_rows:,} unseen rows", ""), ("interval", "")]
    rows = []
    for name, one in report.figures.items():
        digits = 4 if name in ("log_loss", "brier") else 3
        cells = [FIGURE_NAMES.get(name, name), *_figure(one, digits)]
        if gate is not None:
            cells += _gated(gate, name, digits)
        rows.append(tag("tr", *(tag("td", text) for text in cells)))
    return table(head, rows)


def _gated(gate: Evaluation, name: str, digits: int) -> list[str]:
    found = getattr(gate, name, None)
    if isinstance(found, Metric):
        return _figure(found, digits)
    return ["" if found is None else f"{found:.{digits}f}", ""]


def _figure(one: Metric, digits: int) -> list[str]:
    return [f"{one.value:.{digits}f}", f"{one.low:.{digits}f} to {one.high:.{digits}f}"]


def lineage_list(facts: Sequence[Fact]) -> Markup:
    """Tell what the version was made from."""
    items = []
    for fact in facts:
        value = tag("code", fact.value) if _is_name(fact.value) else tag("span", fact.value)
        items += [tag("dt", fact.term), tag("dd", value, tag("small", f" {fact.note}"))]
    return tag("dl", *items, class_="reading lineage")


def columns_table(columns: Sequence[CardColumn]) -> Markup:
    """Tell every column, its privacy class and what becomes of it."""
    rows = [
        tag(
            "tr",
            tag("td", column.name, tag("small", column.description), class_="about"),
            tag("td", ", ".join(filter(None, [column.kind, column.unit]))),
            tag("td", tag("span", column.privacy, class_=f"privacy {column.privacy}")),
            tag("td", column.use),
        )
        for column in columns
    ]
    head = [("column", ""), ("kind", ""), ("privacy", ""), ("use", "")]
    return table(head, rows)


def reproduce_list(commands: Sequence[Fact]) -> Markup:
    """Tell the commands that lead back here."""
    items = [
        part
        for one in commands
        for part in (tag("dt", one.term), tag("dd", tag("code", one.value, class_="command")))
    ]
    return tag("dl", *items, class_="reading")


def _is_name(value: str) -> bool:
    """Tell a digest from words."""
    return len(value) > 8 and " " not in value
