"""Measure probabilities of one of several classes, with intervals.

Knows labels as places among the classes, 0 to C - 1, and probabilities [N, C] whose rows sum to 1.
"""

import numpy as np
from numpy.typing import NDArray

from app.contracts.records import Metric
from app.model.evaluation import CLIP, OneOutcome, Ranking
from app.model.intervals import Array, Bootstrap


def class_losses(labels: NDArray[np.integer], probabilities_NC: Array) -> Array:
    """Give the negative log likelihood of each row, probabilities clipped at 1e-15.

    Raises ValueError for a label that is no place among the classes.
    """
    places = _places(labels, probabilities_NC)
    chosen = probabilities_NC[np.arange(len(places)), places]
    losses: Array = -np.log(np.clip(chosen, CLIP, 1.0))
    return losses


def class_figures(
    labels: NDArray[np.integer], probabilities_NC: Array, bootstrap: Bootstrap
) -> dict[str, Metric]:
    """Give log loss, accuracy and the macro one-against-the-rest ROC-AUC.

    The AUC is the plain mean over the classes that some rows have and others have not, as in
    scikit-learn; a resample that lacks a class of the rows leaves it out. Raises OneOutcome when
    all rows are of one class.
    """
    places = _places(labels, probabilities_NC)
    present = np.unique(places)
    if len(present) < 2:
        raise OneOutcome(f"ranking needs rows of two classes, got {len(present)}")
    rankings = [Ranking(places == one, probabilities_NC[:, one]) for one in present]
    hits = probabilities_NC.argmax(axis=1) == places
    losses = class_losses(places, probabilities_NC)
    log_loss, accuracy = bootstrap.of_means(np.stack([losses, hits], axis=1).astype(np.float64))
    draws = np.array([_macro_area(rankings, counts) for counts in bootstrap.counts()])
    area = _macro_area(rankings, np.ones(len(places)))
    return {
        "log_loss": log_loss,
        "accuracy": accuracy,
        "macro_roc_auc": bootstrap.metric(area, draws),
    }


def _places(labels: NDArray[np.integer], probabilities_NC: Array) -> NDArray[np.int64]:
    places = np.asarray(labels, np.int64)
    num_classes = probabilities_NC.shape[1]
    if len(places) and (places.min() < 0 or places.max() >= num_classes):
        raise ValueError(
            f"labels must be places among {num_classes} classes, got {places.min()} to "
            f"{places.max()}"
        )
    return places


def _macro_area(rankings: list[Ranking], counts: Array) -> float:
    areas = []
    for ranking in rankings:
        try:
            areas.append(ranking.areas(counts)[0])
        except OneOutcome:
            # A class that a resample lacks cannot be ranked in it.
            continue
    return float(np.mean(areas)) if areas else float("nan")
