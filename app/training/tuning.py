"""Search for better settings: what to try next, when to stop, what came out.

Knows the study, the budget and the rule of early stopping; knows nothing of Ray, pages or MLflow.
Time comes from a clock that is handed in, and only differences of it are used.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from app.config import Config
from app.contracts.records import DatasetVersion
from app.contracts.rows import Frozen
from app.sections import TrainingConfig
from app.sections.tuning import Dimension, Scalar
from app.training.space import current_values, trial_config
from app.training.state import Epoch, FitState
from app.training.study import TrialRecord, Trials


class SearchReport(Frozen):
    """All that a search tried, and what came out best."""

    run: str
    model: str
    metric: str = "stop_loss"
    created_at: AwareDatetime
    dataset: DatasetVersion
    space: dict[str, Dimension]
    num_wanted: int
    max_minutes: float | None = None
    seconds: float = Field(description="Over all sessions of the search.")
    began_with_current: bool = Field(
        False, description="Whether trial 0 has the settings as they stood."
    )
    trials: tuple[TrialRecord, ...]

    @property
    def best(self) -> TrialRecord | None:
        """The trial to train with; None before any gave a loss."""
        return best_of(self.trials)

    def num_of(self, state: Literal["complete", "stopped", "failed", "unfinished"]) -> int:
        """Count the trials of one state."""
        return sum(trial.state == state for trial in self.trials)


def best_of(trials: tuple[TrialRecord, ...]) -> TrialRecord | None:
    """Choose the trial of the lowest loss among those that came to their end, else among all.

    A trial that was stopped lagged behind; its loss counts only where there is no other.
    """
    measured = [t for t in trials if t.loss is not None and t.state != "failed"]
    ended = [trial for trial in measured if trial.state == "complete"]
    return min(ended or measured, key=lambda t: (t.loss, t.number), default=None)


def judged(epochs: tuple[Epoch, ...], config: TrainingConfig) -> FitState:
    """Give what these epochs came to by the rule of early stopping, without any weights."""
    state = FitState()
    for epoch in epochs:
        if epoch.stop_loss is not None and math.isfinite(epoch.stop_loss):
            state = state.judged(epoch, config)
        else:
            state = replace(state, epochs=(*state.epochs, epoch))
    return state


@dataclass(frozen=True)
class Standing:
    """Where a search stands, for people who watch it."""

    records: tuple[TrialRecord, ...]
    latest: TrialRecord
    num_wanted: int
    seconds_left: float | None
    """What is left to do, if trials go on as they did; None before any has ended."""

    @property
    def best(self) -> TrialRecord | None:
        """The best trial so far."""
        return best_of(self.records)


@dataclass
class Search:
    """One session of a search: draws trials within the budget and takes in what they tell."""

    config: Config
    trials: Trials
    clock: Callable[[], float]
    """Seconds since any moment, as time.monotonic gives."""
    on_ended: Callable[[Standing], None] = lambda standing: None
    should_end: Callable[[], bool] = lambda: False
    _epochs: dict[int, dict[int, Epoch]] = field(default_factory=dict)
    _seconds: dict[int, float] = field(default_factory=dict)
    _num_ended: int = 0

    def __post_init__(self) -> None:
        """Start the clock; a new search begins with the settings as they stand, if in the space."""
        self._since, self._earlier = self.clock(), self.trials.seconds
        current = current_values(self.config)
        if current is not None:
            self.trials.begin_with(current)

    @property
    def seconds(self) -> float:
        """How long all sessions have worked."""
        return self._earlier + self.clock() - self._since

    def has_work(self) -> bool:
        """Tell whether a trial is left to do and the budget lets it be done."""
        return self.trials.num_left > 0 and not self.is_spent()

    def is_spent(self) -> bool:
        """Tell whether time is up, or somebody wishes the end: then what runs is to stop."""
        minutes = self.config.tuning.max_minutes
        return self.should_end() or (minutes is not None and self.seconds >= minutes * 60)

    def draw(self) -> tuple[int, Config] | None:
        """Give the next trial's number and configuration; None when nothing more may begin."""
        while not self.is_spent() and (drawn := self.trials.draw()) is not None:
            number, values = drawn
            try:
                config = trial_config(self.config, values)
            except ValueError as error:
                self.trials.end(number, "failed", f"settings refuse these values: {error}")
                self._tell(number)
                continue
            # What an earlier session heard counts; the trial tells it again where it knows more.
            before = self.trials.record(number)
            self._epochs[number] = {epoch.number: epoch for epoch in before.epochs}
            self._seconds[number] = before.seconds
            return number, config
        return None

    def heard(self, number: int, epoch: Epoch, seconds: float) -> None:
        """Take in an epoch; one that was told before changes nothing."""
        self.trials.worked(self.seconds)
        if epoch.number in self._epochs[number]:
            return
        self._epochs[number][epoch.number] = _in_numbers(epoch)
        self._seconds[number] += seconds
        state = self._state(number)
        self.trials.tell(number, state, self._seconds[number])

    def ended(self, number: int, failure: str = "") -> None:
        """Close a trial that ran to its end, was stopped as it lagged behind, or failed.

        One that ran when the budget was spent stays open: with more budget it goes on.
        """
        finished = self._state(number).is_searched(self._training(number))
        if not failure and not finished and self.is_spent():
            return
        ending: Literal["complete", "stopped"] = "complete" if finished else "stopped"
        self.trials.end(number, "failed" if failure else ending, failure)
        self.trials.worked(self.seconds)
        self._num_ended += 1
        self._tell(number)

    def _state(self, number: int) -> FitState:
        epochs = tuple(epoch for _, epoch in sorted(self._epochs[number].items()))
        return judged(epochs, self._training(number))

    def _training(self, number: int) -> TrainingConfig:
        return trial_config(self.config, self.trials.record(number).values).training

    def _tell(self, number: int) -> None:
        records = self.trials.records()
        num_left = self.config.tuning.num_trials - sum(r.state != "unfinished" for r in records)
        left = None
        if self._num_ended:
            left = (self.clock() - self._since) / self._num_ended * max(num_left, 0)
            if (minutes := self.config.tuning.max_minutes) is not None:
                left = min(left, max(minutes * 60 - self.seconds, 0.0))
        latest = next(record for record in records if record.number == number)
        self.on_ended(Standing(records, latest, self.config.tuning.num_trials, left))


def _in_numbers(epoch: Epoch) -> Epoch:
    """Keep losses that are no numbers out of what is written down: JSON has none of them."""
    stop_loss = epoch.stop_loss
    if stop_loss is not None and not math.isfinite(stop_loss):
        stop_loss = None
    train_loss = epoch.train_loss if math.isfinite(epoch.train_loss) else sys.float_info.max
    return epoch.model_copy(update={"stop_loss": stop_loss, "train_loss": train_loss})


def report_of(
    config: Config, run: str, created_at: AwareDatetime, dataset: DatasetVersion, trials: Trials
) -> SearchReport:
    """Tell all that a search has tried by now."""
    records, current = trials.records(), current_values(config)
    return SearchReport(
        run=run,
        model=config.name,
        created_at=created_at,
        dataset=dataset,
        space=config.tuning.space,
        num_wanted=config.tuning.num_trials,
        max_minutes=config.tuning.max_minutes,
        seconds=trials.seconds,
        began_with_current=bool(records) and records[0].values == current,
        trials=records,
    )


def best_values(report: SearchReport) -> Mapping[str, Scalar]:
    """Give the settings of the best trial. Raises ValueError when no trial gave a loss."""
    if report.best is None:
        reasons = sorted({trial.reason for trial in report.trials if trial.reason})
        why = f": {'; '.join(reasons)}" if reasons else "; give it more minutes"
        raise ValueError(f"run {report.run}: none of {len(report.trials)} trials gave a loss{why}")
    return report.best.values


def summary(report: SearchReport, files: Mapping[str, str]) -> dict[str, Any]:
    """Give what a program wants to know of a search."""
    best = report.best
    return {
        "run": report.run,
        "num_trials": len(report.trials),
        "num_complete": report.num_of("complete"),
        "num_stopped_early": report.num_of("stopped"),
        "num_failed": report.num_of("failed"),
        "num_unfinished": report.num_of("unfinished"),
        "seconds": round(report.seconds, 1),
        "best_trial": None if best is None else best.number,
        "best_loss": None if best is None else best.loss,
        "best_settings": {} if best is None else best.values,
        "files": dict(files),
    }
