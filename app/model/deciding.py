"""Find the rows whose decision hangs on the last digits of a figure.

A network's figure of a row differs by the rounding of float32 with the rows beside it and with the
way it is computed. Where that could move a row over the threshold, or another class to the front,
the row is predicted again alone, and keeps that figure: then all ways come to the same decision.
Knows arrays of predictions; knows nothing of models or tables.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Of a probability before calibration; the ways are found half of that apart at most.
APART = 1e-6
DEFAULT_THRESHOLD = 0.5


def hanging(
    raw: Array, correct: Callable[[Array], Array], threshold: float | None
) -> NDArray[np.intp]:
    """Give the places of rows that the rounding of their figure may decide.

    `raw` are predictions before calibration: probabilities [B], of which those that are `threshold`
    or more when corrected are flagged, none without one; or of several classes [B, C], of which
    the highest is taken, whatever a calibrator that keeps their order makes of them.

    >>> hanging(np.array([0.2, 0.4999999, 0.7]), lambda raw: raw, 0.5).tolist()
    [1]
    >>> hanging(np.array([[0.2, 0.8], [0.5, 0.5]]), lambda raw: raw, None).tolist()
    [1]
    """
    if raw.ndim == 2:
        first_two = np.partition(raw, -2, axis=1)[:, -2:]
        return np.flatnonzero(first_two[:, 1] - first_two[:, 0] <= 2 * APART)
    if threshold is None:
        return np.empty(0, np.intp)
    # A steep calibrator takes two figures far apart: what is compared is what it makes of both.
    flagged_below = correct(np.maximum(raw - APART, 0.0)) >= threshold
    flagged_above = correct(np.minimum(raw + APART, 1.0)) >= threshold
    return np.flatnonzero(flagged_below != flagged_above)
