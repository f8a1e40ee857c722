"""Compose the replay's one figure: decisions, scores by month and drift on one time axis.

Knows the loop's records and which panel shows what; knows nothing of pages or colours.
"""

from collections.abc import Sequence

from app.console.episodes import Episode, Reign, episodes, reigns
from app.console.markup import Markup, join, tag
from app.console.panels import drift_panels, score_panels
from app.console.plots import WIDTH, TimeAxis, heading, rule, spread, words
from app.console.story import LoopReport, day, month_name
from app.contracts.times import midnight

GAP = 36.0
MARKS = {
    "promoted": "good",
    "refused": "warn",
    "rolled back": "bad",
    "alert": "bad",
    "failed": "bad",
    "kept": "calm",
    "watching": "calm",
    "under way": "calm",
}


def timeline(report: LoopReport, psi_threshold: float) -> Markup:
    """Draw everything that happened, from the decisions at the top to the drift at the bottom."""
    board = report.scoreboard
    axis = TimeAxis(midnight(board.start), midnight(board.until))
    told, ruled = episodes(report.decisions), reigns(report.decisions)
    panels = [*score_panels(axis, board), *drift_panels(axis, report.evidence, psi_threshold)]
    y = 86.0
    parts = [_decision_lane(axis, told), _reign_lane(axis, ruled, 46.0), _month_names(axis, y)]
    for panel in panels:
        y += GAP
        parts.append(panel.draw(y))
        y += panel.height
    parts += [_changes(axis, ruled, 96.0, y + 4), _month_names(axis, y + 24)]
    return tag(
        "svg",
        tag("title", "Decisions, scores by month and drift on one time axis"),
        *parts,
        viewBox=f"0 0 {WIDTH:.0f} {y + 32:.0f}",
        role="img",
        class_="timeline",
    )


def _decision_lane(axis: TimeAxis, told: Sequence[Episode]) -> Markup:
    """Number the episodes where they ended; marks that fall on one another move apart."""
    places = spread([axis.x(one.at) for one in told], axis.left, axis.right, gap=23.0)
    drawn: list[Markup] = [heading(4.0, "Decisions", ["told below by number"])]
    for one, x in zip(told, places, strict=True):
        style = f"mark {'calm' if one.first_model else MARKS[one.ending]}"
        drawn.append(rule(x, 24, axis.x(one.at), 46, "stem"))
        label = tag("text", str(one.number), x=x, y=17, text_anchor="middle")
        circle = tag("circle", tag("title", f"{day(one.at)}: {one.title}"), cx=x, cy=13, r=10)
        drawn.append(
            tag("a", tag("g", circle, label, class_=style), href=f"#decision-{one.number}")
        )
    return join(drawn)


def _reign_lane(axis: TimeAxis, ruled: Sequence[Reign], top: float) -> Markup:
    """Show which version answered when."""
    drawn: list[Markup] = [words(axis.left - 8, top + 14, "champion", "tick", "end")]
    for reign in ruled:
        left, right = axis.x(reign.start), axis.x(reign.end or axis.end)
        if right - left < 1:
            continue
        tip = tag("title", f"champion {reign.number}: {reign.version}, from {day(reign.start)}")
        shape = tag(
            "rect",
            tip,
            x=left,
            y=top,
            width=right - left - 1,
            height=20,
            class_=f"reign-{reign.number % 2}",
        )
        drawn.append(shape)
        name = f"{reign.number} · {reign.version[:8]}" if right - left > 84 else str(reign.number)
        drawn.append(words((left + right) / 2, top + 14, name, "reign", "middle"))
    return join(drawn)


def _changes(axis: TimeAxis, ruled: Sequence[Reign], top: float, bottom: float) -> Markup:
    """Carry the changes of the champion through every panel."""
    return join(rule(axis.x(r.start), top, axis.x(r.start), bottom, "change") for r in ruled[1:])


def _month_names(axis: TimeAxis, y: float) -> Markup:
    names = []
    for start, end in axis.months():
        middle = (axis.x(start) + axis.x(end)) / 2
        names.append(words(middle, y, month_name(f"{start:%Y-%m}", 3), "month-name", "middle"))
    return join(names)
