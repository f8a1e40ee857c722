"""Corrections of predictions that are no probabilities: a line, or nothing at all."""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.model.correction import MIN_SLOPE, PULL_ROWS, Array, Correction


class Linear(Correction):
    """A line through values: q = slope * v + intercept, slope above 0.

    >>> Linear(slope=2.0, intercept=1.0).apply(np.array([3.0])).tolist()
    [7.0]
    """

    kind: Literal["linear"] = "linear"
    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0

    @classmethod
    def fit(cls, values: Array, labels: NDArray[np.generic]) -> Self:
        """Fit by least squares, with ten rows' weight on changing nothing, in any unit.

        Values that are all the same are only moved; without rows the identity is returned.
        """
        values = np.asarray(values, np.float64)
        if not len(values):
            return cls()
        share = PULL_ROWS / (len(values) + PULL_ROWS)
        aims: Array = (1 - share) * np.asarray(labels, np.float64) + share * values
        mean, middle = float(values.mean()), float(aims.mean())
        centred = values - mean
        spread = float(centred @ centred)
        slope = float(centred @ (aims - middle)) / spread if spread > 0 else 1.0
        slope = max(slope, MIN_SLOPE)
        return cls(slope=slope, intercept=middle - slope * mean)

    def apply(self, values: Array) -> Array:
        """Correct values [B]."""
        return self.slope * np.asarray(values, np.float64) + self.intercept


class Unchanged(Correction):
    """Predictions as the model makes them."""

    kind: Literal["none"] = "none"

    @classmethod
    def fit(cls, predictions: Array, labels: NDArray[np.generic]) -> Self:
        """Learn nothing."""
        return cls()

    def apply(self, predictions: Array) -> Array:
        """Give predictions back."""
        return np.asarray(predictions, np.float64)
