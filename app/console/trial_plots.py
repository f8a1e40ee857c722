"""Draw a search: losses by epoch, the best so far, each setting against the loss, all at once.

Knows trials, pixels and numbers; knows nothing of pages or of how trials are fitted. Colours come
from the page's style by class names.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.console.markup import Markup, join, tag
from app.console.plots import Scale, rule, spread, ticks, words
from app.sections.tuning import Dimension, Scalar
from app.training.study import TrialRecord
from app.training.tuning import best_of

WIDTH = 1060.0
LEFT, RIGHT = 64.0, 96.0
TOP, HEIGHT = 14.0, 250.0
SMALL, SMALL_HEIGHT = 330.0, 170.0
# Trials that went astray would press all others into one line.
SHOWN_SHARE = 0.9
# So many times the spread of those that came to their end is shown above them.
REACH = 2.0


@dataclass(frozen=True)
class Axis:
    """Where the value of a setting stands between two pixels; choices stand side by side."""

    dimension: Dimension
    start: float
    end: float

    def at(self, value: Scalar) -> float:
        """Give the pixel of a value."""
        return self.start + self._share(value) * (self.end - self.start)

    def marks(self) -> list[tuple[float, str]]:
        """Give pixels and texts of what the axis is marked with."""
        if self.dimension.choice is not None:
            return [(self.at(value), str(value)) for value in self.dimension.choice]
        low, high = self.dimension.values
        if self.dimension.is_log:
            inner = [10.0**n for n in range(math.ceil(math.log10(low)), 99) if 10.0**n <= high]
            marks = inner if len(inner) > 1 else [low, high]
        else:
            marks = ticks(low, high)
            if self.dimension.kind == "integer":
                marks = [mark for mark in marks if mark == int(mark)]
        return [(self.at(mark), number(mark)) for mark in marks]

    def _share(self, value: Scalar) -> float:
        if self.dimension.choice is not None:
            choices = self.dimension.choice
            return (choices.index(value) + 0.5) / len(choices) if value in choices else 0.5
        low, high = (float(bound) for bound in self.dimension.values)
        if self.dimension.is_log:
            return math.log(float(value) / low) / math.log(high / low)
        return (float(value) - low) / (high - low)


def number(value: object) -> str:
    """Write a setting's value briefly.

    >>> number(0.0001), number(1024), number(0.30000001), number("cosine")
    ('0.0001', '1,024', '0.3', 'cosine')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.4g}"


def kind_of(trial: TrialRecord, best: TrialRecord | None) -> str:
    """Name the style of a trial."""
    if best is not None and trial.number == best.number:
        return "best"
    return trial.state


def loss_scale(
    values: Sequence[float], top: float, height: float, ended: Sequence[float] = ()
) -> Scale:
    """Scale losses so that the good ones are told apart; the worst are held at the top.

    `ended` are those of trials that came to their end: what lies far above them is not told apart.
    """
    ordered = sorted(values)
    shown = ordered[: max(math.ceil(len(ordered) * SHOWN_SHARE), min(len(ordered), 2))]
    if len(set(ended)) > 1:
        reach = max(ended) + REACH * (max(ended) - min(ended))
        shown = [value for value in ordered if value <= reach]
    low, high = (shown[0], shown[-1]) if shown else (0.0, 1.0)
    air = max((high - low) * 0.06, abs(high) * 1e-4, 1e-9)
    return Scale(low - air, high + air, top, top + height)


def curves_figure(trials: Sequence[TrialRecord]) -> Markup:
    """Draw the loss of every trial by epoch; those that were stopped are grey."""
    best = best_of(tuple(trials))
    points = {
        trial.number: [(e.number, e.stop_loss) for e in trial.epochs if e.stop_loss is not None]
        for trial in trials
    }
    last = max((epoch for of in points.values() for epoch, _ in of), default=1)
    # The first epoch is far from all others, and says the least.
    first = 1 if last > 2 else 0
    later = [loss for of in points.values() for epoch, loss in of if epoch > first]
    scale = loss_scale(later, TOP, HEIGHT)
    left, right = LEFT, WIDTH - RIGHT

    def x(epoch: int) -> float:
        return left + (right - left) * (epoch - 1) / max(last - 1, 1)

    marks = sorted({epoch for epoch in ticks(1, max(last, 2), 8) if epoch == int(epoch)} | {1.0})
    drawn = [_losses_grid(scale, left, right)]
    drawn += [words(x(int(m)), scale.bottom + 20, f"{m:.0f}", "tick", "middle") for m in marks]
    drawn.append(words((left + right) / 2, scale.bottom + 40, "epoch", "note", "middle"))
    order = {"failed": 0, "stopped": 0, "unfinished": 1, "complete": 2, "best": 3}
    for trial in sorted(trials, key=lambda t: order[kind_of(t, best)]):
        of = [(x(epoch), scale.y(loss)) for epoch, loss in points[trial.number]]
        if of:
            drawn.append(_curve(trial, of, kind_of(trial, best)))
    if best is not None and points[best.number]:
        epoch, loss = points[best.number][-1]
        drawn.append(words(x(epoch) + 10, scale.y(loss) + 4, f"trial {best.number}", "named"))
    return _figure("Loss on the stop rows by epoch", drawn, WIDTH, scale.bottom + 50)


def _curve(trial: TrialRecord, of: Sequence[tuple[float, float]], style: str) -> Markup:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in of)
    end = tag("circle", cx=of[-1][0], cy=of[-1][1], r=4.2 if style == "best" else 2.6)
    line = tag("path", d=path)
    return tag("g", tag("title", tip(trial)), line, end, class_=f"trial {style}")


def progress_figure(trials: Sequence[TrialRecord]) -> Markup:
    """Draw each trial's loss in the order they were begun, and the best so far as a line."""
    best = best_of(tuple(trials))
    known = [trial for trial in trials if trial.loss is not None]
    scale = loss_scale(_losses(known), TOP, 200.0, _losses(known, "complete"))
    left, right = LEFT, WIDTH - RIGHT
    most = max((trial.number for trial in trials), default=0)

    def x(position: int) -> float:
        return left + (right - left) * (position + 0.5) / (most + 1)

    drawn = [_losses_grid(scale, left, right), _best_so_far(trials, scale, right, x)]
    drawn += [_dot(trial, x(trial.number), scale, best) for trial in known]
    marks = {int(m) for m in ticks(0, max(most, 1), 10) if m == int(m) and m <= most}
    drawn += [words(x(m), scale.bottom + 20, str(m), "tick", "middle") for m in sorted(marks)]
    drawn.append(words((left + right) / 2, scale.bottom + 40, "trial", "note", "middle"))
    if best is not None and best.loss is not None:
        drawn.append(words(right + 10, scale.y(best.loss) + 4, f"{best.loss:.5f}", "named"))
    return _figure("Loss of each trial and the best so far", drawn, WIDTH, scale.bottom + 50)


def _best_so_far(
    trials: Sequence[TrialRecord], scale: Scale, end: float, x: Callable[[int], float]
) -> Markup:
    lowest, path = math.inf, ""
    for trial in sorted(trials, key=lambda t: t.number):
        if trial.state != "complete" or trial.loss is None or trial.loss >= lowest:
            continue
        lowest = trial.loss
        at = x(trial.number)
        path += f"H{at:.1f}V{scale.y(lowest):.1f}" if path else f"M{at:.1f} {scale.y(lowest):.1f}"
    return tag("path", d=f"{path}H{end:.1f}", class_="so-far") if path else Markup("")


def setting_figure(key: str, dimension: Dimension, trials: Sequence[TrialRecord]) -> Markup:
    """Draw one setting against the loss of the trials."""
    best = best_of(tuple(trials))
    known = [trial for trial in trials if trial.loss is not None]
    ended = _losses(known, "complete")
    scale = loss_scale(_losses(known), 34.0, SMALL_HEIGHT - 34.0, ended)
    axis = Axis(dimension, 52.0, SMALL - 14.0)
    drawn = [words(0.0, 14.0, key, "setting"), _losses_grid(scale, 46.0, SMALL - 8.0, 3)]
    for at, text in axis.marks():
        drawn.append(rule(at, scale.bottom, at, scale.bottom + 4, "grid"))
        drawn.append(words(at, scale.bottom + 18, text, "tick", "middle"))
    # The best is drawn last, over the others.
    ordered = sorted(known, key=lambda t: kind_of(t, best) == "best")
    drawn += [_dot(trial, axis.at(trial.values[key]), scale, best) for trial in ordered]
    note = "log scale" if dimension.is_log else ""
    drawn.append(words(SMALL - 8.0, 14.0, note, "note", "end"))
    return _figure(f"{key} against the loss", drawn, SMALL, SMALL_HEIGHT + 26)


def parallel_figure(space: dict[str, Dimension], trials: Sequence[TrialRecord]) -> Markup:
    """Draw every trial as one line through its settings, which ends at its loss."""
    best = best_of(tuple(trials))
    known = [trial for trial in trials if trial.loss is not None]
    names = [*sorted(space), "loss"]
    places = [70.0 + i * (WIDTH - 150.0) / max(len(names) - 1, 1) for i in range(len(names))]
    top, bottom = 44.0, 264.0
    # Low losses stand at the bottom, as everywhere on the page.
    scale = loss_scale(_losses(known), top, bottom - top, _losses(known, "complete"))
    axes = {key: Axis(space[key], bottom, top) for key in sorted(space)}
    drawn = []
    for index, (name, x) in enumerate(zip(names, places, strict=True)):
        short = name.rpartition(".")[2]
        drawn += [words(x, 16.0 + 14.0 * (index % 2), short, "setting", "middle")]
        drawn.append(rule(x, top, x, bottom, "axis"))
    for trial in sorted(known, key=lambda t: -_rank(t, known)):
        ys = [axes[key].at(trial.values[key]) for key in sorted(space)]
        ys.append(scale.y(trial.loss if trial.loss is not None else scale.high))
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(places, ys, strict=True))
        style = "best" if kind_of(trial, best) == "best" else f"rank-{_rank(trial, known)}"
        line = tag("path", tag("title", tip(trial)), d=path)
        drawn.append(tag("g", line, class_=f"thread {style}"))
    for key, x in zip(names, places, strict=True):
        marks = axes[key].marks() if key in axes else _loss_marks(scale)
        ys = spread([y for y, _ in marks], top, bottom, 12.0)
        beside, anchor = (-6.0, "end") if key in axes else (6.0, "start")
        drawn += [
            words(x + beside, y + 4, text, "tick halo", anchor)
            for y, (_, text) in zip(ys, marks, strict=True)
        ]
    return _figure("Every trial through all settings", drawn, WIDTH, bottom + 18)


def _losses(trials: Sequence[TrialRecord], state: str = "") -> list[float]:
    return [t.loss for t in trials if t.loss is not None and state in ("", t.state)]


def _rank(trial: TrialRecord, known: Sequence[TrialRecord]) -> int:
    """Give the quarter of the losses that a trial is in: 0 is the best."""
    below = sum(other.loss < trial.loss for other in known)  # type: ignore[operator]
    return min(4 * below // max(len(known), 1), 3)


def _loss_marks(scale: Scale) -> list[tuple[float, str]]:
    return [(scale.y(value), f"{value:.4g}") for value in ticks(scale.low, scale.high)]


def _dot(trial: TrialRecord, x: float, scale: Scale, best: TrialRecord | None) -> Markup:
    assert trial.loss is not None
    style = kind_of(trial, best)
    circle = tag("circle", cx=x, cy=scale.y(trial.loss), r=5.2 if style == "best" else 3.6)
    return tag("g", tag("title", tip(trial)), circle, class_=f"dot {style}")


def tip(trial: TrialRecord) -> str:
    """Tell a trial in one line, for whoever points at it."""
    loss = "no loss" if trial.loss is None else f"loss {trial.loss:.5f}"
    values = ", ".join(f"{key.rpartition('.')[2]} {number(v)}" for key, v in trial.values.items())
    return f"trial {trial.number}, {trial.state}, {loss}: {values}"


def _losses_grid(scale: Scale, left: float, right: float, wanted: int = 5) -> Markup:
    marks = ticks(scale.low, scale.high, wanted)
    digits = next((d for d in range(9) if all(round(m, d) == m for m in marks)), 9)
    return join(
        join(
            [
                rule(left, scale.y(value), right, scale.y(value), "grid"),
                words(left - 8, scale.y(value) + 4, f"{value:.{digits}f}", "tick", "end"),
            ]
        )
        for value in marks
    )


def _figure(title: str, drawn: Sequence[Markup], width: float, height: float) -> Markup:
    box = f"0 0 {width:.0f} {height:.0f}"
    style = "search" if width > SMALL else "search small"
    return tag("svg", tag("title", title), *drawn, viewBox=box, role="img", class_=style)
