"""Show why rows were refused: every reason with examples, every rule of the contract.

Knows the report and HTML; knows nothing of how rows were judged.
"""

from collections.abc import Iterable, Mapping, Sequence

from app.console.markup import Markup, tag
from app.data.report import Counts, ExampleReport, IngestReport, ReasonReport

SHOWN_PROBLEM = 240
REFUSALS_STYLE = """
.plain td, .plain th { vertical-align: top; }
.plain td.words, .plain th.words { text-align: left; white-space: normal; min-width: 190px;
  overflow-wrap: anywhere; }
.plain small { color: var(--faint); font-size: 12.5px; }
.plain .about { font-weight: 560; } .plain .about small { display: block; font-weight: 400; }
.plain .met { display: block; color: var(--soft); font-size: 13px; }
.plain .met code { color: var(--ink); background: var(--heat-0); padding: 0 5px;
  border-radius: 3px; margin-right: 3px; }
.plain td code + small { display: block; }
.plain .met code + small { display: inline; }
.meter { width: 90px; height: 7px; border-radius: 3px; background: var(--line);
  display: inline-block; overflow: hidden; vertical-align: middle; margin-left: 9px; }
.meter i { display: block; height: 100%; background: var(--heat-3); min-width: 2px; }
h3.sub { font-size: 15.5px; font-weight: 620; margin: 34px 0 6px; }
"""


def refused_section(report: IngestReport) -> Markup:
    """Tell every reason, how often it was met and where first."""
    parts = [tag("h2", "What was refused, and why")]
    files = {item.delivery: item.file for item in report.deliveries if item.file}
    if report.reasons:
        parts.append(_reasons(report.reasons, report.rows, files))
    else:
        parts.append(tag("p", "No row was."))
    if report.outcome_reasons:
        files = {item.delivery: item.file for item in report.outcome_deliveries if item.file}
        parts.append(tag("h3", "Outcomes", class_="sub"))
        parts.append(_reasons(report.outcome_reasons, report.outcomes, files))
    return tag("section", *parts)


def _reasons(reasons: Sequence[ReasonReport], of: Counts, files: Mapping[str, str]) -> Markup:
    most = max(reason.count for reason in reasons)
    rows = []
    for reason in reasons:
        meter = tag("span", tag("i", style=f"width:{reason.count / most:.2%}"), class_="meter")
        met = [_example(one, files) for one in reason.examples]
        about = "the row" if reason.of == "row" else reason.subject
        kind = "" if reason.of == "row" else reason.of
        rows.append(
            tag(
                "tr",
                tag("td", about, tag("small", kind), class_="about"),
                tag("td", _cut(reason.problem), class_="words"),
                tag("td", f"{reason.count:,}", meter),
                tag("td", percent(reason.count / max(of.num_in, 1))),
                tag("td", *met, class_="words"),
            )
        )
    head = [("", ""), ("problem", "words"), ("met", ""), ("share", ""), ("for example", "words")]
    return table(head, rows)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_PROBLEM else f"{text[:SHOWN_PROBLEM]}…"


def _example(one: ExampleReport, files: Mapping[str, str]) -> Markup:
    """Say where a reason was met, and what was got where that may be shown."""
    place = f"row {one.position:,} of {files.get(one.delivery, one.delivery[:8])}"
    value = [tag("code", one.got), " "] if one.got else []
    return tag("span", *value, tag("small", place), class_="met")


def table(head: Iterable[tuple[str, str]], rows: Sequence[Markup]) -> Markup:
    """Write a table of the page; a heading is its text and its class."""
    cells = [tag("th", text, class_=style or None) for text, style in head]
    inner = tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *rows), class_="plain")
    return tag("div", inner, class_="scroll")


def percent(share: float) -> str:
    """Write a share so that little is never nothing and nearly all is never all.

    >>> percent(0.0), percent(0.00002), percent(0.123), percent(0.99999), percent(1.0)
    ('0 %', '< 0.1 %', '12.3 %', '> 99.9 %', '100 %')
    """
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    if share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if share > 0.999 else f"{share * 100:.1f} %"


def rules_section(report: IngestReport) -> Markup:
    """Tell every rule of the contract and how often it was broken; nothing without rules."""
    if not report.rules:
        return Markup("")
    rows = [
        tag(
            "tr",
            tag("td", rule.name),
            tag("td", tag("code", rule.expect), tag("small", rule.description), class_="words"),
            tag("td", f"{rule.num_broken:,}"),
        )
        for rule in report.rules
    ]
    head = [("rule", ""), ("expects", "words"), ("rows that break it", "")]
    return tag("section", tag("h2", "Rules between columns"), table(head, rows))
