"""What every contender of the quality benchmark does, and the predictions that it gives.

A contender is searched on a fold's training and stop rows and never sees those it predicts. All
have the same columns, the same rows, the same calibrator (Platt's, fitted on the stop rows), and
all learn from the stop rows too once these have told them when to stop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray

from app.model.evaluation import log_loss
from app.model.platt import Platt
from benchmarks.tabular.sets import Fold, TabularSet

Settings = Mapping[str, Any]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Calibrated probabilities of a fold's test rows, and what stopped training."""

    scores: Array
    stop_loss: float
    num_rounds: int
    """Epochs or trees."""


class Contender(Protocol):
    """A learner with settings of its own."""

    name: str

    def default(self, num_known: int) -> Settings:
        """Give the settings that a stranger starts with."""

    def suggest(self, trial: optuna.Trial, num_known: int) -> Settings:
        """Draw settings to try."""

    def search(self, tabular: TabularSet, fold: Fold, settings: Settings) -> float:
        """Give the lowest stop loss that the settings reach."""

    def predict(self, tabular: TabularSet, fold: Fold, settings: Settings) -> Prediction:
        """Train and predict the fold's test rows."""


def num_known(fold: Fold) -> int:
    """Count the rows that a contender may learn from."""
    return len(fold.train) + len(fold.stop)


def calibrated_loss(scores: Array, labels: NDArray[np.int64]) -> float:
    """Give the log loss after calibration on the same rows: the stop loss of all contenders."""
    return log_loss(labels, Platt.fit(scores, labels).apply(scores))
