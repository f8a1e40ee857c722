"""Write a model card as one self-contained HTML page: light, dark and on paper.

Knows the card and HTML; knows nothing of how its figures came about. The page runs no script and
fetches nothing; what came from outside is escaped by `markup`.
"""

import uuid
from pathlib import Path

from app.console.card_decisions import decision_sections, interval
from app.console.card_figures import (
    captioned,
    curve_charts,
    gaps_by_slice,
    importance_chart,
    losses_by_slice,
    losses_chart,
)
from app.console.card_style import CARD_STYLE
from app.console.card_tables import columns_table, figures_table, lineage_list, reproduce_list
from app.console.markup import Markup, tag
from app.console.page import META
from app.console.refusals import REFUSALS_STYLE
from app.console.style import STYLE
from app.contracts.evaluations import EvaluationReport
from app.governance.card_markdown import render_markdown
from app.governance.model_card import FIGURE_NAMES, OPTIMISM, TOGETHER, ModelCard

NO_REPORT = (
    "No report lies beside the run of this version: it was recalibrated, or trained before there "
    "were reports. Train it again to have one."
)


def write_cards(card: ModelCard, folder: Path) -> tuple[Path, Path]:
    """Write the page and its Markdown under the version's short digest; nobody sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    page, text = (folder / f"{card.digest[:12]}{suffix}" for suffix in (".html", ".md"))
    for path, content in ((page, render_card(card)), (text, render_markdown(card))):
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        aside.write_text(content, encoding="utf-8")
        aside.replace(path)
    return page, text


def render_card(card: ModelCard) -> str:
    """Give the page as HTML."""
    body = tag(
        "main",
        tag("header", *_header(card)),
        _intended(card),
        *_measured(card),
        _origin(card),
        _columns(card),
        _reproduce(card),
        tag("footer", "The page holds everything it shows; it loads nothing."),
    )
    style = Markup(STYLE + REFUSALS_STYLE + CARD_STYLE)
    title = tag("title", f"{card.model}: model card of {card.digest[:12]}")
    head = tag("head", META, title, tag("style", style))
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _header(card: ModelCard) -> list[Markup]:
    role = f" · {card.role}" if card.role != "none" else ""
    when = f" · model card · {card.model}{role} · {card.kind} {card.created_at:%Y-%m-%d %H:%M} UTC"
    version = ("Version ", tag("code", card.digest[:12]), " of run ", tag("code", card.run))
    lead = (
        f", asked {card.lead_minutes:g} minutes before the event. " if card.lead_minutes else ". "
    )
    says = ("It predicts ", tag("code", card.label), f" ({card.task})", lead, *version, ".")
    return [
        tag("p", tag("b", "Mainspring"), when, class_="over"),
        tag("h1", _headline(card)),
        tag("p", *says, class_="lede"),
        _facts(card),
    ]


def _headline(card: ModelCard) -> str:
    purpose = card.statements[0]
    return (
        purpose.says[0] if purpose.stated else f"{card.model}: what its purpose is, nobody stated"
    )


def _facts(card: ModelCard) -> Markup:
    facts = [("rows learned from", _count(card.num_rows_learned), "with known outcomes")]
    if card.gate is not None:
        low, high = card.gate.roc_auc.low, card.gate.roc_auc.high
        facts.append(
            ("ROC-AUC at its gate", f"{card.gate.roc_auc.value:.3f}", interval(low, high, 3))
        )
    shown = {} if card.report is None else card.report.figures
    if card.report is None:
        facts += [
            (FIGURE_NAMES.get(name, name), f"{value:.4g}", "on its stop rows")
            for name, value in card.evaluation.figures.items()
        ]
    for name, title, digits in _HEADLINE_FIGURES:
        if name in shown:
            one = shown[name]
            facts.append((title, f"{one.value:.{digits}f}", interval(one.low, one.high, digits)))
    facts = facts[:6]
    drawn = [tag("div", tag("dt", t), tag("dd", v, tag("small", more))) for t, v, more in facts]
    return tag(
        "dl", *drawn, class_="facts", style=f"grid-template-columns:repeat({len(facts)},1fr)"
    )


_HEADLINE_FIGURES = (
    ("roc_auc", "ROC-AUC", 3),
    ("pr_auc", "PR-AUC", 3),
    ("macro_roc_auc", "macro ROC-AUC", 3),
    ("accuracy", "accuracy", 3),
    ("log_loss", "log loss", 4),
    ("brier", "Brier score", 4),
    ("calibration_error", "calibration error", 3),
    ("rmse", "RMSE", 4),
    ("mae", "MAE", 4),
    ("r2", "R²", 3),
    ("ndcg_at_10", "NDCG@10", 3),
    ("mrr", "MRR", 3),
)


def _intended(card: ModelCard) -> Markup:
    items = []
    for one in card.statements:
        style = None if one.stated else "unstated"
        said = [tag("p", one.says[0])] if len(one.says) == 1 else []
        listed = [tag("ul", *(tag("li", line) for line in one.says))] if len(one.says) > 1 else []
        items += [tag("dt", one.term), tag("dd", *said, *listed, class_=style)]
    heading = tag("h2", "Intended use and limits")
    return tag("section", heading, tag("dl", *items, class_="reading stated"))


def _measured(card: ModelCard) -> list[Markup]:
    report = card.report
    if report is None:
        return [tag("section", tag("h2", "How well it does"), tag("p", NO_REPORT))]
    when = f"{report.num_rows:,} rows asked from {report.start:%d %B %Y} to {report.end:%d %B %Y}"
    drawn = curve_charts(report)
    section = tag(
        "section",
        tag("h2", "How well it does"),
        tag("p", f"On its stop rows: {when}."),
        tag("p", tag("b", "Optimistic. "), OPTIMISM, " ", TOGETHER, class_="caution"),
        *([tag("div", *drawn, class_="charts")] if drawn else []),
        figures_table(report, card.gate),
    )
    return [section, *decision_sections(report), *_slices(report), *_importance(report)]


def _slices(report: EvaluationReport) -> list[Markup]:
    search, unit = report.search, "%" if report.task == "binary" else ""
    found = search.found if search is not None else ()
    if not report.declared and search is None:
        return []
    parts = [tag("h2", "Where it does worse")]
    if search is not None:
        withheld = f" {search.num_withheld} are not public and were left out."
        parts.append(
            tag(
                "p",
                f"{search.num_tested:,} slices of one or two of {search.num_columns} public "
                "columns were compared with the other rows of the same days; "
                f"{search.num_significant:,} stand out after control of false discoveries. Those "
                "whose excess is surest come first, without near repeats. They were chosen on "
                "these rows, so that a next look will find them less extreme.",
                withheld if search.num_withheld else "",
            )
        )
    hard = [one for one in found if one.found_by == "loss"]
    biased = [one for one in found if one.found_by != "loss"]
    for title, slices in (("Declared", report.declared), ("Found: hard to predict", hard)):
        if slices:
            parts += _titled(title, losses_by_slice(slices, report.loss, unit))
    if biased:
        parts += _titled("Found: predicted too low or too high", gaps_by_slice(biased, unit))
    if search is not None and not found:
        parts.append(tag("p", "No slice stands out."))
    return [tag("section", *parts)]


def _titled(title: str, drawing: Markup) -> list[Markup]:
    return [tag("h3", title, class_="sub"), tag("div", drawing, class_="scroll")]


def _importance(report: EvaluationReport) -> list[Markup]:
    if not report.importance:
        return []
    said = (
        f"Each column was shuffled over {report.importance_rows:,} rows. What columns share is "
        "credited to none of them, since each stands in for the others; a small rise is no proof "
        "that a column is idle."
    )
    drawn = importance_chart(report.importance, report.loss)
    more = len(report.importance) - 15
    left = [tag("p", f"{more} other columns raise it less.", class_="more")] if more > 0 else []
    parts = (tag("h2", "What it leans on"), tag("p", said), tag("div", drawn, class_="scroll"))
    return [tag("section", *parts, *left)]


def _origin(card: ModelCard) -> Markup:
    """Tell what the version was made from, and how its losses fell."""
    drawn = []
    if card.epochs:
        text = f"The search kept epoch {card.best_epoch}."
        if card.refit_epochs:
            text += f" The served weights: {len(card.refit_epochs)} epochs on the stop rows too."
        drawn.append(captioned(losses_chart(card.epochs, card.best_epoch), "Training", text))
    return tag(
        "section",
        tag("h2", "Where it comes from"),
        tag("div", lineage_list(card.lineage), *drawn, class_="origin"),
    )


def _columns(card: ModelCard) -> Markup:
    said = (
        "Of a personal column only a keyed pseudonym is kept, and no model sees it; personal and "
        "quasi columns are encrypted at rest; a forbidden one never comes in."
    )
    return tag("section", tag("h2", "Columns"), tag("p", said), columns_table(card.columns))


def _reproduce(card: ModelCard) -> Markup:
    return tag("section", tag("h2", "How to reproduce it"), reproduce_list(card.reproduce))


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"
