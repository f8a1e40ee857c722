"""Platt scaling: two figures on the logit.

Source: Platt, Probabilistic outputs for support vector machines (1999), here with a weak pull
towards changing nothing.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.model.correction import (
    MIN_SLOPE,
    PULL_ROWS,
    Array,
    Correction,
    logit,
    minimise,
    sigmoid,
)

PULL = np.eye(2) * PULL_ROWS / 4
START = np.array([1.0, 0.0])


class Platt(Correction):
    """A monotone correction: logit(q) = slope * logit(p) + intercept, slope above 0.

    >>> Platt().apply(np.array([0.25])).round(6).tolist()
    [0.25]
    """

    # Left out of the JSON: a calibrator that names no kind is of this one, as from the beginning.
    kind: Literal["platt"] = Field("platt", exclude=True)
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
        logits = logit(probabilities)
        design = np.stack([logits, np.ones_like(logits)], axis=1)
        weights = minimise(
            lambda weights: _penalised_loss(design, outcomes, weights),
            lambda weights: _newton_step(design, outcomes, weights),
            START,
        )
        return cls(slope=max(float(weights[0]), MIN_SLOPE), intercept=float(weights[1]))

    def apply(self, probabilities: Array) -> Array:
        """Correct probabilities [B]."""
        return sigmoid(self.slope * logit(probabilities) + self.intercept)

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what to_json wrote."""
        return cls.model_validate_json(content)


def _newton_step(design: Array, labels: Array, weights: Array) -> Array:
    fitted = sigmoid(design @ weights)
    gradient = design.T @ (fitted - labels) + PULL @ (weights - START)
    curvature = (design * (fitted * (1 - fitted))[:, None]).T @ design + PULL
    return np.linalg.solve(curvature, gradient)


def _penalised_loss(design: Array, labels: Array, weights: Array) -> float:
    logits = design @ weights
    pulled = weights - START
    # log(1 + exp(x)) without overflow, less x for the positives.
    return float(np.logaddexp(0, logits).sum() - labels @ logits + pulled @ PULL @ pulled / 2)
