"""Write the report on one ingest as one self-contained HTML page: light, dark and on paper.

Knows the report and HTML; knows nothing of how rows were judged. The page runs no script and
fetches nothing; what came from outside is escaped by `markup`.
"""

from collections.abc import Sequence
from pathlib import Path

from app.console.columns import COLUMNS_STYLE, columns_section
from app.console.markup import Markup, join, tag
from app.console.page import META
from app.console.refusals import REFUSALS_STYLE, percent, refused_section, rules_section, table
from app.console.style import STYLE
from app.data.report import Counts, DeliveryReport, IngestReport, read_report

INGEST_STYLE = """
.verdict { border-left: 4px solid var(--good); background: var(--panel); margin: 30px 0 0;
  padding: 14px 20px; }
.verdict.warn { border-color: var(--warn); } .verdict.stop { border-color: var(--bad); }
.verdict b { font-weight: 640; } .verdict.warn b { color: var(--warn); }
.verdict.stop b { color: var(--bad); } .verdict.pass b { color: var(--good); }
.verdict small { color: var(--faint); font-size: 12.5px; margin-left: 5px; }
.verdict .stop small { color: var(--bad); } .verdict .warn small { color: var(--warn); }
.verdict p { margin: 0; } .verdict ul { margin: 6px 0 0; padding-left: 20px; }
.balance { display: flex; height: 12px; border-radius: 6px; overflow: hidden; margin: 22px 0 8px;
  background: var(--line); }
.balance i { display: block; height: 100%; } .balance .in { background: var(--good); }
.balance .out { background: var(--bad); min-width: 3px; }
.balance + p { color: var(--soft); font-size: 13.5px; margin: 0; }
.facts.five { grid-template-columns: repeat(5, 1fr); }
@media (max-width: 960px) { .facts.five { grid-template-columns: repeat(3, 1fr); } }
"""
MAX_DELIVERIES = 200
NO_BREAK = "\N{NO-BREAK SPACE}"
VERDICTS = {
    "pass": ("Brought in.", "Nothing stands against this ingest."),
    "warn": ("Brought in, with a warning.", "These bounds of the configuration were not kept:"),
    "stop": ("Stopped.", "Nothing of this ingest was brought in. Reasons:"),
}
READING = (
    (
        "In = accepted + quarantined",
        "Exactly, for every delivery and for the whole. Rows are counted where they are read, and "
        "again where they are parted; a report whose counts differ cannot be made.",
    ),
    (
        "Quarantined",
        "Kept in the quarantine table with every reason and its place in the file. A row can have "
        "several reasons, so they add up to more than the rows.",
    ),
    (
        "Earlier outcomes that found their rows",
        "Quarantined before because their row was unknown; it came, and they are in, apart from in "
        "= accepted + quarantined. The quarantine keeps what it had.",
    ),
    (
        "Rules",
        "A rule is broken where it is definitely false; a null leaves it open. It is not asked "
        "where a column that it names is wrong by itself.",
    ),
    (
        "Columns",
        "Figures are over the accepted rows. Quantiles and histograms are exact to one part in 256 "
        "of a value; the end bars hold what lies beyond the first and the last hundredth.",
    ),
    (
        "Withheld",
        "Of personal and quasi columns and of identifiers the page shows counts, never values. A "
        "forbidden column is left out before anything reads it.",
    ),
)


def page_of(report: Path) -> Path:
    """Name the page that belongs to a report's file."""
    return report.with_suffix(".html")


def write_ingest_page(report: Path) -> Path:
    """Write the page of a report beside it, aside first. Raises ValueError for no report."""
    path = page_of(report)
    aside = path.with_suffix(".html.tmp")
    aside.write_text(render_ingest(read_report(report)), encoding="utf-8")
    return aside.replace(path)


def render_ingest(report: IngestReport) -> str:
    """Give the page as HTML."""
    body = tag(
        "main",
        tag("header", *_header(report)),
        refused_section(report),
        rules_section(report),
        columns_section(report.columns),
        _forbidden(report),
        _deliveries(report),
        _reading(),
        tag(
            "footer",
            f"Model {report.model}, contract digest ",
            tag("code", report.contract),
            ". The page holds everything it shows; it loads nothing.",
        ),
    )
    title = f"{report.model}: ingest of {report.at:%Y-%m-%d %H:%M} UTC"
    style = Markup(STYLE + INGEST_STYLE + REFUSALS_STYLE + COLUMNS_STYLE)
    head = tag("head", META, tag("title", title), tag("style", style))
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _header(report: IngestReport) -> list[Markup]:
    until = f", rows asked before {report.until:%Y-%m-%d %H:%M}" if report.until else ""
    when = f" · validation of an ingest · {report.model} · {report.at:%Y-%m-%d %H:%M} UTC{until}"
    return [
        tag("p", tag("b", "Mainspring"), when, class_="over"),
        tag("h1", _headline(report)),
        _verdict(report),
        _facts(report),
        *_balance(report.rows),
    ]


def _headline(report: IngestReport) -> str:
    rows = report.rows
    if not rows.num_in:
        return "No new rows came in"
    if report.verdict.action == "stop":
        return f"{_rows(rows.num_in)} came, and none was let in"
    if not rows.num_quarantined:
        return f"{_rows(rows.num_in)} came in, and all of them keep the contract"
    share = percent(rows.num_quarantined / rows.num_in).replace(" ", NO_BREAK)
    refused = f"{rows.num_quarantined:,} ({share})"
    return f"{_rows(rows.num_in)} came in, {refused} {_were(rows.num_quarantined)} refused"


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _verdict(report: IngestReport) -> Markup:
    verdict = report.verdict
    name, more = VERDICTS[verdict.action]
    found = [
        tag("li", finding.reason, tag("small", f" {finding.response}"), class_=finding.response)
        for finding in verdict.findings
    ]
    listed = [tag("ul", *found)] if found else []
    said = tag("p", tag("b", name), f" {more}")
    return tag("div", said, *listed, class_=f"verdict {verdict.action}")


def _facts(report: IngestReport) -> Markup:
    volume, fresh, outcomes = report.volume, report.freshness, report.outcomes
    before = f"median before {volume.median:,g}" if volume.median is not None else ""
    age = "unknown" if fresh.age_hours is None else _age(fresh.age_hours)
    limit = "" if fresh.max_age_hours is None else f"at most {fresh.max_age_hours:g} h"
    refused = f"{outcomes.num_quarantined:,} refused"
    if report.num_readmitted:
        refused += f"; {report.num_readmitted:,} earlier ones found their rows"
    facts = (
        ("rows in", f"{report.rows.num_in:,}", before),
        ("accepted", f"{report.rows.num_accepted:,}", ""),
        ("quarantined", f"{report.rows.num_quarantined:,}", _kinds(len(report.reasons))),
        ("newest row's age", age, limit),
        ("outcomes in", f"{outcomes.num_in:,}", refused),
    )
    shown = [tag("div", tag("dt", n), tag("dd", v, tag("small", more))) for n, v, more in facts]
    return tag("dl", *shown, class_="facts five")


def _kinds(number: int) -> str:
    return f"{number} kind{'s' * (number != 1)} of reason" if number else ""


def _age(hours: float) -> str:
    """Write a time span.

    >>> _age(0.5), _age(30), _age(24 * 90), _age(-5)
    ('30 min', '30.0 h', '90 days', 'ahead by 5.0 h')
    """
    if hours < 0:
        return f"ahead by {_age(-hours)}"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:,.0f} days"


def _balance(rows: Counts) -> list[Markup]:
    if not rows.num_in:
        return []
    kept = rows.num_accepted / rows.num_in
    parts = [tag("i", class_="in", style=f"width:{kept:.4%}")]
    if rows.num_quarantined:
        parts.append(tag("i", class_="out", style=f"width:{1 - kept:.4%}"))
    sum_ = f"{rows.num_in:,} in = {rows.num_accepted:,} accepted + {rows.num_quarantined:,}"
    return [tag("div", *parts, class_="balance"), tag("p", f"{sum_} quarantined")]


def _forbidden(report: IngestReport) -> Markup:
    if not report.forbidden:
        return Markup("")
    rows = [
        tag(
            "tr",
            tag("td", item.column),
            tag("td", f"{item.num_deliveries:,}"),
            tag("td", f"{item.num_rows:,}"),
        )
        for item in report.forbidden
    ]
    said = "Declared as never to come in. Where a file had one it was left out unread."
    head = [("column", ""), ("deliveries that had it", ""), ("their rows", "")]
    return tag("section", tag("h2", "Forbidden columns"), tag("p", said), table(head, rows))


def _deliveries(report: IngestReport) -> Markup:
    parts = [tag("h2", "Deliveries")]
    for name, items in (("Rows", report.deliveries), ("Outcomes", report.outcome_deliveries)):
        if items:
            parts += [tag("h3", name, class_="sub"), _counts(items)]
    if len(parts) == 1:
        parts.append(tag("p", "Nothing new was delivered."))
    return tag("section", *parts)


def _counts(items: Sequence[DeliveryReport]) -> Markup:
    """Tell what became of each delivery; of very many, those of which most was refused."""
    more = len(items) - MAX_DELIVERIES
    if more > 0:
        items = sorted(items, key=lambda item: -item.num_quarantined)[:MAX_DELIVERIES]
    rows = [
        tag(
            "tr",
            tag("td", item.file or "", tag("small", f" {item.delivery[:12]}")),
            tag("td", f"{item.num_in:,}"),
            tag("td", f"{item.num_accepted:,}"),
            tag("td", f"{item.num_quarantined:,}"),
            tag("td", percent(item.num_quarantined / max(item.num_in, 1))),
            tag("td", ", ".join(item.left_out), class_="words"),
        )
        for item in items
    ]
    head = [("delivery", ""), ("in", ""), ("accepted", ""), ("quarantined", ""), ("share", "")]
    written = table([*head, ("left out", "words")], rows)
    if more <= 0:
        return written
    return join(
        [written, tag("p", f"{more:,} others, of which less was refused, are in the JSON.")]
    )


def _reading() -> Markup:
    listed = [item for term, text in READING for item in (tag("dt", term), tag("dd", text))]
    return tag("section", tag("h2", "How to read this page"), tag("dl", *listed, class_="reading"))
