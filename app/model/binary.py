"""Give every figure of probabilities of one of two outcomes, all of them with intervals.

`evaluation` has the figures that the ledger keeps; here log loss and calibration error have
intervals too. Knows arrays only.
"""

import numpy as np
from numpy.typing import NDArray

from app.contracts.records import Metric
from app.model.evaluation import (
    NUM_CALIBRATION_BINS,
    OneOutcome,
    Ranking,
    binary_losses,
    calibration_error,
)
from app.model.intervals import Array, Bootstrap


def binary_figures(
    labels: NDArray[np.generic], probabilities: Array, bootstrap: Bootstrap
) -> dict[str, Metric]:
    """Give ROC-AUC, PR-AUC, log loss, Brier score and expected calibration error.

    Raises OneOutcome without rows of both outcomes.
    """
    outcomes = np.asarray(labels, np.float64)
    if not len(outcomes):
        raise OneOutcome("evaluation needs rows of both outcomes, got none")
    ranking = Ranking(outcomes, probabilities)
    roc_auc, pr_auc = ranking.areas()
    errors = np.stack(
        [binary_losses(outcomes, probabilities), (outcomes - probabilities) ** 2], axis=1
    )
    gaps = CalibrationGaps(outcomes, probabilities)
    areas, gap_draws = [], []
    for counts in bootstrap.counts():
        areas.append(_areas(ranking, counts))
        gap_draws.append(gaps.error(counts))
    roc_draws, pr_draws = np.array(areas).T
    log_loss, brier = bootstrap.of_means(errors)
    error = calibration_error(outcomes, probabilities)
    return {
        "roc_auc": bootstrap.metric(roc_auc, roc_draws),
        "pr_auc": bootstrap.metric(pr_auc, pr_draws),
        "log_loss": log_loss,
        "brier": brier,
        "calibration_error": bootstrap.pivotal(error, np.array(gap_draws)),
    }


class CalibrationGaps:
    """Outcome less probability by bin of equal mass, sorted once for any row weights."""

    def __init__(self, outcomes: Array, probabilities: Array) -> None:
        """Lay the bins over the rows as they are; weights do not move them."""
        self._order = np.argsort(probabilities, kind="stable")
        self._gaps = (outcomes - probabilities)[self._order]
        num_bins = min(NUM_CALIBRATION_BINS, len(outcomes))
        parts = np.array_split(np.arange(len(outcomes)), num_bins)
        self._starts = np.array([part[0] for part in parts])

    def error(self, weights: Array) -> float:
        """Give the expected calibration error of weighted rows."""
        weighted = np.add.reduceat(self._gaps * weights[self._order], self._starts)
        return float(np.abs(weighted).sum() / weights.sum())


def _areas(ranking: Ranking, counts: Array) -> tuple[float, float]:
    try:
        return ranking.areas(counts)
    except OneOutcome:
        # A resample without both outcomes says nothing about ranking; intervals leave it out.
        return (np.nan, np.nan)
