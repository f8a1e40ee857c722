"""Choose what each panel of the figure shows: scores by month, outcomes, realised quality, drift.

Knows scoreboards, evidence and the drawings of `plots`; knows nothing of decisions or pages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.console.markup import Markup, join
from app.console.plots import (
    Cell,
    Scale,
    Series,
    TimeAxis,
    Whisker,
    bars_panel,
    heading,
    heat_panel,
    lines_panel,
    rule,
    steps_panel,
    whiskers_panel,
)
from app.console.story import day, signed
from app.contracts.records import Evidence
from app.loop.rehearsal import Scoreboard, ScoreName

HEAT_ROWS = 12
HEAT_ROW = 19.0
HEAT_EDGES = (0.4, 1.0, 2.0, 4.0, 8.0)  # In multiples of the threshold; below the second is calm.
DRAWING_ORDER = ("static", "last3", "all", "loop")
LABELS = {"static": "static", "last3": "last three", "all": "everything", "loop": "loop"}


@dataclass(frozen=True)
class Panel:
    """A part of the figure: its height and how to draw it from a given top."""

    height: float
    draw: Callable[[float], Markup]


def heat_level(psi: float, threshold: float) -> int:
    """Pick one of six colours; 0 and 1 are below the threshold.

    >>> heat_level(0.0, 0.25), heat_level(0.26, 0.25), heat_level(9.0, 0.25)
    (0, 2, 5)
    """
    return sum(psi > edge * threshold for edge in HEAT_EDGES)


def shifted_share(evidence: Evidence, threshold: float) -> float:
    """Share of columns whose index is above the threshold."""
    return sum(column.psi > threshold for column in evidence.columns) / max(
        len(evidence.columns), 1
    )


def score_panels(axis: TimeAxis, board: Scoreboard) -> list[Panel]:
    """Compare the policies month by month."""
    return [
        _lines(
            axis,
            board,
            "roc_auc",
            210.0,
            ("ROC-AUC", "by month, higher is", "better; right: the mean"),
        ),
        _against(axis, board),
        _lines(
            axis,
            board,
            "pr_auc",
            120.0,
            ("PR-AUC", "higher is better; it", "rises with the share below"),
        ),
        _lines(
            axis,
            board,
            "brier",
            120.0,
            ("Brier score", "error of the probability,", "squared; lower is better"),
        ),
        _shares(axis, board),
    ]


def _lines(
    axis: TimeAxis, board: Scoreboard, score: ScoreName, height: float, said: Sequence[str]
) -> Panel:
    """Compare the policies in one score by month; the loop is drawn last, on top."""
    series = []
    for name in DRAWING_ORDER:
        scores = next((one for one in board.policies if one.policy == name), None)
        if scores is None:
            continue
        points = tuple(
            (_middle(axis, month.month), getattr(month, score)) for month in scores.months
        )
        mean = scores.mean(score)
        label = LABELS[name] if mean is None else f"{LABELS[name]} {mean:.3f}"
        series.append(Series(LABELS[name], points, name, label))
    values = [value for one in series for _, value in one.points if value is not None]

    def draw(top: float) -> Markup:
        scale = Scale.around(values, top, height)
        return join([heading(top, said[0], said[1:]), lines_panel(axis, scale, series, 3)])

    return Panel(height, draw)


def _against(axis: TimeAxis, board: Scoreboard) -> Panel:
    """Show every policy's AUC minus that of the static champion: what retraining was worth."""
    static = board.of("static")
    base = static.values("roc_auc") if static else ()
    series = []
    for name in DRAWING_ORDER[1:]:
        scores = next((one for one in board.policies if one.policy == name), None)
        if scores is None or not base:
            continue
        pairs = zip(board.months, scores.values("roc_auc"), base, strict=True)
        points = tuple(
            (_middle(axis, m), None if a is None or b is None else a - b) for m, a, b in pairs
        )
        gains = [gain for _, gain in points if gain is not None]
        mean = f" {signed(sum(gains) / len(gains))}" if gains else ""
        series.append(Series(LABELS[name], points, name, LABELS[name] + mean))
    values = [0.0, *(value for one in series for _, value in one.points if value is not None)]

    def draw(top: float) -> Markup:
        scale = Scale.around(values, top, 120.0)
        zero = rule(axis.left, scale.y(0.0), axis.right, scale.y(0.0), "zero")
        notes = ["ROC-AUC gained or lost", "against the first champion"]
        return join(
            [heading(top, "Against static", notes), zero, lines_panel(axis, scale, series, 3)]
        )

    return Panel(120.0, draw)


def _shares(axis: TimeAxis, board: Scoreboard) -> Panel:
    months = board.policies[0].months if board.policies else ()
    bars = [(*_span(axis, month.month), month.positive_share) for month in months]
    tips = [
        f"{month.num_rows:,} rows, {month.positive_share:.1%} {board.label}" for month in months
    ]
    said = (f"Share {board.label}", ["by month, on the rows", "of every policy"])

    def draw(top: float) -> Markup:
        scale = Scale.around([share for _, _, share in bars], top + 14, 60.0, zero=True)
        return join([heading(top, *said), bars_panel(axis, scale, bars, tips)])

    return Panel(74.0, draw)


def drift_panels(axis: TimeAxis, evidence: Sequence[Evidence], threshold: float) -> list[Panel]:
    """Show what monitoring saw; nothing without evidence."""
    ordered = sorted(evidence, key=lambda one: one.end)
    if not ordered:
        return []
    starts = [axis.start, *(one.end for one in ordered[:-1])]
    spans = [(max(start, one.start), one) for start, one in zip(starts, ordered, strict=True)]
    return [
        _realised(axis, ordered),
        _shifted(axis, spans, threshold),
        _heat(axis, spans, threshold),
    ]


def _realised(axis: TimeAxis, evidence: Sequence[Evidence]) -> Panel:
    """Show the champion's AUC as labels matured, against its figure from before it took traffic."""
    seen = [(one.end, one.performance.roc_auc) for one in evidence if one.performance is not None]
    whiskers = [Whisker(at, metric.value, metric.low, metric.high) for at, metric in seen]
    points: list[tuple[datetime, float | None]] = []
    for one in evidence:
        if points and points[-1][1] != one.reference.roc_auc.value:
            points += [(one.end, points[-1][1]), (one.end, None)]
        points.append((one.end, one.reference.roc_auc.value))
    reference = Series("reference", tuple(points), "reference", "reference")
    values = [value for w in whiskers for value in (w.low, w.high)]
    values += [value for _, value in points if value is not None]
    notes = ["of the champion, as labels", "matured; a window ends", "at its mark"]

    def draw(top: float) -> Markup:
        scale = Scale.around(values, top, 110.0)
        return join(
            [heading(top, "Realised AUC", notes), whiskers_panel(axis, scale, whiskers, reference)]
        )

    return Panel(110.0, draw)


def _shifted(axis: TimeAxis, spans: Sequence[tuple[datetime, Evidence]], threshold: float) -> Panel:
    steps = [(start, one.end, shifted_share(one, threshold)) for start, one in spans]
    notes = [f"PSI above {threshold:g} against", "the champion's training"]

    def draw(top: float) -> Markup:
        scale = Scale(0.0, max(0.2, *(share for _, _, share in steps)) * 1.05, top, top + 50)
        return join([heading(top, "Columns shifted", notes), steps_panel(axis, scale, steps)])

    return Panel(52.0, draw)


def _heat(axis: TimeAxis, spans: Sequence[tuple[datetime, Evidence]], threshold: float) -> Panel:
    """Show the columns that moved furthest, one cell an evidence."""
    rows = []
    for column, peak in _furthest(spans):
        cells = []
        for start, one in spans:
            drift = next((d for d in one.columns if d.column == column), None)
            if drift is not None:
                tip = f"{column}, {day(one.end)}: PSI {drift.psi:.2f}"
                cells.append(Cell(start, one.end, heat_level(drift.psi, threshold), tip))
        rows.append((column.replace("_", " "), cells, f"peak {peak:.2f}"))

    def draw(top: float) -> Markup:
        return join([heading(top - 18, "Which columns", []), heat_panel(axis, top, HEAT_ROW, rows)])

    return Panel(HEAT_ROW * len(rows), draw)


def _furthest(spans: Sequence[tuple[datetime, Evidence]]) -> list[tuple[str, float]]:
    peaks: dict[str, float] = {}
    for _, one in spans:
        for drift in one.columns:
            peaks[drift.column] = max(peaks.get(drift.column, 0.0), drift.psi)
    return sorted(peaks.items(), key=lambda item: (-item[1], item[0]))[:HEAT_ROWS]


def _span(axis: TimeAxis, month: str) -> tuple[datetime, datetime]:
    """Give the part of a month that the axis shows."""
    return next(
        (span for span in axis.months() if f"{span[0]:%Y-%m}" == month), (axis.start, axis.end)
    )


def _middle(axis: TimeAxis, month: str) -> datetime:
    start, end = _span(axis, month)
    return start + (end - start) / 2
