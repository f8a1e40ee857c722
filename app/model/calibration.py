"""Make probabilities mean what they say: Platt scaling on the logit.

Knows arrays of probabilities and outcomes; knows nothing of the model that made them. Source:
Platt, Probabilistic outputs for support vector machines (1999), here with a weak pull towards
changing nothing.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.contracts.rows import Frozen

Array = NDArray[np.float64]

CLIP = 1e-7
# The pull counts as this many rows: it decides only where there are hardly any outcomes.
PULL_ROWS = 10.0
PULL = np.eye(2) * PULL_ROWS / 4
START = np.array([1.0, 0.0])
NUM_STEPS = 50
TOLERANCE = 1e-9


class Calibrator(Frozen):
    """A monotone correction: logit(q) = slope * logit(p) + intercept, slope above 0.

    >>> Calibrator().apply(np.array([0.25])).round(6).tolist()
    [0.25]
    """

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(cls, probabilities: Array, labels: NDArray[np.generic]) -> Self:
        """Fit by Newton's method on the log loss; the same rows give the same figures.

        Without both outcomes nothing can be learned and the identity is returned.
        """
        outcomes: Array = np.asarray(labels, np.float64)
        if len(np.unique(outcomes)) < 2:
            return cls()
        logits = _logit(probabilities)
        design = np.stack([logits, np.ones_like(logits)], axis=1)
        weights, loss = START, _penalised_loss(design, outcomes, START)
        for _ in range(NUM_STEPS):
            step = _newton_step(design, outcomes, weights)
            # A full step can overshoot where probabilities are extreme: halve it until it helps.
            while (after := _penalised_loss(design, outcomes, weights - step)) > loss:
                step = step / 2
            weights, loss = weights - step, after
            if np.abs(step).max() < TOLERANCE:
                break
        # A slope at or under 0 would turn the order round: such a model ranks no better than
        # chance.
        slope = max(float(weights[0]), 0.05)
        return cls(slope=slope, intercept=float(weights[1]))

    def apply(self, probabilities: Array) -> Array:
        """Correct probabilities, row by row."""
        return _sigmoid(self.slope * _logit(probabilities) + self.intercept)

    def to_json(self) -> bytes:
        """Write as JSON."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what to_json wrote."""
        return cls.model_validate_json(content)


def _newton_step(design: Array, labels: Array, weights: Array) -> Array:
    fitted = _sigmoid(design @ weights)
    gradient = design.T @ (fitted - labels) + PULL @ (weights - START)
    curvature = (design * (fitted * (1 - fitted))[:, None]).T @ design + PULL
    return np.linalg.solve(curvature, gradient)


def _penalised_loss(design: Array, labels: Array, weights: Array) -> float:
    logits = design @ weights
    pulled = weights - START
    # log(1 + exp(x)) without overflow, less x for the positives.
    return float(np.logaddexp(0, logits).sum() - labels @ logits + pulled @ PULL @ pulled / 2)


def _logit(probabilities: Array) -> Array:
    clipped = np.clip(np.asarray(probabilities, np.float64), CLIP, 1 - CLIP)
    logits: Array = np.log(clipped) - np.log1p(-clipped)
    return logits


def _sigmoid(logits: Array) -> Array:
    probabilities: Array = 1.0 / (1.0 + np.exp(-np.clip(logits, -700, 700)))
    return probabilities
