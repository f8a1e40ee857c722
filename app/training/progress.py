"""How far a run is: a small record beside it, written by its first worker, read by who waits.

Knows epochs, rows and words; knows nothing of Ray, terminals or MLflow, and reads no clock. The
record is a file because a report to Ray Train makes all workers wait for each other; it is replaced
at most once a second and never synced: it matters only while the run goes on.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from app.contracts.rows import Frozen
from app.sections import TrainingConfig
from app.training.state import Epoch, FitState, StageName

logger = logging.getLogger(__name__)

FILE = "progress.json"
SECONDS = 1.0


@dataclass(frozen=True)
class Step:
    """Where an epoch is."""

    stage: StageName
    epoch: int
    num_done: int
    """Batches of a worker."""
    num_steps: int
    num_rows: int
    """Rows of all workers since the epoch began."""
    loss: float
    """Mean over the latest batches."""

    @property
    def rows_of_epoch(self) -> int:
        """About how many rows an epoch has."""
        return self.num_rows * self.num_steps // self.num_done


class RunProgress(Frozen):
    """How far a run is."""

    attempt: str
    """Names the worker's process: a new one means that workers were started again."""
    num_before: int
    """Epochs that had ended when that process began."""
    stage: StageName
    epoch: int
    num_epochs: int
    """Of this stage, at most."""
    done_share: float
    """Of this epoch."""
    loss: float | None
    epochs: tuple[Epoch, ...]
    refit_epochs: tuple[Epoch, ...]
    best_epoch: int
    best_loss: float | None
    rows_per_second: float
    rows_left: int
    """Of this run, at most."""

    @property
    def ended(self) -> tuple[tuple[StageName, Epoch], ...]:
        """Every epoch that is over, in order."""
        search: tuple[tuple[StageName, Epoch], ...] = tuple(("search", e) for e in self.epochs)
        return (*search, *(("refit", epoch) for epoch in self.refit_epochs))

    @property
    def seconds_left(self) -> float | None:
        """At most so many, at the rate so far; None while there is none."""
        return self.rows_left / self.rows_per_second if self.rows_per_second else None


class Watch(Protocol):
    """Who is told how a run goes, while it does."""

    def phase(self, what: str) -> None:
        """Hear what is done now, before workers train and after."""

    def progress(self, now: RunProgress) -> None:
        """Hear how far the workers are: seldom enough to be shown, each ended epoch among it."""


class Unwatched:
    """Nobody is told."""

    def phase(self, what: str) -> None:
        """Pass over it."""

    def progress(self, now: RunProgress) -> None:
        """Pass over it."""


class Watches:
    """Several who are told the same."""

    def __init__(self, *watches: Watch) -> None:
        self._watches = watches

    def phase(self, what: str) -> None:
        """Tell each."""
        for watch in self._watches:
            watch.phase(what)

    def progress(self, now: RunProgress) -> None:
        """Tell each."""
        for watch in self._watches:
            watch.progress(now)


class ProgressWriter:
    """The first worker's record of how far its run is."""

    def __init__(
        self,
        folder: Path,
        config: TrainingConfig,
        state: FitState,
        clock: Callable[[], float],
        attempt: str,
    ) -> None:
        """Begin at a state; `clock` gives seconds since any moment."""
        self._folder, self._config, self._state = folder, config, state
        self._clock, self._attempt = clock, attempt
        self._num_before = len(state.epochs) + len(state.refit_epochs)
        self._since, self._seconds, self._num_rows = clock(), 0.0, 0
        self._written = -math.inf
        self.rate = 0.0
        """Rows a second of this attempt, when the last epoch ended."""

    def step(self, step: Step) -> None:
        """Write where an epoch is, unless that was done less than a second ago."""
        now = self._clock()
        if now - self._written >= SECONDS:
            rows, seconds = self._num_rows + step.num_rows, self._seconds + now - self._since
            self._write(_progress(self._state, self._config, step, rows / max(seconds, 1e-9)))

    def after_epoch(self, state: FitState, *, write: bool = True) -> float:
        """Write what an epoch came to; return the rows a second of this attempt so far."""
        self._seconds += self._clock() - self._since
        self._num_rows += state.latest.num_rows
        self._state = state
        self.rate = self._num_rows / max(self._seconds, 1e-9)
        if write:
            self._write(_progress(state, self._config, None, self.rate))
        return self.rate

    def go_on(self) -> None:
        """Leave out of the rates what passed since the epoch ended."""
        self._since = self._clock()

    def _write(self, progress: RunProgress) -> None:
        self._written = self._clock()
        aside = self._folder / f".{FILE}.{self._attempt}"
        mine = {"attempt": self._attempt, "num_before": self._num_before}
        try:
            aside.write_text(progress.model_copy(update=mine).model_dump_json())
            aside.replace(self._folder / FILE)
        except OSError as error:
            # Who waits sees no more; a checkpoint that finds no room ends the run by itself.
            logger.warning("the progress of the run is not shown: %s", error)


def read_progress(folder: Path) -> RunProgress | None:
    """Read the record beside a run; None when there is none that can be read."""
    try:
        return RunProgress.model_validate_json((folder / FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _progress(
    state: FitState, config: TrainingConfig, step: Step | None, rate: float
) -> RunProgress:
    """Put together the record at a step, or where an epoch has just ended."""
    latest = step or state
    epoch = step.epoch if step else state.latest.number
    best = state.best_loss if math.isfinite(state.best_loss) else None
    return RunProgress(
        attempt="",
        num_before=0,
        stage=latest.stage,
        epoch=epoch,
        num_epochs=config.epochs if latest.stage == "search" else state.best_epoch,
        done_share=step.num_done / step.num_steps if step else 1.0,
        loss=step.loss if step else state.latest.train_loss,
        epochs=state.epochs,
        refit_epochs=state.refit_epochs,
        best_epoch=state.best_epoch,
        best_loss=best,
        rows_per_second=rate,
        rows_left=_rows_left(state, config, step),
    )


def _rows_left(state: FitState, config: TrainingConfig, step: Step | None) -> int:
    """Count the rows that are still to be passed over, at most."""
    rows = step.rows_of_epoch if step else state.latest.num_rows
    in_epoch = rows - step.num_rows if step else 0
    epoch = step.epoch if step else state.latest.number
    if (step or state).stage == "refit":
        return (state.best_epoch - epoch) * rows + in_epoch
    # Early stopping ends a search sooner, and a refit is as long as the best of it.
    searched = step is None and state.is_searched(config)
    searching = 0 if searched else (config.epochs - epoch) * rows
    refit = (state.best_epoch if searched else config.epochs) * rows if config.refit else 0
    return searching + in_epoch + refit
