"""Hold predictions against outcomes, whatever the task: calibrate, measure the loss, evaluate.

Knows arrays and tasks; knows nothing of networks or tables.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.model.calibration import Calibrator
from app.model.tasks import BinaryTask, LearningTask, RankingTask

Array = NDArray[np.float64]
Labels = NDArray[Any]
Groups = NDArray[np.int64] | None


def fit_calibrator(
    task: LearningTask, kind: str, predictions: Array, labels_B: Labels
) -> Calibrator:
    """Fit what makes the predictions of a task mean what they say, on rows that it has not seen."""
    if isinstance(task, BinaryTask):
        return Calibrator.fit(predictions, labels_B)
    return Calibrator()


def mean_loss(
    task: LearningTask, labels_B: Labels, predictions: Array, groups_B: Groups = None
) -> float:
    """Give the loss that training lowers: a mean over rows, of a ranking over lists."""
    if isinstance(task, RankingTask):
        assert groups_B is not None
        return task.list_loss(labels_B, predictions, groups_B)
    return float(np.mean(task.row_loss(labels_B, predictions)))
