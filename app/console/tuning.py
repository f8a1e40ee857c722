"""Write what a search tried as one self-contained HTML page: light, dark and on paper.

Knows the search's report and HTML; knows nothing of how trials are fitted. The page runs no script
and fetches nothing; what came from outside is escaped by `markup`.
"""

from pathlib import Path

from app.console.markup import Markup, tag
from app.console.page import META
from app.console.refusals import table
from app.console.style import STYLE
from app.console.trial_plots import (
    curves_figure,
    kind_of,
    number,
    parallel_figure,
    progress_figure,
    setting_figure,
)
from app.model.manifest import write_file
from app.sections.tuning import Dimension
from app.training.study import TrialRecord
from app.training.tuning import SearchReport

TUNING_STYLE = """
.search { width: 100%; height: auto; overflow: visible; }
.search .tick { font-size: 11.5px; fill: var(--soft); } .search .note { font-size: 11.5px;
  fill: var(--faint); }
.search .setting { font-size: 12.5px; font-weight: 620; fill: var(--ink); }
.search .named { font-size: 12.5px; font-weight: 680; fill: var(--loop); }
.search .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 3.5px; }
.trial path, .thread path { fill: none; stroke-linejoin: round; }
.trial path { stroke: var(--static); stroke-width: 1.2; stroke-opacity: 0.55; }
.trial circle { fill: var(--static); fill-opacity: 0.8; }
.trial.complete path { stroke: var(--all); stroke-width: 1.5; stroke-opacity: 0.9; }
.trial.complete circle { fill: var(--all); }
.trial.best path { stroke: var(--loop); stroke-width: 3; stroke-opacity: 1; }
.trial.best circle { fill: var(--loop); }
.search .dot circle { fill: var(--paper); stroke: var(--static); stroke-width: 1.5; }
.search .dot.complete circle { fill: var(--all); stroke: var(--paper); stroke-width: 1; }
.search .dot.best circle { fill: var(--loop); stroke: var(--paper); stroke-width: 1.4; }
.so-far { fill: none; stroke: var(--loop); stroke-width: 1.6; stroke-opacity: 0.6; }
.axis { stroke: var(--faint); stroke-width: 1; }
.thread path { stroke-width: 1.2; } .thread.rank-0 path { stroke: var(--all); stroke-width: 1.8; }
.thread.rank-1 path { stroke: var(--all); stroke-opacity: 0.5; }
.thread.rank-2 path { stroke: var(--static); stroke-opacity: 0.45; }
.thread.rank-3 path { stroke: var(--static); stroke-opacity: 0.25; }
.thread.best path { stroke: var(--loop); stroke-width: 3; }
.settings { display: grid; grid-template-columns: repeat(3, 1fr); gap: 26px 30px; margin-top: 8px; }
@media (max-width: 960px) { .settings { grid-template-columns: 1fr; } }
.swatch.best { background: var(--loop); } .swatch.complete { background: var(--all); }
.swatch.stopped { background: var(--static); }
tr.best td { color: var(--loop); font-weight: 620; } tr.stopped td { color: var(--faint); }
"""
STATES = {
    "complete": "to its end",
    "stopped": "stopped early",
    "failed": "failed",
    "unfinished": "unfinished",
}
READING = (
    (
        "Loss",
        "What early stopping judges by, on the rows that stop training; of two outcomes the log "
        "loss after calibration. Lower is better. The rows of the gate were seen by no trial.",
    ),
    (
        "Best",
        "The lowest loss among trials that came to their end. The best of many is lucky as well as "
        "good: expect a part of its lead to be gone on new rows. The gate will tell.",
    ),
    (
        "Stopped early",
        "After an epoch at which the search compares, a trial behind most others makes room "
        "(asynchronous successive halving).",
    ),
    (
        "Scales",
        "Losses far above those of trials that came to their end are held at the upper edge, so "
        "that the good ones can be told apart.",
    ),
)


def write_tuning_page(report: SearchReport, path: Path) -> None:
    """Write the page of a search, aside first."""
    write_file(path, render_tuning(report).encode())


def render_tuning(report: SearchReport) -> str:
    """Give the page as HTML."""
    body = tag(
        "main",
        tag("header", *_header(report)),
        _best(report),
        *_figures(report),
        _trials(report),
        _reading(),
        tag(
            "footer",
            f"Model {report.model}, rows ",
            tag("code", report.dataset.digest[:16]),
            f" before {report.dataset.end:%Y-%m-%d %H:%M} UTC, the same for every trial. "
            "The page holds everything it shows; it loads nothing.",
        ),
    )
    title = f"{report.model}: search {report.run}"
    head = tag("head", META, tag("title", title), tag("style", Markup(STYLE + TUNING_STYLE)))
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _header(report: SearchReport) -> list[Markup]:
    when = f" · search {report.run} · {report.created_at:%Y-%m-%d %H:%M} UTC"
    return [
        tag("p", tag("b", "Mainspring"), when, class_="over"),
        tag("h1", _headline(report)),
        tag("p", _lede(report), class_="lede"),
        _facts(report),
    ]


def _headline(report: SearchReport) -> str:
    best, current = report.best, _current(report)
    trials = f"{len(report.trials)} trial{'s' * (len(report.trials) != 1)}"
    if best is None or best.loss is None:
        return f"{trials}, and none has given a loss yet"
    if current is None or current.loss is None:
        return f"{trials}, the best with a loss of {best.loss:.5f}"
    if best.number == current.number:
        return f"{trials}, and none did better than the settings as they stand"
    return f"{trials} took the loss from {current.loss:.5f} to {best.loss:.5f}"


def _lede(report: SearchReport) -> str:
    first = "Trial 0 had the settings as they stood. " if report.began_with_current else ""
    num_left = report.num_wanted - len(report.trials) + report.num_of("unfinished")
    if num_left <= 0:
        return f"{first}Every trial of the search has ended."
    return f"{first}{num_left} of {report.num_wanted} are still to come: the same command goes on."


def _current(report: SearchReport) -> TrialRecord | None:
    return report.trials[0] if report.began_with_current else None


def _facts(report: SearchReport) -> Markup:
    best = report.best
    loss = "–" if best is None or best.loss is None else f"{best.loss:.5f}"
    epochs = sum(len(trial.epochs) for trial in report.trials)
    minutes = "" if report.max_minutes is None else f"of {report.max_minutes:g}"
    facts = (
        ("best loss", loss, "" if best is None else f"trial {best.number}"),
        ("trials", str(len(report.trials)), f"of {report.num_wanted}"),
        ("to their end", str(report.num_of("complete")), ""),
        ("stopped early", str(report.num_of("stopped")), f"{report.num_of('failed')} failed"),
        ("epochs in all", f"{epochs:,}", ""),
        ("minutes", f"{report.seconds / 60:.1f}", minutes),
    )
    shown = [tag("div", tag("dt", n), tag("dd", v, tag("small", more))) for n, v, more in facts]
    return tag("dl", *shown, class_="facts")


def _best(report: SearchReport) -> Markup:
    """Tell the best settings beside the ones as they stood."""
    best, current = report.best, _current(report)
    if best is None:
        return Markup("")
    rows = [
        tag(
            "tr",
            tag("td", tag("code", key)),
            tag("td", number(best.values[key])),
            *([tag("td", number(current.values[key]))] if current else []),
            tag("td", _range(dimension)),
        )
        for key, dimension in sorted(report.space.items())
    ]
    head = [("setting", ""), ("best", ""), *([("as it stood", "")] if current else [])]
    said = (
        "The settings of the best trial. The file best.yaml beside this page is the whole "
        "configuration with them written in: train with it."
    )
    return tag(
        "section",
        tag("h2", "The best settings"),
        tag("p", said),
        table([*head, ("searched", "")], rows),
    )


def _range(dimension: Dimension) -> str:
    if dimension.choice is not None:
        return " · ".join(number(value) for value in dimension.choice)
    low, high = dimension.values
    return f"{number(low)} to {number(high)}{', log' if dimension.is_log else ''}"


def _figures(report: SearchReport) -> list[Markup]:
    if report.best is None:
        return []
    settings = [
        setting_figure(key, dimension, report.trials)
        for key, dimension in sorted(report.space.items())
    ]
    said = "Each line is a trial; a grey one was stopped where it ends."
    figures = [
        _section("Loss by epoch", said, _key(), curves_figure(report.trials)),
        _section(
            "Trial after trial", "The line is the best so far.", progress_figure(report.trials)
        ),
        _section(
            "Setting by setting",
            "A slope or a valley says that a setting matters; an even cloud says that it does not.",
            tag("div", *settings, class_="settings"),
        ),
    ]
    if len(report.space) > 1:
        said = "One line a trial; the better its loss, the stronger the line."
        figures.append(_section("All at once", said, parallel_figure(report.space, report.trials)))
    return figures


def _section(name: str, said: str, *parts: Markup) -> Markup:
    return tag("section", tag("h2", name), tag("p", said), *parts)


def _key() -> Markup:
    entries = (("best", "best"), ("complete", "came to its end"), ("stopped", "stopped early"))
    return tag(
        "div",
        *[tag("span", tag("i", class_=f"swatch {style}"), text) for style, text in entries],
        class_="key",
    )


def _trials(report: SearchReport) -> Markup:
    keys = sorted(report.space)
    rows = [
        tag(
            "tr",
            tag("td", str(trial.number)),
            tag("td", "–" if trial.loss is None else f"{trial.loss:.5f}"),
            tag("td", str(len(trial.epochs))),
            tag("td", f"{trial.seconds:,.0f}"),
            *[tag("td", number(trial.values[key])) for key in keys],
            tag("td", " ".join(filter(None, (STATES[trial.state], trial.reason))), class_="words"),
            class_=kind_of(trial, report.best),
        )
        for trial in report.trials
    ]
    settings = [(key.rpartition(".")[2], "") for key in keys]
    head = [("trial", ""), ("loss", ""), ("epochs", ""), ("seconds", ""), *settings, ("", "words")]
    return tag("section", tag("h2", "All trials"), table(head, rows))


def _reading() -> Markup:
    listed = [item for term, text in READING for item in (tag("dt", term), tag("dd", text))]
    return tag("section", tag("h2", "How to read this page"), tag("dl", *listed, class_="reading"))
