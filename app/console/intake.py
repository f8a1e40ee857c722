"""Tell a person how an ingest goes: a bar while it works, a line when it brought something in.

Knows counts and a terminal; knows nothing of rows, Ray or tables.
"""

from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from app.data.ingestion import IngestResult, Progress, RefusedFile


class IngestBar:
    """A bar of deliveries with a count of rows. On anything but a terminal it shows nothing."""

    def __init__(self, console: Console, what: str = "ingest") -> None:
        """Prepare a bar; it is drawn inside a `with` block, named by what is done."""
        self._bar = Bar(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=None, rows=0, visible=False)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar off the terminal."""
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Draw how far an ingest has come."""
        self._bar.update(
            self._task,
            completed=progress.num_done,
            total=progress.num_deliveries,
            rows=progress.num_rows,
            visible=True,
        )


class IngestTeller:
    """Tells of each ingest that brought something in, and of each refused file once."""

    def __init__(self, console: Console) -> None:
        """Write to a console."""
        self._console = console
        self._told: set[RefusedFile] = set()

    def tell(self, result: IngestResult, at: datetime) -> None:
        """Write a line for what came in, and one for each file that is newly refused."""
        if result.num_in or result.num_labels_in or result.num_deliveries or result.num_readmitted:
            self._say(f"{at:%H:%M:%S} {sentence(result)}")
        for refused in result.refused:
            if refused not in self._told:
                self._say(f"{at:%H:%M:%S} refused: {refused.problem}")
        self._told = set(result.refused)

    def complain(self, problem: str, at: datetime) -> None:
        """Write why a look came to nothing, once for as long as it stays the reason."""
        refused = RefusedFile(name="", problem=problem)
        if refused not in self._told:
            self._say(f"{at:%H:%M:%S} {problem}; looking again")
        self._told.add(refused)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def sentence(result: IngestResult) -> str:
    """Say in one line what an ingest brought in."""
    parts = [
        f"{result.num_in:,} rows = {result.num_accepted:,} accepted"
        f" + {result.num_quarantined:,} quarantined"
    ]
    if result.num_labels_in:
        parts.append(
            f"{result.num_labels_in:,} outcomes = {result.num_labels:,} accepted"
            f" + {result.num_labels_quarantined:,} quarantined"
        )
    if result.num_readmitted:
        parts.append(f"{result.num_readmitted:,} earlier outcomes found their rows")
    if result.num_rewritten:
        parts.append(f"{result.num_rewritten} rewritten")
    if result.waiting:
        parts.append(f"{len(result.waiting)} still being written")
    return "; ".join(parts)
