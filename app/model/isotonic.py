"""Isotonic calibration: a rising broken line through the shares that were seen.

Sources: Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability
estimates (2002); Oron and Flournoy, Centered isotonic regression (2017), for a line through the
blocks' centres, which keeps the order of rows where steps would tie them; Niculescu-Mizil and
Caruana, Predicting good probabilities with supervised learning (2005), for how many rows it needs.
"""

from functools import cached_property
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from app.model.correction import Array, CannotFit, Correction

MIN_ROWS = 1000
MIN_ROWS_OF_EACH = 50
MAX_KNOTS = 256
# So many rows of the overall share are added to each block: none is ever quite certain, so that the
# log loss stays finite, and a block of few rows is joined to its neighbour.
PRIOR_ROWS = 2.0


class Blocks(NamedTuple):
    """Neighbouring rows that were pooled; each has a weight and a weighted sum of labels."""

    weights: Array
    sums: Array

    @property
    def rates(self) -> Array:
        """Mean label of each block."""
        return self.sums / self.weights


class Isotonic(Correction):
    """A rising broken line from probability to probability, flat beyond its ends.

    >>> Isotonic(scores=(0.2, 0.6), values=(0.1, 0.5)).apply(np.array([0.0, 0.7])).tolist()
    [0.1, 0.5]
    """

    kind: Literal["isotonic"] = "isotonic"
    scores: tuple[float, ...]
    values: tuple[float, ...]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        scores, values = np.array(self.scores), np.array(self.values)
        if len(scores) < 2 or len(scores) != len(values):
            raise ValueError(f"isotonic: {len(scores)} scores and {len(values)} values are no line")
        rising = (np.diff(scores) > 0).all() and (np.diff(values) >= 0).all()
        if not (rising and values[0] > 0 and values[-1] < 1):
            raise ValueError("isotonic: scores and values must rise, values within 0 and 1")
        return self

    @classmethod
    def fit(cls, probabilities: Array, labels: NDArray[np.generic]) -> Self:
        """Pool adjacent violators; the same rows in any order give the same knots.

        Raises CannotFit with fewer than 1000 rows, or 50 of either outcome, and where the share
        of positives does not rise with the probabilities.
        """
        scores, outcomes = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
        num_positive = int(outcomes.sum())
        rarer = min(num_positive, len(outcomes) - num_positive)
        if len(outcomes) < MIN_ROWS or rarer < MIN_ROWS_OF_EACH:
            raise CannotFit(
                f"isotonic needs {MIN_ROWS} rows with {MIN_ROWS_OF_EACH} of either outcome, "
                f"got {len(outcomes)} with {rarer}"
            )
        places, starts, counts = np.unique(scores, return_inverse=True, return_counts=True)
        sums: Array = np.bincount(starts, outcomes).astype(np.float64)
        seen = Blocks(counts.astype(np.float64), sums)
        pooled, firsts = pool(seen)
        sure = num_positive / len(outcomes) * PRIOR_ROWS
        calm, kept = pool(Blocks(pooled.weights + PRIOR_ROWS, pooled.sums + sure))
        firsts = firsts[kept]
        centres = np.add.reduceat(places * counts, firsts) / np.add.reduceat(seen.weights, firsts)
        line = _few(centres, calm)
        if len(line[0]) < 2:
            raise CannotFit("isotonic found no share of positives that rises with the predictions")
        return cls(scores=tuple(line[0].tolist()), values=tuple(line[1].tolist()))

    def apply(self, probabilities: Array) -> Array:
        """Correct probabilities [B]."""
        corrected: Array = np.interp(probabilities, *self._line)
        return corrected

    @cached_property
    def _line(self) -> tuple[Array, Array]:
        return np.array(self.scores), np.array(self.values)


def pool(blocks: Blocks) -> tuple[Blocks, NDArray[np.intp]]:
    """Join neighbours until rates strictly rise: isotonic regression by least squares.

    Gives the blocks and where each begins among those that came. Takes linear time.
    """
    # All of a run that does not rise belongs to one block: most of the work, without a loop.
    rises = np.append(True, np.diff(blocks.rates) > 0)
    runs = np.flatnonzero(rises)
    stack: list[tuple[float, float, int]] = []
    for weight, total, first in zip(
        np.add.reduceat(blocks.weights, runs).tolist(),
        np.add.reduceat(blocks.sums, runs).tolist(),
        runs.tolist(),
        strict=True,
    ):
        block = (weight, total, first)
        while stack and stack[-1][1] / stack[-1][0] >= block[1] / block[0]:
            before = stack.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2])
        stack.append(block)
    weights, sums, firsts = (np.array(column) for column in zip(*stack, strict=True))
    return Blocks(weights, sums), firsts


def _few(centres: Array, blocks: Blocks) -> tuple[Array, Array]:
    """Give a few hundred knots at most, by joining neighbours of like weight."""
    groups = (np.cumsum(blocks.weights) - blocks.weights) * MAX_KNOTS // blocks.weights.sum()
    starts = np.flatnonzero(np.append(True, np.diff(groups) > 0))
    if len(centres) <= MAX_KNOTS:
        starts = np.arange(len(centres))
    weights = np.add.reduceat(blocks.weights, starts)
    scores = np.add.reduceat(centres * blocks.weights, starts) / weights
    values = np.add.reduceat(blocks.sums, starts) / weights
    # Means of scores that lie a rounding apart may be equal.
    apart = np.append(True, np.diff(scores) > 0)
    return scores[apart], np.maximum.accumulate(values)[apart]
