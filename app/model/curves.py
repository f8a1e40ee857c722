"""Reduce the curves of a binary model to what a picture can show.

Knows labels and probabilities; knows nothing of pictures. Points that are kept lie on the curve;
those between them are less than a pixel from a straight line.
"""

import numpy as np
from numpy.typing import NDArray

from app.contracts.evaluations import Bin, Curves
from app.model.intervals import Array, share_of

MAX_POINTS = 200
NUM_RELIABILITY_BINS = 12
NUM_SCORE_BINS = 50
Points = tuple[tuple[float, float], ...]


def curves(labels: NDArray[np.generic], probabilities: Array, confidence: float) -> Curves:
    """Give ROC, precision-recall and reliability curves and a histogram of the probabilities.

    Labels are 0 or 1, both of them present.
    """
    outcomes = np.asarray(labels, np.float64)
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    hits = np.cumsum(outcomes[order])[ends]
    every = (ends + 1).astype(np.float64)
    recall, false_rate = hits / hits[-1], (every - hits) / (every[-1] - hits[-1])
    roc = np.stack([np.append(0.0, false_rate), np.append(0.0, recall)], axis=1)
    pr = np.stack([recall, hits / every], axis=1)
    return Curves(
        roc=_points(thin(roc)),
        pr=_points(thin(pr)),
        reliability=reliability(outcomes, probabilities, confidence),
        scores=tuple(np.histogram(probabilities, NUM_SCORE_BINS, (0.0, 1.0))[0].tolist()),
    )


def thin(points_N2: Array, most: int = MAX_POINTS) -> Array:
    """Keep points at even steps along the curve, both ends among them.

    >>> thin(np.array([[0.0, 0.0], [0.1, 0.0], [0.2, 0.0], [1.0, 0.0]]), 2).tolist()
    [[0.0, 0.0], [1.0, 0.0]]
    """
    if len(points_N2) <= most:
        return points_N2
    steps = np.abs(np.diff(points_N2, axis=0)).sum(axis=1)
    along = np.append(0.0, np.cumsum(steps))
    wanted = np.linspace(0.0, along[-1], most)
    places = np.searchsorted(along, wanted - 1e-12).clip(0, len(along) - 1)
    kept: Array = points_N2[np.unique(places)]
    return kept


def reliability(outcomes: Array, probabilities: Array, confidence: float) -> tuple[Bin, ...]:
    """Compare what was said with what happened in bins of as many rows each."""
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, min(NUM_RELIABILITY_BINS, len(order)))
    return tuple(
        Bin(
            num_rows=len(part),
            predicted=float(probabilities[part].mean()),
            observed=share_of(int(outcomes[part].sum()), len(part), confidence),
        )
        for part in parts
    )


def _points(points_N2: Array) -> Points:
    return tuple((round(float(x), 5), round(float(y), 5)) for x, y in points_N2)
