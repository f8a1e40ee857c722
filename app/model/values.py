"""Measure predicted numbers, with intervals.

Knows outcomes and predictions, [N] each, in the unit of the outcome.
"""

import numpy as np

from app.contracts.records import Metric
from app.model.intervals import Array, Bootstrap


def value_losses(outcomes: Array, predictions: Array) -> Array:
    """Give the squared error of each row."""
    losses: Array = (outcomes - predictions) ** 2
    return losses


def value_figures(outcomes: Array, predictions: Array, bootstrap: Bootstrap) -> dict[str, Metric]:
    """Give root mean squared error, mean absolute error and the share of variance explained (R2).

    R2 is absent where all outcomes are the same. Raises ValueError without rows.
    """
    if not len(outcomes):
        raise ValueError("evaluation needs rows with known outcomes, got none")
    errors = outcomes - predictions
    # About their mean, so that squares of large outcomes lose no digits.
    centred = outcomes - outcomes.mean()
    columns = np.stack([errors**2, np.abs(errors), centred, centred**2], axis=1)
    point, draws = columns.mean(axis=0), bootstrap.means(columns)
    figures = {
        "rmse": bootstrap.metric(float(np.sqrt(point[0])), np.sqrt(draws[:, 0])),
        "mae": bootstrap.metric(float(point[1]), draws[:, 1]),
    }
    if point[3] > 0:
        figures["r2"] = bootstrap.metric(float(_explained(point[None])[0]), _explained(draws))
    return figures


def _explained(means_DM: Array) -> Array:
    """Give R2 from mean squared error, mean and mean square of the centred outcomes."""
    variance = means_DM[:, 3] - means_DM[:, 2] ** 2
    left = np.full(len(means_DM), np.nan)
    explained: Array = 1 - np.divide(means_DM[:, 0], variance, out=left, where=variance > 0)
    return explained
