"""Keep a search's trials: one Optuna study in a SQLite file, the only truth about what was tried.

Knows Optuna and the file; knows nothing of workers, budgets or pages. Everything is written where
it happens, so that a search whose driver was killed finds each trial as it was left: those that
ended are never run again, those under way go on under their own numbers.
"""

import math
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import Field

from app.contracts.rows import Frozen
from app.sections.tuning import Scalar, TuningConfig
from app.training.space import distributions, readable
from app.training.state import Epoch, FitState

FILE = "study.sqlite"
BUSY_SECONDS = 60
MAX_STARTUP_TRIALS = 10
Ending = Literal["complete", "stopped", "failed"]
STATES: dict[Ending, TrialState] = {
    "complete": TrialState.COMPLETE,
    # Optuna's sampler learns from both: by the last loss, or as the worst of all without one.
    "stopped": TrialState.PRUNED,
    "failed": TrialState.PRUNED,
}


class TrialRecord(Frozen):
    """One trial as it stands."""

    number: int
    values: dict[str, Scalar]
    state: Literal["complete", "stopped", "failed", "unfinished"]
    loss: float | None = Field(None, description="The lowest loss on the stop rows.")
    best_epoch: int = 0
    epochs: tuple[Epoch, ...] = ()
    seconds: float = 0.0
    reason: str = Field("", description="Why it failed.")


class Trials:
    """The trials of one search, on disk."""

    def __init__(self, folder: Path, tuning: TuningConfig) -> None:
        """Open the study of a folder, or begin one."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._tuning = tuning
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{folder / FILE}", engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}}
        )
        self._study: Study = optuna.create_study(
            study_name="search", storage=storage, load_if_exists=True, direction="minimize"
        )
        found = self._study.get_trials(deepcopy=False)
        self._left = [trial.number for trial in found if trial.state == TrialState.RUNNING]

    @property
    def num_begun(self) -> int:
        """How many trials were ever begun; those that wait to be drawn do not count."""
        states = [trial.state for trial in self._study.get_trials(deepcopy=False)]
        return sum(state != TrialState.WAITING for state in states)

    @property
    def num_left(self) -> int:
        """How many trials may still be begun or go on."""
        return max(self._tuning.num_trials - self.num_begun, 0) + len(self._left)

    @property
    def seconds(self) -> float:
        """How long all sessions of the search have worked."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    def worked(self, seconds: float) -> None:
        """Write down how long all sessions have worked by now."""
        self._study.set_user_attr("seconds", round(seconds, 3))

    def begin_with(self, values: dict[str, Scalar]) -> None:
        """Let the first trial of a new search have these values."""
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(values)

    def draw(self) -> tuple[int, dict[str, Scalar]] | None:
        """Give the next trial's number and values; None when all that may be begun were.

        What another session left under way comes first.
        """
        if self._left:
            number = self._left.pop(0)
            return number, readable(self._tuning, self._study.trials[number].params)
        number = self.num_begun
        if number >= self._tuning.num_trials:
            return None
        self._study.sampler = self._sampler(number)
        trial = self._study.ask(distributions(self._tuning))
        return trial.number, readable(self._tuning, trial.params)

    def tell(self, number: int, state: FitState, seconds: float) -> None:
        """Write down a trial's epochs so far, and what they cost; the last epoch is new."""
        trial = self._trial(number)
        latest = state.latest
        trial.report(latest.stop_loss if latest.stop_loss is not None else math.inf, latest.number)
        log = {
            "epochs": [epoch.model_dump() for epoch in state.epochs],
            "loss": state.best_loss if math.isfinite(state.best_loss) else None,
            "best_epoch": state.best_epoch,
            "seconds": round(seconds, 3),
        }
        trial.set_user_attr("log", log)

    def end(self, number: int, ending: Ending, reason: str = "") -> None:
        """Close a trial: nothing of it is run again."""
        trial = self._trial(number)
        trial.set_user_attr("ending", ending)
        trial.set_user_attr("reason", reason)
        loss = self.record(number).loss if ending == "complete" else None
        self._study.tell(number, loss, state=STATES[ending])

    def record(self, number: int) -> TrialRecord:
        """Give one trial as it stands."""
        return self._record(self._study.trials[number])

    def records(self) -> tuple[TrialRecord, ...]:
        """Give every trial that was begun, by number."""
        trials = self._study.get_trials(deepcopy=False)
        return tuple(self._record(t) for t in trials if t.state != TrialState.WAITING)

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        log: dict[str, Any] = trial.user_attrs.get("log", {})
        ended = trial.state != TrialState.RUNNING
        return TrialRecord(
            number=trial.number,
            values=readable(self._tuning, trial.params),
            state=trial.user_attrs["ending"] if ended else "unfinished",
            reason=trial.user_attrs.get("reason", ""),
            **{**log, "epochs": tuple(log.get("epochs", ()))},
        )

    def _trial(self, number: int) -> Trial:
        return Trial(self._study, self._study.trials[number]._trial_id)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Make the sampler of one draw: a search that was resumed does not draw the same again."""
        chance = np.random.SeedSequence([self._tuning.seed, number])
        with warnings.catch_warnings():
            # Both options have been marked experimental since 2020, and are what Optuna advises for
            # dials that act together and for trials at a time.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=int(chance.generate_state(1)[0]),
                multivariate=True,
                constant_liar=True,
                n_startup_trials=min(MAX_STARTUP_TRIALS, max(self._tuning.num_trials // 3, 3)),
            )
