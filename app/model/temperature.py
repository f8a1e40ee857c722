"""Temperature scaling: one figure, for two outcomes or several.

Source: Guo et al., On calibration of modern neural networks (2017), here with a weak pull towards
changing nothing.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.model.correction import (
    CLIP,
    MIN_SLOPE,
    PULL_ROWS,
    Array,
    Correction,
    logit,
    minimise,
    sigmoid,
)

# Rows whose outcomes are all equally likely say nothing of a slope; the pull still does.
MIN_CURVATURE = 1e-6


class Temperature(Correction):
    """A correction that keeps which outcome is likeliest: q is softmax(slope * log p).

    The slope is one over the temperature.

    >>> Temperature(slope=2.0).apply(np.array([[0.8, 0.2]])).round(3).tolist()
    [[0.941, 0.059]]
    """

    kind: Literal["temperature"] = "temperature"
    slope: float = Field(1.0, gt=0)

    @classmethod
    def fit(cls, probabilities: Array, labels: NDArray[np.generic]) -> Self:
        """Fit by Newton's method on the log loss, of probabilities [B] or [B, C].

        A label is 0 or 1, or a place among the C. Without two outcomes nothing can be learned and
        the identity is returned.
        """
        if len(np.unique(labels)) < 2:
            return cls()
        places = np.asarray(labels).astype(np.int64)[:, None]
        logs_BC = _logs(probabilities)
        named_B = np.take_along_axis(logs_BC, places, 1)[:, 0]
        # What a row weighs at most: as many rows' weight is on a slope of 1, whatever the spread.
        pull = PULL_ROWS * max(float(logs_BC.var(1).mean()), MIN_CURVATURE)

        def loss(slope: Array) -> float:
            scaled_BC = slope * logs_BC
            top_B = scaled_BC.max(1)
            spread_B = np.log(np.exp(scaled_BC - top_B[:, None]).sum(1)) + top_B
            pulled = float(slope[0]) - 1
            return float((spread_B - slope * named_B).sum()) + pull * pulled**2 / 2

        def step(slope: Array) -> Array:
            fitted_BC = _softmax(slope * logs_BC)
            mean_B = (fitted_BC * logs_BC).sum(1)
            gradient = (mean_B - named_B).sum() + pull * (slope - 1)
            curvature = (fitted_BC * (logs_BC - mean_B[:, None]) ** 2).sum() + pull
            return np.asarray(gradient / curvature)

        return cls(slope=max(float(minimise(loss, step, np.ones(1))[0]), MIN_SLOPE))

    def apply(self, probabilities: Array) -> Array:
        """Correct probabilities, [B] or [B, C]."""
        if np.ndim(probabilities) == 1:
            return sigmoid(self.slope * logit(probabilities))
        return _softmax(self.slope * _logs(probabilities))


def _logs(probabilities: Array) -> Array:
    """Give log probabilities [B, C], of two outcomes where one is given."""
    clipped: Array = np.clip(np.asarray(probabilities, np.float64), CLIP, 1 - CLIP)
    both = np.stack([1 - clipped, clipped], axis=1) if clipped.ndim == 1 else clipped
    return np.log(both)


def _softmax(logits_BC: Array) -> Array:
    powers_BC = np.exp(logits_BC - logits_BC.max(1, keepdims=True))
    shares_BC: Array = powers_BC / powers_BC.sum(1, keepdims=True)
    return shares_BC
