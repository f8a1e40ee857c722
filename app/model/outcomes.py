"""Hold predictions against outcomes, whatever the task: the loss that training lowers.

Knows arrays and tasks; knows nothing of networks or tables.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.model.calibration import fit_calibrator
from app.model.measures import losses_of
from app.model.tasks import LearningTask, RankingTask

Array = NDArray[np.float64]
Labels = NDArray[Any]
Groups = NDArray[np.int64] | None


def calibrated_loss(
    task: LearningTask, labels_B: Labels, predictions: Array, groups_B: Groups = None
) -> float:
    """Give the loss after the task's usual calibration on these very rows.

    A season's different base rate then does not pass for a worse model. Infinite where a prediction
    is no number.
    """
    if not np.isfinite(predictions).all():
        return math.inf
    calibrator = fit_calibrator("platt", predictions, labels_B, task.kind)
    return mean_loss(task, labels_B, calibrator.apply(predictions), groups_B)


def mean_loss(
    task: LearningTask, labels_B: Labels, predictions: Array, groups_B: Groups = None
) -> float:
    """Give the loss that training lowers: a mean over rows, of a ranking over lists."""
    if isinstance(task, RankingTask):
        assert groups_B is not None
        return task.list_loss(labels_B, predictions, groups_B)
    return float(np.mean(losses_of(task.kind, labels_B, predictions)))
