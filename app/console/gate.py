"""Draw a gate's paired comparison: gains with their intervals against no gain at all.

Knows a gate's report; knows nothing of how it judged.
"""

from app.console.markup import Markup, tag
from app.console.plots import rule, words
from app.console.story import signed
from app.contracts.records import GateReport, Metric

WIDTH = 300.0
LEFT = 92.0
RIGHT = 244.0
ROW = 21.0
# A recalibration keeps the order of rows, and then every gain is 0.
SMALLEST_REACH = 0.002


def gate_figure(report: GateReport) -> Markup:
    """Show the AUC gain overall and by slice, and the Brier gain in words; right is better."""
    rows = [("AUC gain", report.auc_gain, True)] if report.auc_gain is not None else []
    if report.ranking_gain is not None:
        rows.append(("within days", report.ranking_gain, True))
    rows += [(name.split("=")[-1], metric, False) for name, metric in sorted(report.slices.items())]
    edges = [abs(edge) for _, metric, _ in rows for edge in (metric.low, metric.high)]
    reach = max([SMALLEST_REACH, *edges])
    drawn = [rule(_x(0.0, reach), 2, _x(0.0, reach), 6 + ROW * len(rows), "bound")]
    drawn += [
        _row(name, metric, reach, index, main=main)
        for index, (name, metric, main) in enumerate(rows)
    ]
    height = 10 + ROW * len(rows)
    drawn.append(words(_x(0.0, reach), height + 8, "no gain", "note", "middle"))
    if report.brier_gain is not None:
        gain = report.brier_gain
        text = f"Brier gain {signed(gain.value, 4)} [{signed(gain.low, 4)}, {signed(gain.high, 4)}]"
        drawn.append(words(0.0, height + 28, text))
    drawn.append(
        words(0.0, height + 44, f"on {report.num_rows:,} rows of {report.num_days} days held out")
    )
    return tag(
        "svg", *drawn, viewBox=f"0 0 {WIDTH:.0f} {height + 50:.0f}", class_="gate", role="img"
    )


def _row(name: str, metric: Metric, reach: float, index: int, *, main: bool) -> Markup:
    y = 14 + ROW * index
    span = f"{signed(metric.value)} [{signed(metric.low)}, {signed(metric.high)}]"
    return tag(
        "g",
        tag("title", f"{name}: {span}"),
        words(0.0, y + 4, name[:14]),
        rule(_x(metric.low, reach), y, _x(metric.high, reach), y, "span"),
        tag("circle", cx=_x(metric.value, reach), cy=y, r=3.6 if main else 2.8),
        words(WIDTH, y + 4, signed(metric.value), anchor="end"),
        class_="main" if main else "slice",
    )


def _x(value: float, reach: float) -> float:
    return (LEFT + RIGHT) / 2 + value / reach * (RIGHT - LEFT) / 2
