"""How a job shows a training run: a live bar on a terminal, seldom lines in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from app.training.progress import RunProgress, Watch
from app.training.state import Epoch, StageName

LINE_SECONDS = 10.0


@contextlib.contextmanager
def shown() -> Iterator[Watch]:
    """Show a run on standard error for the length of a `with` block."""
    if not sys.stderr.isatty():
        yield Lines(lambda line: typer.echo(line, err=True), time.monotonic)
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bar(bars)


class Lines:
    """One line a phase, one an epoch, and one every ten seconds within long epochs."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._tell, self._clock = tell, clock
        self._news = News()
        self._since = clock()

    def phase(self, what: str) -> None:
        """Say what is done now."""
        self._line(what)

    def progress(self, now: RunProgress) -> None:
        """Say what is new, or after a while how far it is."""
        lines = self._news.of(now)
        for line in lines:
            self._line(line)
        if not lines and self._clock() - self._since >= LINE_SECONDS:
            self._line(f"{place(now)}, {now.done_share:.0%}: {figures(now)}")

    def _line(self, line: str) -> None:
        self._since = self._clock()
        self._tell(line)


class Bar:
    """A bar that moves within the epoch; what ended stays above it as lines."""

    def __init__(self, bars: Progress) -> None:
        self._bars, self._news = bars, News()
        self._task: TaskID = bars.add_task("starting", total=None, figures="")

    def phase(self, what: str) -> None:
        """Show what is done now, with a bar that only moves."""
        self._bars.update(self._task, description=what, total=None, figures="")

    def progress(self, now: RunProgress) -> None:
        """Move the bar."""
        for line in self._news.of(now):
            self._bars.console.print(line, highlight=False)
        self._bars.update(
            self._task,
            description=place(now),
            total=1.0,
            completed=now.done_share,
            figures=figures(now),
        )


class News:
    """What a record tells that the ones before did not: epochs that ended, workers begun anew."""

    def __init__(self) -> None:
        self._num_told = 0
        self._attempt: str | None = None

    def of(self, now: RunProgress) -> list[str]:
        """Give the lines to write."""
        lines = []
        if now.attempt != self._attempt:
            again = "workers were started again, " if self._attempt is not None else ""
            if again or now.num_before:
                lines.append(f"{again}going on after {now.num_before} epochs")
            self._attempt = now.attempt
            self._num_told = max(self._num_told, now.num_before)
        lines += [epoch_line(now, *ended) for ended in now.ended[self._num_told :]]
        self._num_told = max(self._num_told, len(now.ended))
        return lines


def place(now: RunProgress) -> str:
    """Say where a run is."""
    return f"{now.stage}, epoch {now.epoch} of {_most(now.stage, now.num_epochs)}"


def figures(now: RunProgress) -> str:
    """Say how it goes: losses, rate, time."""
    parts = [] if now.loss is None else [f"loss {now.loss:.4f}"]
    return ", ".join((*parts, *_common(now)))


def epoch_line(now: RunProgress, stage: StageName, epoch: Epoch) -> str:
    """Say what an epoch came to."""
    most = now.num_epochs if stage == now.stage else len(now.epochs)
    losses = [f"train loss {epoch.train_loss:.4f}"]
    if epoch.stop_loss is not None:
        losses.append(f"stop loss {epoch.stop_loss:.4f}")
    figures = ", ".join((*losses, *_common(now)))
    return f"{stage}, epoch {epoch.number} of {_most(stage, most)}: {figures}"


def _most(stage: StageName, num_epochs: int) -> str:
    """Early stopping ends a search sooner; a refit is as long as it is.

    >>> _most("search", 8), _most("refit", 5)
    ('at most 8', '5')
    """
    return f"at most {num_epochs}" if stage == "search" else str(num_epochs)


def _common(now: RunProgress) -> Iterator[str]:
    if now.best_loss is not None:
        yield f"best {now.best_loss:.4f} (epoch {now.best_epoch})"
    yield f"{now.rows_per_second:,.0f} rows/s"
    if (left := now.seconds_left) is not None:
        most = "at most " if now.stage == "search" else ""
        yield f"{most}{duration(left)} left"


def duration(seconds: float) -> str:
    """Write seconds as people do.

    >>> duration(8.4), duration(75), duration(7322)
    ('8 s', '1:15 min', '2:02 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
