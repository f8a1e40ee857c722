"""Measure probabilities against outcomes, with intervals.

Knows arrays; knows nothing of models, tables or thresholds. Every figure takes row weights, so that
a bootstrap draws counts and never copies rows.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.contracts.records import Evaluation, Metric

Array = NDArray[np.float64]
NUM_CALIBRATION_BINS = 10
CLIP = 1e-15


class OneOutcome(ValueError):
    """Rows that hold only one of the two outcomes: ranking figures do not exist for them."""


class Ranking:
    """Rows sorted once by score, from which ranking figures follow for any row weights.

    Ties count as half in ROC-AUC and stand together in PR-AUC, as in scikit-learn.
    """

    def __init__(self, labels: NDArray[np.generic], scores: Array) -> None:
        """Sort rows by falling score; labels are 0 or 1."""
        scores = np.asarray(scores, np.float64)
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._labels = np.asarray(labels, np.float64)[self._order]
        # Where each group of equal scores ends.
        self._ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))

    @cached_property
    def _no_weights(self) -> Array:
        return np.ones(len(self._labels))

    def areas(self, weights: Array | None = None) -> tuple[float, float]:
        """Give ROC-AUC and PR-AUC (average precision); weights are per row, in the rows' order.

        Raises OneOutcome when the weighted rows hold one outcome only.
        """
        weights = self._no_weights if weights is None else weights[self._order]
        positive = np.cumsum(weights * self._labels)[self._ends]
        every = np.cumsum(weights)[self._ends]
        num_positive, num_rows = float(positive[-1]), float(every[-1])
        if num_positive <= 0 or num_positive >= num_rows:
            raise OneOutcome(
                "ranking needs both outcomes, "
                f"got {num_positive:.0f} of {num_rows:.0f} rows positive"
            )
        negative = every - positive
        gained = np.diff(positive, prepend=0.0)
        lost = np.diff(negative, prepend=0.0)
        # Negatives ranked under each group of positives, ties as half.
        under = (negative[-1] - negative) + lost / 2
        roc_auc = float(gained @ under) / (num_positive * float(negative[-1]))
        precision = positive / np.maximum(every, np.finfo(np.float64).tiny)
        return roc_auc, float(gained @ precision) / num_positive


def roc_auc(labels: NDArray[np.generic], scores: Array, weights: Array | None = None) -> float:
    """Give the area under the ROC curve.

    >>> roc_auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.4, 0.4]))
    0.875
    """
    return Ranking(labels, scores).areas(weights)[0]


def pr_auc(labels: NDArray[np.generic], scores: Array, weights: Array | None = None) -> float:
    """Give the average precision."""
    return Ranking(labels, scores).areas(weights)[1]


def brier(labels: NDArray[np.generic], probabilities: Array) -> float:
    """Give the mean squared error of probabilities."""
    return float(np.mean((np.asarray(labels, np.float64) - probabilities) ** 2))


def log_loss(labels: NDArray[np.generic], probabilities: Array) -> float:
    """Give the mean negative log likelihood, probabilities clipped at 1e-15."""
    return float(np.mean(binary_losses(labels, probabilities)))


def binary_losses(labels: NDArray[np.generic], probabilities: Array) -> Array:
    """Give the negative log likelihood of each row, probabilities clipped at 1e-15."""
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    losses: Array = -np.where(np.asarray(labels) == 1, np.log(clipped), np.log1p(-clipped))
    return losses


def calibration_error(labels: NDArray[np.generic], probabilities: Array) -> float:
    """Give the expected calibration error over ten bins of equal mass."""
    order = np.argsort(probabilities, kind="stable")
    gaps = np.asarray(labels, np.float64)[order] - np.asarray(probabilities)[order]
    bins = np.array_split(gaps, min(NUM_CALIBRATION_BINS, len(gaps)))
    return float(sum(abs(part.sum()) for part in bins)) / len(gaps)


def evaluate(
    labels: NDArray[np.generic],
    probabilities: Array,
    *,
    num_bootstraps: int = 200,
    confidence: float = 0.9,
    seed: int = 0,
) -> Evaluation:
    """Give every figure, with bootstrap intervals over rows; the same input gives the same output.

    Raises OneOutcome without rows of both outcomes.
    """
    outcomes: Array = np.asarray(labels, np.float64)
    probabilities = np.asarray(probabilities, np.float64)
    if not len(outcomes):
        raise OneOutcome("evaluation needs rows of both outcomes, got none")
    ranking = Ranking(outcomes, probabilities)
    squared = (outcomes - probabilities) ** 2
    point = (*ranking.areas(), float(squared.mean()))
    generator = np.random.default_rng(seed)
    draws = [_draw(ranking, squared, generator) for _ in range(num_bootstraps)]
    tail = (1 - confidence) / 2
    lows, highs = np.nanquantile(draws, [tail, 1 - tail], axis=0) if len(draws) else (point, point)
    metrics = [
        Metric(value=value, low=min(float(low), value), high=max(float(high), value))
        for value, low, high in zip(point, lows, highs, strict=True)
    ]
    return Evaluation(
        num_rows=len(outcomes),
        positive_share=float(outcomes.mean()),
        mean_probability=float(probabilities.mean()),
        roc_auc=metrics[0],
        pr_auc=metrics[1],
        brier=metrics[2],
        log_loss=log_loss(outcomes, probabilities),
        calibration_error=calibration_error(outcomes, probabilities),
    )


def _draw(
    ranking: Ranking, squared: Array, generator: np.random.Generator
) -> tuple[float, float, float]:
    """Evaluate one resample of the rows, drawn as counts."""
    num_rows = len(squared)
    counts = np.bincount(generator.integers(num_rows, size=num_rows), minlength=num_rows).astype(
        np.float64
    )
    error = float(counts @ squared) / num_rows
    try:
        return (*ranking.areas(counts), error)
    except OneOutcome:
        # A resample without both outcomes says nothing about ranking; the quantiles leave it out.
        return (np.nan, np.nan, error)
