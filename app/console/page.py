"""Write the loop's report as one self-contained HTML page: light, dark and on paper.

Knows the story of a replay and HTML; knows nothing of how the figures came about. The page runs no
script and fetches nothing; what came from outside (names, reasons, digests) is escaped by `markup`.
"""

import itertools
from pathlib import Path

from app.config import Config
from app.console.episodes import count_acts
from app.console.figure import timeline
from app.console.markup import Markup, tag
from app.console.numbers import SCORES, numbers_section, versions_section
from app.console.panels import HEAT_EDGES
from app.console.story import LoopReport, day, headline, lede
from app.console.style import STYLE
from app.console.telling import decisions_section

META = Markup(
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
)
KEY_OF_MARKS = (
    ("good", "promoted"),
    ("warn", "refused"),
    ("bad", "alert, failure or roll back"),
    ("calm", "first model, watch"),
)
READING = (
    (
        "The same rows",
        "Every figure is over the rows whose outcome is known in the end and that every policy "
        "answered. The loop's probabilities are those that the endpoint really gave over HTTP.",
    ),
    ("Static", "The loop's first champion, kept for ever."),
    (
        "Last three, everything",
        "Refitted at each month's start from the labels known then, by the same training code and "
        "splits as the loop's own models, and used without a gate. In the first month every policy "
        "is the first champion.",
    ),
    (
        "Loop",
        "Looks every {every_days} days at the {window_days} days before, names the cause, retrains "
        "at most {max_retrainings} times in {budget_days:g} days, and lets a candidate take over "
        "only where it beats the champion on days that shaped neither.",
    ),
    (
        "Intervals",
        "Bootstrap by day; the gate's cover {confidence:.0%}. A promotion needs the lower end of "
        "the AUC gain within days above {min_ranking_gain:g}.",
    ),
    (
        "PSI",
        "Population stability index: how far a column's live histogram moved from the champion's "
        "training rows. It starts again when a champion trained on newer rows takes over. Above "
        "{psi:g} a column counts as shifted; a shift alone harms nobody: it is a reason to look, "
        "and the gate decides.",
    ),
)


def render_page(report: LoopReport, config: Config) -> str:
    """Give the page as HTML."""
    board = report.scoreboard
    body = tag(
        "main",
        tag("header", *_header(report)),
        _timeline(report, config),
        decisions_section(report),
        numbers_section(board),
        versions_section(report),
        _reading(config),
        _footer(report, config),
    )
    title = f"{board.model}: the loop, {board.start:%B %Y} to {board.until:%B %Y}"
    head = tag(
        "head",
        META,
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def write_page(report: LoopReport, config: Config) -> Path:
    """Write the page to the workspace's reports, aside first: nobody sees half of it."""
    path = config.reports_path / "loop.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(render_page(report, config), encoding="utf-8")
    return aside.replace(path)


def _header(report: LoopReport) -> list[Markup]:
    board = report.scoreboard
    span = f"{day(board.start)} to {day(board.until)}"
    rest = f" · {board.model} · production replayed from {span} on a driven clock"
    over = tag("p", tag("b", "Mainspring"), rest, class_="over")
    return [
        over,
        tag("h1", headline(report)),
        tag("p", lede(report), class_="lede"),
        _facts(report),
    ]


def _facts(report: LoopReport) -> Markup:
    """Put the figures that matter most on one line."""
    counts, board = count_acts(report.decisions), report.scoreboard
    facts = []
    loop, static = board.of("loop"), board.of("static")
    for score, name, _ in SCORES:
        mean = loop.mean(score) if loop else None
        if mean is None:
            continue
        other = static.mean(score) if static else None
        against = f"static {other:.3f}" if other is not None else ""
        facts.append((f"mean {name}", f"{mean:.3f}", against))
    verdicts = (
        f"{counts.promotions} promoted, {counts.refusals} refused, {counts.rollbacks} taken back"
    )
    facts.append(("retrainings", str(counts.retrainings), verdicts))
    facts.append(("requests", f"{report.requests:,}", f"{report.failed:,} failed"))
    facts.append(("rows compared", f"{board.num_rows:,}", "with a known outcome"))
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value, tag("small", more)))
            for name, value, more in facts
        ),
        class_="facts",
    )


def _timeline(report: LoopReport, config: Config) -> Markup:
    threshold = config.loop.diagnosis.psi
    edges = [0.0, *(edge * threshold for edge in HEAT_EDGES)]
    names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
    swatches = [
        tag(
            "span",
            tag("svg", tag("rect", width=20, height=11, class_=f"heat-{level}"), class_="swatch"),
            name,
        )
        for level, name in enumerate([*names, f"over {edges[-1]:g}"])
    ]
    keys = [tag("div", *(_mark(*mark) for mark in KEY_OF_MARKS), class_="key")]
    if report.evidence:
        keys.append(tag("div", tag("span", "PSI"), *swatches, class_="key"))
    return tag(
        "section",
        tag("h2", "What happened, on one time axis"),
        tag(
            "p",
            "Four policies on the same rows. Upright lines mark where the loop changed the "
            "champion; numbers lead to the reasons.",
        ),
        tag("div", timeline(report, threshold), class_="scroll"),
        *keys,
        class_="figure",
    )


def _mark(style: str, meaning: str) -> Markup:
    return tag("span", tag("i", class_=f"spot {style}"), meaning)


def _reading(config: Config) -> Markup:
    loop = config.loop
    dials = {
        **config.monitoring.model_dump(include={"every_days", "window_days"}),
        **loop.governor.model_dump(include={"max_retrainings", "budget_days"}),
        **loop.gate.model_dump(include={"confidence", "min_ranking_gain"}),
        "psi": loop.diagnosis.psi,
    }
    said = [(term, text.format(**dials)) for term, text in READING]
    listed = [item for term, text in said for item in (tag("dt", term), tag("dd", text))]
    return tag("section", tag("h2", "How to read this page"), tag("dl", *listed, class_="reading"))


def _footer(report: LoopReport, config: Config) -> Markup:
    sections = ("source", "contract", "features", "training", "monitoring", "loop", "replay")
    made = f"Made {report.made_at:%Y-%m-%d %H:%M} UTC. " if report.made_at else ""
    return tag(
        "footer",
        f"{made}Model {config.name}, configuration digest ",
        tag("code", config.digest_of(*sections)),
        ". The page holds everything it shows; it loads nothing.",
    )
