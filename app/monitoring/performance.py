"""Measure what predictions turned out to be worth, once their labels matured.

Knows arrays of labels and probabilities; knows nothing of Ray, tables, time or versions.
"""

import numpy as np

from app.contracts.records import Evaluation
from app.model.evaluation import OneOutcome, evaluate
from app.sections import MonitoringConfig

# The same row may differ by a few units of float32 between batches of different sizes; a wrong
# encoder, column or set of weights differs by far more.
SKEW_TOLERANCE = 1e-5


def realised(
    labels: np.ndarray, probabilities: np.ndarray, config: MonitoringConfig
) -> Evaluation | None:
    """Evaluate probabilities against known outcomes; None until there are enough of both kinds.

    Args:
        labels: outcomes [rows], 0 or 1.
        probabilities: what was predicted [rows].
        config: how many labels are enough, and how many bootstraps make an interval.
    """
    if len(labels) < config.min_labels:
        return None
    try:
        return evaluate(labels, probabilities, num_bootstraps=config.num_bootstraps)
    except OneOutcome:
        return None


def skewed_share(logged: np.ndarray, reproduced: np.ndarray) -> float:
    """Give the share of logged probabilities that the model itself does not reproduce.

    A reproduced figure that is not finite counts as skewed.

    >>> skewed_share(np.array([0.5, 0.25]), np.array([0.5, 0.26]))
    0.5
    """
    if not len(logged):
        return 0.0
    return float(np.mean(~(np.abs(logged - reproduced) <= SKEW_TOLERANCE)))
