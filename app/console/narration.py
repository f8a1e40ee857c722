"""Tell a person at a terminal how a replay goes: day, traffic, quality, what the loop does and why.

Knows tallies and statuses; decides nothing. On a terminal it redraws one panel; elsewhere it prints
a line when a week has passed or something has happened.
"""

import time
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.config import Config
from app.console.replay import Tally
from app.console.status import DecisionStatus, Status

REDRAW_SECONDS = 0.25
QUIET_LINE_DAYS = 7


class Narrator:
    """Show the progress of one replay."""

    def __init__(self, config: Config, console: Console) -> None:
        self._console = console
        self._start = config.replay.start
        self._end = config.replay.end
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn = 0.0
        self._told: set[str] = set()
        self._doing = ""
        self._said_on: datetime | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def wait_for_champion(self, status: Status) -> None:
        """Tell what happens before the first version answers."""
        self._tell_decisions(status)
        if self._console.is_terminal:
            self._redraw(Text(f"{status.phase}: {status.steward_doing}"))
        elif status.steward_doing != self._doing:
            self._doing = status.steward_doing
            self._say(f"  {self._doing}")

    def show(self, now: datetime, tally: Tally, status: Status) -> None:
        """Tell where the replay is."""
        self._tell_decisions(status)
        if self._console.is_terminal:
            self._redraw(self._panel(now, tally, status))
            return
        days = (now - self._said_on).days if self._said_on else QUIET_LINE_DAYS
        if days >= QUIET_LINE_DAYS:
            self._said_on = now
            self._say(self._line(now, tally, status))

    def _tell_decisions(self, status: Status) -> None:
        """Print each decision once it is completed; these lines stay."""
        for item in status.decisions:
            if item.outcome != "under way" and item.key not in self._told:
                self._told.add(item.key)
                self._say(decision_line(item))

    def _say(self, line: Text | str) -> None:
        """Print a line that stays; a terminal narrower than the line wraps it."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def _redraw(self, content: RenderableType) -> None:
        moment = time.monotonic()
        if moment - self._drawn >= REDRAW_SECONDS:
            self._drawn = moment
            self._live.update(content, refresh=True)

    def _panel(self, now: datetime, tally: Tally, status: Status) -> RenderableType:
        done = (now - self._start) / (self._end - self._start)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"{now:%Y-%m-%d}", style="bold"),
            ProgressBar(total=1.0, completed=min(done, 1.0), width=30),
            Text(f"{min(done, 1.0):4.0%}"),
            Text(_traffic(tally), style="red" if tally.failed else ""),
        )
        return Group(
            head, Text(_quality(tally, status)), Text(f"{status.phase}: {status.steward_doing}")
        )

    def _line(self, now: datetime, tally: Tally, status: Status) -> str:
        doing = f"{status.phase}: {status.steward_doing}"
        return f"{now:%Y-%m-%d}  {_traffic(tally)}  {_quality(tally, status)}  {doing}"


def decision_line(item: DecisionStatus) -> Text:
    """Write one decision: when, what, why, and how it ended."""
    line = Text(f"{item.at:%Y-%m-%d}  ")
    line.append(item.action, style="bold")
    if item.cause:
        line.append(f" ({item.cause})")
    line.append(f": {'; '.join(item.reasons)} → {item.outcome}", style="dim")
    return line


def _traffic(tally: Tally) -> str:
    return f"{tally.rows:,} rows in {tally.requests:,} requests, {tally.failed:,} failed"


def _quality(tally: Tally, status: Status) -> str:
    recent = tally.recent_auc
    told = f"AUC of the last 30 days {recent:.3f}" if recent is not None else "no outcomes yet"
    return f"{told}, {status.num_labels:,} labels"
