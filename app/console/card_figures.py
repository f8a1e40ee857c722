"""Draw what a model card shows: curves, calibration, slices, importance, losses.

Knows the evaluation report and charts; knows nothing of the page around them.
"""

from collections.abc import Sequence

from app.console.charts import (
    ForestRow,
    Frame,
    area,
    axes,
    bars,
    curve,
    dot,
    forest,
    picture,
    upright,
)
from app.console.markup import Markup, tag
from app.console.plots import Scale, words
from app.contracts.evaluations import (
    Curves,
    EvaluationReport,
    Importance,
    OperatingPoint,
    SliceReport,
)
from app.contracts.records import Metric
from app.governance.model_card import FOUND_BY, EpochLosses

NUM_IMPORTANCE = 15
HISTOGRAM = 52.0
STYLES = {"declared": "calm", "loss": "bad", "too_low": "warn", "too_high": "warn"}
LONGEST_NAME = 60


def roc_chart(drawn: Curves, point: OperatingPoint) -> Markup:
    """Draw the ROC curve with the operating point."""
    frame = Frame.square((0.0, 1.0), (0.0, 1.0))
    negatives = point.false_positive + point.true_negative
    at = (point.false_positive / max(negatives, 1), point.recall.value)
    tip = f"operating point: {at[1]:.1%} of what happens is flagged, and {at[0]:.1%} of the rest"
    return picture(
        "ROC curve",
        axes(frame, "flagged of what did not happen", "flagged of what happened", percent=True),
        area(frame, drawn.roc, "under"),
        curve(frame, ((0.0, 0.0), (1.0, 1.0)), "reference"),
        curve(frame, drawn.roc, "main"),
        dot(frame, at, tip, "operating", 5.0),
    )


def pr_chart(drawn: Curves, point: OperatingPoint, share: float) -> Markup:
    """Draw precision against recall with the operating point; chance is the share of positives."""
    frame = Frame.square((0.0, 1.0), (0.0, 1.0))
    parts = [
        axes(frame, "flagged of what happened", "happened of what is flagged", percent=True),
        area(frame, drawn.pr, "under"),
        curve(frame, ((0.0, share), (1.0, share)), "reference"),
        curve(frame, drawn.pr, "main"),
    ]
    if point.precision is not None:
        at = (point.recall.value, point.precision.value)
        parts.append(dot(frame, at, f"precision {at[1]:.1%} at {at[0]:.1%}", "operating", 5.0))
    return picture("Precision and recall", *parts)


def reliability_chart(drawn: Curves) -> Markup:
    """Draw what happened against what was said, and below it how many rows were told what."""
    most = max(max(one.observed.high, one.predicted) for one in drawn.reliability)
    top = min(max(most * 1.08, 0.05), 1.0)
    frame = Frame.square((0.0, top), (0.0, top))
    parts = [
        axes(frame, "what was said", "what happened", percent=True),
        curve(frame, ((0.0, 0.0), (top, top)), "reference"),
    ]
    for one in drawn.reliability:
        seen = one.observed
        tip = f"{one.num_rows:,} rows: said {one.predicted:.1%}, happened {seen.value:.1%}"
        parts.append(upright(frame, one.predicted, seen.low, seen.high))
        parts.append(dot(frame, (one.predicted, seen.value), tip, "realised"))
    return picture("Calibration", _told(drawn, frame), *parts)


def _told(drawn: Curves, frame: Frame) -> Markup:
    """Draw at the bottom of a frame how many rows were told what."""
    bottom, step = frame.vertical.bottom, 1 / len(drawn.scores)
    shown = [count for place, count in enumerate(drawn.scores) if place * step < frame.high]
    edges = [min(place * step, frame.high) for place in range(len(shown) + 1)]
    scale = Scale(0.0, float(max(drawn.scores) or 1), bottom - HISTOGRAM, bottom)
    return bars(Frame(frame.left, frame.right, 0.0, frame.high, scale), edges, shown, "counts")


def losses_chart(epochs: Sequence[EpochLosses], best: int | None) -> Markup:
    """Draw the losses by epoch; the epoch that was kept is marked."""
    train = [(float(one.number), one.train_loss) for one in epochs]
    stop = [(float(one.number), one.stop_loss) for one in epochs if one.stop_loss is not None]
    values = [loss for _, loss in (*train, *stop)]
    air = max((max(values) - min(values)) * 0.15, 1e-4)
    last = max(float(epochs[-1].number), 2.0)
    frame = Frame.square((1.0, last), (min(values) - air, max(values) + air))
    frame = Frame(52.0, frame.right - 6, frame.low, frame.high, frame.vertical)
    parts = [axes(frame, "epoch", "loss"), curve(frame, train, "quiet")]
    for name, points, style in (("train rows", train, "quiet"), ("stop rows", stop, "main")):
        if not points:
            continue
        parts.append(curve(frame, points, style))
        parts += [dot(frame, at, f"{name}: {at[1]:.4f}", style, 2.6) for at in points]
        x, y = points[-1]
        parts.append(words(frame.x(x), frame.y(y) - 8, name, f"series {style}", "end"))
    parts += [
        dot(frame, at, f"kept: epoch {best}", "operating", 5.0) for at in stop if at[0] == best
    ]
    return picture("Losses by epoch", *parts)


def losses_by_slice(slices: Sequence[SliceReport], loss: str, unit: str) -> Markup:
    """Draw the loss of slices against that of the other rows of their days."""
    rows = [_slice_row(one, one.excess, unit) for one in slices]
    across = f"{loss} a row, less that of the other rows of the same days; right is worse"
    return _slices_forest(f"{loss} by slice", rows, across)


def gaps_by_slice(slices: Sequence[SliceReport], unit: str) -> Markup:
    """Draw by how much what happened differs from what was predicted."""
    rows = [_slice_row(one, one.gap, unit) for one in slices if one.gap is not None]
    across = "what happened, less what was predicted; right is predicted too low"
    return _slices_forest("Predictions by slice", rows, across)


def _slice_row(one: SliceReport, shown: Metric, unit: str) -> ForestRow:
    return ForestRow(
        name=_cut(one.name),
        note="" if one.found_by == "declared" else FOUND_BY[one.found_by],
        value=shown.value,
        low=shown.low,
        high=shown.high,
        style=STYLES[one.found_by],
        closing=(
            f"{one.num_rows:,}",
            _figure(one.outcome, unit),
            "–" if one.predicted is None else _figure(one.predicted, unit),
            "–" if one.roc_auc is None else f"{one.roc_auc.value:.3f}",
        ),
    )


def _slices_forest(title: str, rows: Sequence[ForestRow], across: str) -> Markup:
    headings = ("rows", "happened", "predicted", "ROC-AUC")
    return forest(title, rows, reference=0.0, across=across, left=545.0, headings=headings)


def importance_chart(importance: Sequence[Importance], loss: str) -> Markup:
    """Draw how much the loss rises when a column is shuffled, the largest first."""
    rows = [
        ForestRow(
            name=one.column,
            note="",
            value=one.rise.value,
            low=one.rise.low,
            high=one.rise.high,
            style="good" if one.rise.low > 0 else "calm",
            closing=(f"{one.rise.value:+.4f}",),
        )
        for one in importance[:NUM_IMPORTANCE]
    ]
    across = f"rise of the {loss} when the column is shuffled"
    return forest("Importance", rows, reference=0.0, across=across, left=190.0, headings=("rise",))


def captioned(drawing: Markup, title: str, text: str) -> Markup:
    """Put a title over a drawing and a line below it."""
    return tag("figure", tag("h3", title), drawing, tag("figcaption", text))


def curve_charts(report: EvaluationReport) -> list[Markup]:
    """Draw what only probabilities have."""
    drawn, point = report.curves, report.operating
    if drawn is None or point is None:
        return []
    area_under, precision = report.figures["roc_auc"], report.figures["pr_auc"]
    error = report.figures["calibration_error"]
    return [
        captioned(
            roc_chart(drawn, point),
            "Ranking",
            f"ROC-AUC {area_under.value:.3f}; the ring is the operating point, dots are chance.",
        ),
        captioned(
            pr_chart(drawn, point, report.outcome or 0.0),
            "Precision and recall",
            f"PR-AUC {precision.value:.3f}; chance is {report.outcome or 0.0:.1%}.",
        ),
        captioned(
            reliability_chart(drawn),
            "Calibration",
            f"Error {error.value:.3f}; {len(drawn.reliability)} bins of as many rows each. Bars: "
            "how many rows were told what.",
        ),
    ]


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _figure(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "%" else f"{value:.4g}"
