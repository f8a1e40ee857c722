"""Write the page's tables: every figure by month, and the versions that answered.

Knows scoreboards, versions and markup; knows nothing of how the figures came about.
"""

from collections.abc import Sequence
from datetime import datetime

from app.console.episodes import reigns
from app.console.markup import Markup, tag
from app.console.story import LoopReport, month_name
from app.contracts.records import ModelVersion
from app.loop.rehearsal import POLICIES, MonthScore, PolicyScores, Scoreboard, ScoreName

SCORES: tuple[tuple[ScoreName, str, bool], ...] = (
    ("roc_auc", "ROC-AUC", True),
    ("pr_auc", "PR-AUC", True),
    ("brier", "Brier score", False),
)
COLUMN_NAMES = {"static": "static", "last3": "last 3", "all": "all", "loop": "loop"}


def numbers_section(board: Scoreboard) -> Markup:
    """Tell every figure of the plots, month by month."""
    shown = [scores for name in POLICIES if (scores := board.of(name)) is not None]
    first = shown[0].months if shown else ()
    groups = [tag("th", name, colspan=len(shown), class_="group") for _, name, _ in SCORES]
    names = [
        tag("th", COLUMN_NAMES[one.policy], class_=_column(one, index))
        for _ in SCORES
        for index, one in enumerate(shown)
    ]
    head = tag(
        "thead",
        tag("tr", tag("th", ""), *groups, tag("th", ""), tag("th", "")),
        tag(
            "tr",
            tag("th", "month"),
            *names,
            tag("th", board.label, class_="first"),
            tag("th", "rows"),
        ),
    )
    rows = [tag("tr", *_month(month, _figures(shown, index))) for index, month in enumerate(first)]
    total = tag("td", f"{board.num_rows:,}")
    mean = tag(
        "tr",
        tag("td", "mean"),
        *_figures(shown, None),
        tag("td", "", class_="first"),
        total,
        class_="mean",
    )
    return tag(
        "section",
        tag("h2", "All the numbers"),
        tag(
            "p",
            "The best of each month is underlined; the mean counts every month the same.",
            _left_out(board),
        ),
        tag("div", tag("table", head, tag("tbody", *rows, mean)), class_="scroll"),
    )


def _month(month: MonthScore, figures: Sequence[Markup]) -> list[Markup]:
    return [
        tag("td", f"{month_name(month.month, 3)} {month.month[:4]}"),
        *figures,
        tag("td", f"{month.positive_share:.1%}", class_="first"),
        tag("td", f"{month.num_rows:,}"),
    ]


def _left_out(board: Scoreboard) -> str:
    if not board.num_left_out:
        return ""
    return f" {board.num_left_out:,} rows without an answer from every policy were left out."


def _figures(shown: Sequence[PolicyScores], index: int | None) -> list[Markup]:
    """Give the cells of one month, or of the means."""
    cells = []
    for score, _, higher in SCORES:
        values = [one.mean(score) if index is None else one.values(score)[index] for one in shown]
        digits = 4 if score == "brier" else 3
        known = [round(value, digits) for value in values if value is not None]
        differ = len(set(known)) > 1
        best = (max(known) if higher else min(known)) if differ else None
        for place, (one, value) in enumerate(zip(shown, values, strict=True)):
            text = "–" if value is None else f"{value:.{digits}f}"
            leads = value is not None and round(value, digits) == best
            cells.append(tag("td", text, class_=_column(one, place) + (" best" if leads else "")))
    return cells


def _column(one: PolicyScores, place: int) -> str:
    return f"{one.policy} first" if place == 0 else one.policy


def versions_section(report: LoopReport) -> Markup:
    """Say which bytes answered when, and what they were made from."""
    ruled = reigns(report.decisions)
    if not ruled:
        return Markup("")
    known = {version.digest: version for version in report.versions}
    head = [
        tag("th", name)
        for name in ("", "version", "answered", "made by", "learned from", "data", "code")
    ]
    rows = []
    for reign in ruled:
        until = _short(reign.end) if reign.end else "the end"
        cells = [
            tag("td", str(reign.number)),
            tag("td", tag("code", reign.version[:12], title=reign.version)),
            tag("td", f"{_short(reign.start)} to {until}"),
            *_origin(known.get(reign.version)),
        ]
        rows.append(tag("tr", *cells))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="versions")
    return tag(
        "section",
        tag("h2", "Versions that answered"),
        tag(
            "p",
            "A version is named by the digest of its manifest: "
            "the promoted bytes are the gated bytes.",
        ),
        tag("div", table, class_="scroll"),
    )


def _short(at: datetime) -> str:
    return f"{at.day} {month_name(f'{at:%Y-%m}', 3)} {at.year}"


def _origin(version: ModelVersion | None) -> list[Markup]:
    if version is None:
        return [tag("td", "") for _ in range(4)]
    dataset = version.dataset
    return [
        tag("td", version.run),
        tag("td", f"{dataset.num_known:,} rows until {_short(version.trained_until)}"),
        tag("td", tag("code", dataset.digest[:12], title=dataset.digest)),
        tag("td", tag("code", version.code_version[:12], title=version.code_version)),
    ]
