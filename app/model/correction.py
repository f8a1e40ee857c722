"""What every calibrator is: a correction of predictions, written as JSON; and what they share.

Knows arrays; knows nothing of the model that made them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.contracts.rows import Frozen

Array = NDArray[np.float64]

CLIP = 1e-7
# The pull towards changing nothing counts as this many rows: it decides only where there are hardly
# any outcomes.
PULL_ROWS = 10.0
# A slope at or under 0 would turn the order round: such a model ranks no better than chance.
MIN_SLOPE = 0.05
NUM_STEPS = 50
TOLERANCE = 1e-9


class CannotFit(ValueError):
    """Rows that a calibrator of some kind cannot be fitted on, and why."""


class Correction(Frozen, ABC):
    """A correction of predictions, row by row, that never turns their order round."""

    # Absent from the JSON when empty, as in every calibrator that was simply asked for.
    reason: str = Field(
        "",
        exclude_if=lambda reason: not reason,
        description="Why it is of this kind, where the configuration does not say so.",
    )

    @abstractmethod
    def apply(self, predictions: Array) -> Array:
        """Correct predictions, row by row: [B] or [B, C] as they came."""

    def to_json(self) -> bytes:
        """Write as JSON: equal corrections give equal bytes."""
        return self.model_dump_json(indent=1).encode()


def minimise(
    loss: Callable[[Array], float], newton_step: Callable[[Array], Array], start: Array
) -> Array:
    """Go down a convex loss by Newton's method; the same rows give the same figures."""
    weights, least = start, loss(start)
    for _ in range(NUM_STEPS):
        step = newton_step(weights)
        # A full step can overshoot where probabilities are extreme: halve it until it helps.
        while (after := loss(weights - step)) > least:
            step = step / 2
        weights, least = weights - step, after
        if np.abs(step).max() < TOLERANCE:
            break
    return weights


def logit(probabilities: Array) -> Array:
    """Give log odds, probabilities clipped at 1e-7 and 1 - 1e-7."""
    clipped = _clipped(np.asarray(probabilities, np.float64), CLIP, 1 - CLIP)
    logits: Array = np.log(clipped) - np.log1p(-clipped)
    return logits


def sigmoid(logits: Array) -> Array:
    """Turn log odds back, never overflowing."""
    probabilities: Array = 1.0 / (1.0 + np.exp(-_clipped(logits, -700.0, 700.0)))
    return probabilities


def _clipped(values: Array, low: float, high: float) -> Array:
    """Do as np.clip does, which takes longer to be called than one row takes to be scored."""
    clipped: Array = np.minimum(np.maximum(values, low), high)
    return clipped
