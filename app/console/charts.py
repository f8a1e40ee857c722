"""Draw plots of one figure against another, as SVG without any script: curves, bars, forests.

Knows pixels and numbers; knows nothing of models or pages. Scales, ticks and lines are those of
plots.py; colours come from the page's style by class names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.console.markup import Markup, join, tag
from app.console.plots import Scale, rule, ticks, words

Points = Sequence[tuple[float, float]]
SIDE = 300.0
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 40.0, 10.0, 24.0, 38.0


@dataclass(frozen=True)
class Frame:
    """Where two numbers stand within a plot."""

    left: float
    right: float
    low: float
    high: float
    vertical: Scale

    def x(self, value: float) -> float:
        """Give the pixel of a value on the horizontal axis, held within the plot."""
        share = (value - self.low) / (self.high - self.low)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Give the pixel of a value on the vertical axis, held within the plot."""
        return self.vertical.y(value)

    @classmethod
    def square(
        cls, x: tuple[float, float], y: tuple[float, float], height: float = SIDE
    ) -> "Frame":
        """Make a frame of the usual size around two ranges."""
        scale = Scale(y[0], y[1], MARGIN_TOP, height - MARGIN_BOTTOM)
        return cls(MARGIN_LEFT, SIDE - MARGIN_RIGHT, x[0], x[1], scale)


def written(value: float) -> str:
    """Write a tick's value in little room.

    >>> written(0.5), written(0.25), written(-0.0), written(12.0)
    ('0.5', '0.25', '0', '12')
    """
    return f"{value + 0.0:.4g}"


def axes(frame: Frame, across: str, up: str, *, percent: bool = False) -> Markup:
    """Draw the grid with values at left and bottom; axes are named below and above."""
    vertical, drawn = frame.vertical, []
    for value in ticks(vertical.low, vertical.high, 4):
        y = frame.y(value)
        drawn.append(rule(frame.left, y, frame.right, y, "grid"))
        text = f"{value:.0%}" if percent else written(value)
        drawn.append(words(frame.left - 6, y + 4, text, "tick", "end"))
    for value in ticks(frame.low, frame.high, 4):
        text = f"{value:.0%}" if percent else written(value)
        drawn.append(words(frame.x(value), vertical.bottom + 15, text, "tick", "middle"))
    middle = (frame.left + frame.right) / 2
    drawn.append(words(middle, vertical.bottom + 32, across, "note", "middle"))
    drawn.append(words(frame.left, vertical.top - 10, up, "note"))
    return join(drawn)


def curve(frame: Frame, points: Points, style: str) -> Markup:
    """Join points by a line."""
    steps = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in points]
    return tag("path", d="M" + "L".join(steps), class_=f"line {style}")


def area(frame: Frame, points: Points, style: str) -> Markup:
    """Fill what lies under a line."""
    steps = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in points]
    first, last = frame.x(points[0][0]), frame.x(points[-1][0])
    ground = f"{frame.vertical.bottom:.1f}"
    closed = f"M{first:.1f} {ground}L{'L'.join(steps)}L{last:.1f} {ground}Z"
    return tag("path", d=closed, class_=style)


def dot(frame: Frame, at: tuple[float, float], tip: str, style: str, radius: float = 3.2) -> Markup:
    """Mark a point; its tip is read by pointing at it."""
    x, y = frame.x(at[0]), frame.y(at[1])
    return tag("circle", tag("title", tip), cx=x, cy=y, r=radius, class_=style)


def upright(frame: Frame, x: float, low: float, high: float, style: str = "whisker") -> Markup:
    """Draw an interval of a point."""
    return rule(frame.x(x), frame.y(low), frame.x(x), frame.y(high), style)


def bars(frame: Frame, edges: Sequence[float], heights: Sequence[float], style: str) -> Markup:
    """Draw bars between edges, standing on the bottom."""
    drawn = []
    for (left, right), height in zip(pairwise(edges), heights, strict=True):
        y = frame.y(height)
        size = {
            "width": max(frame.x(right) - frame.x(left) - 0.6, 0.6),
            "height": frame.vertical.bottom - y,
        }
        drawn.append(tag("rect", x=frame.x(left), y=y, class_=style, **size))
    return join(drawn)


def picture(name: str, *parts: str, width: float = SIDE, height: float = SIDE) -> Markup:
    """Put parts into a picture that scales with the page."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return tag("svg", tag("title", name), *parts, viewBox=box, role="img", class_="chart")


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot."""

    name: str
    note: str
    value: float
    low: float
    high: float
    style: str
    closing: tuple[str, ...] = ()


FOREST_ROW = 25.0
FOREST_WIDTH = 1060.0
CLOSING_WIDTH = 72.0


def forest(
    title: str,
    rows: Sequence[ForestRow],
    *,
    reference: float,
    across: str,
    left: float,
    headings: tuple[str, ...] = (),
) -> Markup:
    """Draw values with their intervals one under another, right of `left`, against a reference.

    What closes a row stands in columns at the right, under `headings`.
    """
    right = FOREST_WIDTH - 14 - CLOSING_WIDTH * len(headings)
    ends = [reference, *(row.low for row in rows), *(row.high for row in rows)]
    air = max((max(ends) - min(ends)) * 0.05, 1e-6)
    top, bottom = 24.0, 24.0 + FOREST_ROW * len(rows)
    scale = Scale(0.0, 1.0, top, bottom)
    frame = Frame(left, right, min(ends) - air, max(ends) + air, scale)
    columns = [right + 14 + CLOSING_WIDTH * (place + 1) for place in range(len(headings))]
    drawn = [words(x, 13, name, "note", "end") for x, name in zip(columns, headings, strict=True)]
    for value in ticks(frame.low, frame.high, max(int((right - left) / 90), 2)):
        x = frame.x(value)
        drawn += [
            rule(x, top, x, bottom, "grid"),
            words(x, bottom + 16, written(value), "tick", "middle"),
        ]
    drawn.append(rule(frame.x(reference), top - 4, frame.x(reference), bottom + 3, "zero"))
    for place, row in enumerate(rows):
        drawn.append(_forest_row(frame, row, top + FOREST_ROW * (place + 0.5), columns))
    drawn.append(words((left + right) / 2, bottom + 34, across, "note", "middle"))
    return picture(title, *drawn, width=FOREST_WIDTH, height=bottom + 42)


def _forest_row(frame: Frame, row: ForestRow, y: float, columns: Sequence[float]) -> Markup:
    tip = f"{row.name}: {row.value:.4f} [{row.low:.4f}, {row.high:.4f}]"
    marks = [
        tag("title", tip),
        rule(frame.x(row.low), y, frame.x(row.high), y, "span"),
        tag("circle", cx=frame.x(row.value), cy=y, r=4.2),
    ]
    return join(
        [
            words(0.0, y + 4, row.name, "row-name"),
            words(frame.left - 14, y + 4, row.note, "note", "end"),
            tag("g", *marks, class_=f"forest {row.style}"),
            *(words(x, y + 4, t, "tick", "end") for x, t in zip(columns, row.closing, strict=True)),
        ]
    )
