"""Draw panels that share one time axis, as SVG without any script.

Knows pixels, times and series of numbers; knows nothing of models, policies or pages. Colours come
from the page's style by class names, so that one drawing serves light, dark and paper.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.console.markup import Markup, join, tag

LEFT = 206.0
RIGHT = 130.0
WIDTH = 1060.0
LABEL_GAP = 14.0
TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class TimeAxis:
    """Where a time stands between the left and right edge of the plots."""

    start: datetime
    end: datetime
    left: float = LEFT
    right: float = WIDTH - RIGHT

    def x(self, at: datetime) -> float:
        """Give the pixel of a time, held within the plot."""
        share = (at - self.start) / (self.end - self.start)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def months(self) -> list[tuple[datetime, datetime]]:
        """Split the axis at the first of every month, UTC."""
        edges = [self.start]
        year, month = self.start.year, self.start.month
        while True:
            year, month = (year + 1, 1) if month == 12 else (year, month + 1)
            edge = datetime(year, month, 1, tzinfo=UTC)
            if edge >= self.end:
                break
            edges.append(edge)
        edges.append(self.end)
        return list(itertools.pairwise(edges))


@dataclass(frozen=True)
class Scale:
    """Where a value stands between the bottom and the top of a panel."""

    low: float
    high: float
    top: float
    bottom: float

    def y(self, value: float) -> float:
        """Give the pixel of a value, held within the panel."""
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - min(max(share, 0.0), 1.0) * (self.bottom - self.top)

    @classmethod
    def around(
        cls, values: Sequence[float], top: float, height: float, *, zero: bool = False
    ) -> "Scale":
        """Leave a little air around the values; `zero` puts the bottom at 0."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        air = max((high - low) * 0.12, 1e-3)
        return cls(0.0 if zero else low - air, high + air, top, top + height)


@dataclass(frozen=True)
class Series:
    """A line of one value a time; None leaves a gap."""

    name: str
    points: tuple[tuple[datetime, float | None], ...]
    style: str
    label: str = ""


@dataclass(frozen=True)
class Whisker:
    """A value with its interval."""

    at: datetime
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cell:
    """One coloured stretch of a heat map's row; `level` picks the colour."""

    start: datetime
    end: datetime
    level: int
    tip: str


def ticks(low: float, high: float, wanted: int = 3) -> list[float]:
    """Choose about so many round values between two limits.

    >>> ticks(0.63, 0.76)
    [0.65, 0.7, 0.75]
    """
    rough = (high - low) / max(wanted, 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = min((s * magnitude for s in TICK_STEPS), key=lambda s: abs(math.log(s / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def spread(wanted: Sequence[float], low: float, high: float, gap: float = LABEL_GAP) -> list[float]:
    """Move labels apart until they stand `gap` from one another, and no further.

    >>> spread([10.0, 12.0], 0.0, 100.0)
    [4.0, 18.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    # Labels that touch form a group: where it begins, its labels, the sum of where they belong.
    groups: list[tuple[float, int, float]] = []
    for index in order:
        group = _group(1, wanted[index], low, high, gap)
        while groups and group[0] < groups[-1][0] + gap * groups[-1][1] - 1e-9:
            _, size, total = groups.pop()
            # Members belong `gap` apart, so that each later one belongs earlier by that much.
            shifted = group[2] - gap * size * group[1]
            group = _group(size + group[1], total + shifted, low, high, gap)
        groups.append(group)
    placed = [first + gap * step for first, size, _ in groups for step in range(size)]
    result = [0.0] * len(wanted)
    for index, at in zip(order, placed, strict=True):
        result[index] = round(at, 6)
    return result


def _group(
    size: int, total: float, low: float, high: float, gap: float
) -> tuple[float, int, float]:
    """Place a group where its labels belong on average, held within the limits."""
    return max(min(total / size, high - gap * (size - 1)), low), size, total


def words(
    x: float, y: float, content: str, style: str = "note", anchor: str | None = None
) -> Markup:
    """Write one line of text."""
    return tag("text", content, x=x, y=y, class_=style, text_anchor=anchor)


def heading(top: float, title: str, notes: Sequence[str]) -> Markup:
    """Name a panel at the left, with a line or two on what it shows."""
    lines = [words(0.0, top + 11, title, "panel-title")]
    lines += [words(0.0, top + 27 + 14 * row, note) for row, note in enumerate(notes)]
    return join(lines)


def rule(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """Draw a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def grid(
    axis: TimeAxis, scale: Scale, digits: int, wanted: int = 3, percent: bool = False
) -> Markup:
    """Draw a panel's horizontal lines with their values at the left."""
    lines = []
    for value in ticks(scale.low, scale.high, wanted):
        y = scale.y(value)
        written = f"{value:.0%}" if percent else f"{value:.{digits}f}"
        lines += [
            rule(axis.left, y, axis.right, y, "grid"),
            words(axis.left - 8, y + 4, written, "tick", "end"),
        ]
    return join(lines)


def lines_panel(axis: TimeAxis, scale: Scale, series: Sequence[Series], digits: int) -> Markup:
    """Draw series as lines with dots, each named at its right end in its own colour."""
    drawn, ends = [grid(axis, scale, digits)], []
    for one in series:
        known = [
            (axis.x(at), scale.y(value), value) for at, value in one.points if value is not None
        ]
        if not known:
            continue
        drawn.append(_path(one, axis, scale))
        for x, y, value in known:
            dot = tag("circle", tag("title", f"{one.name}: {value:.{digits}f}"), cx=x, cy=y, r=3.5)
            drawn.append(tag("g", dot, class_=f"dot {one.style}"))
        ends.append((known[-1][0], known[-1][1], one))
    places = spread([y for _, y, _ in ends], scale.top + 4, scale.bottom + 2)
    for place, (x, y, one) in zip(places, ends, strict=True):
        drawn.insert(1, rule(x, y, axis.right + 8, place, f"leader {one.style}"))
        drawn.append(
            words(axis.right + 12, place + 4, one.label or one.name, f"series {one.style}")
        )
    return join(drawn)


def _path(one: Series, axis: TimeAxis, scale: Scale) -> Markup:
    """Join the points of a series; a missing value breaks the line."""
    steps, pen = [], "M"
    for at, value in one.points:
        if value is None:
            pen = "M"
            continue
        steps.append(f"{pen}{axis.x(at):.1f} {scale.y(value):.1f}")
        pen = "L"
    return tag("path", d="".join(steps), class_=f"line {one.style}")


def block(scale: Scale, left: float, right: float, value: float, style: str, tip: str) -> Markup:
    """Draw a value as a block that stands on the panel's bottom."""
    y = scale.y(value)
    size = {"width": max(right - left, 1.0), "height": scale.bottom - y}
    return tag("rect", tag("title", tip), x=left, y=y, class_=style, **size)


def bars_panel(
    axis: TimeAxis,
    scale: Scale,
    bars: Sequence[tuple[datetime, datetime, float]],
    tips: Sequence[str],
) -> Markup:
    """Draw one bar a stretch of time, its share written above it."""
    drawn = []
    for (start, end, value), tip in zip(bars, tips, strict=True):
        left, right = axis.x(start) + 6, axis.x(end) - 6
        drawn.append(block(scale, left, right, value, "bar", tip))
        drawn.append(
            words((left + right) / 2, scale.y(value) - 5, f"{value:.1%}", "tick", "middle")
        )
    return join([*drawn, rule(axis.left, scale.bottom, axis.right, scale.bottom, "grid")])


def steps_panel(
    axis: TimeAxis, scale: Scale, steps: Sequence[tuple[datetime, datetime, float]]
) -> Markup:
    """Fill the area below values that hold for a stretch of time each."""
    drawn = [grid(axis, scale, 0, wanted=2, percent=True)]
    for start, end, value in steps:
        tip = f"{end:%d %b %Y}: {value:.0%}"
        drawn.append(block(scale, axis.x(start), axis.x(end) - 1, value, "step", tip))
    return join(drawn)


def whiskers_panel(
    axis: TimeAxis, scale: Scale, whiskers: Sequence[Whisker], reference: Series
) -> Markup:
    """Draw values with their intervals against a reference that holds in steps."""
    drawn = [grid(axis, scale, 2), _path(reference, axis, scale)]
    for one in whiskers:
        x = axis.x(one.at)
        tip = f"{one.at:%d %b %Y}: {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        line = rule(x, scale.y(one.low), x, scale.y(one.high), "whisker")
        dot = tag("circle", cx=x, cy=scale.y(one.value), r=2.8)
        drawn.append(tag("g", tag("title", tip), line, dot, class_="realised"))
    ends = [(scale.y(whiskers[-1].value), "realised", "series realised")] if whiskers else []
    known = [value for _, value in reference.points if value is not None]
    if known:
        ends.append((scale.y(known[-1]), reference.label, f"series {reference.style}"))
    places = spread([y for y, _, _ in ends], scale.top + 4, scale.bottom + 2)
    for place, (_, label, style) in zip(places, ends, strict=True):
        drawn.append(words(axis.right + 12, place + 4, label, style))
    return join(drawn)


def heat_panel(
    axis: TimeAxis, top: float, row: float, rows: Sequence[tuple[str, Sequence[Cell], str]]
) -> Markup:
    """Draw a heat map: a name, coloured cells and a closing word for each row."""
    drawn = []
    for index, (name, cells, closing) in enumerate(rows):
        y = top + index * row
        drawn.append(words(axis.left - 8, y + row - 5, name, "tick", "end"))
        for cell in cells:
            left = axis.x(cell.start)
            size = {"width": max(axis.x(cell.end) - left - 1, 1.0), "height": row - 2}
            style = f"heat-{cell.level}"
            drawn.append(tag("rect", tag("title", cell.tip), x=left, y=y, class_=style, **size))
        drawn.append(words(axis.right + 12, y + row - 5, closing, "note"))
    return join(drawn)
