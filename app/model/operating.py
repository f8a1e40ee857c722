"""Choose from which probability on a row is flagged, count what comes of it, and price it.

Knows labels, probabilities and what a mistake costs; knows nothing of models or tables. The
break-even threshold is that of Elkan, The foundations of cost-sensitive learning (2001).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.contracts.evaluations import CostReport, OperatingPoint, OperatingRule
from app.contracts.records import Metric
from app.model.deciding import DEFAULT_THRESHOLD
from app.model.intervals import Array, Bootstrap
from app.sections import CostsConfig, EvaluationConfig

# Flags nothing: no probability reaches it.
NEVER = 1.0 + 1e-9


class Chosen(NamedTuple):
    """A threshold and what chose it."""

    rule: OperatingRule
    threshold: float


def choose_threshold(probabilities: Array, config: EvaluationConfig) -> Chosen:
    """Choose as configured: a threshold, a share of the rows, else what costs say, else 0.5.

    A share flags the likeliest rows of these; rows that tie with the last of them come along.
    """
    if config.threshold is not None:
        return Chosen("threshold", config.threshold)
    if config.flagged_share is not None:
        place = max(round(config.flagged_share * len(probabilities)), 1) - 1
        return Chosen("flagged_share", float(np.sort(probabilities)[::-1][place]))
    if config.costs is not None:
        return Chosen("costs", config.costs.break_even)
    return Chosen("default", DEFAULT_THRESHOLD)


def operate(
    labels: NDArray[np.generic], probabilities: Array, chosen: Chosen, bootstrap: Bootstrap
) -> OperatingPoint:
    """Count rows by what was said of them and what they were, [N] each; labels are 0 or 1."""
    happened = np.asarray(labels) == 1
    flagged = probabilities >= chosen.threshold
    hits = flagged & happened
    means = bootstrap.means(np.stack([flagged, hits, happened], axis=1).astype(np.float64))
    num_flagged, num_hits, num_happened = int(flagged.sum()), int(hits.sum()), int(happened.sum())
    precision = (
        bootstrap.metric(num_hits / num_flagged, _ratio(means[:, 1], means[:, 0]))
        if num_flagged
        else None
    )
    return OperatingPoint(
        rule=chosen.rule,
        threshold=chosen.threshold,
        true_positive=num_hits,
        false_positive=num_flagged - num_hits,
        false_negative=num_happened - num_hits,
        true_negative=len(flagged) - num_flagged - num_happened + num_hits,
        flagged_share=bootstrap.metric(float(flagged.mean()), means[:, 0]),
        precision=precision,
        recall=bootstrap.metric(num_hits / max(num_happened, 1), _ratio(means[:, 1], means[:, 2])),
    )


def row_costs(happened: NDArray[np.bool_], flagged: NDArray[np.bool_], costs: CostsConfig) -> Array:
    """Give what each row costs, [N]."""
    right = np.where(happened, costs.true_positive, costs.false_positive)
    left = np.where(happened, costs.false_negative, costs.true_negative)
    priced: Array = np.where(flagged, right, left)
    return priced


def cheapest_threshold(
    labels: NDArray[np.generic], probabilities: Array, costs: CostsConfig
) -> float:
    """Find the threshold of least total cost on these rows, of all that divide them.

    >>> costs = CostsConfig(false_positive=1, false_negative=1)
    >>> cheapest_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.6, 0.9]), costs)
    0.6
    """
    happened = np.asarray(labels) == 1
    order = np.argsort(-probabilities, kind="stable")
    # What flagging one more row adds to the cost of flagging nobody.
    added = np.where(
        happened[order],
        costs.true_positive - costs.false_negative,
        costs.false_positive - costs.true_negative,
    )
    ordered = probabilities[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    totals = np.concatenate([[0.0], np.cumsum(added)[ends]])
    best = int(totals.argmin())
    return float(ordered[ends[best - 1]]) if best else NEVER


def price(
    labels: NDArray[np.generic],
    probabilities: Array,
    threshold: float,
    costs: CostsConfig,
    bootstrap: Bootstrap,
) -> CostReport:
    """Give the cost a row at a threshold, of flagging nobody and everybody, and at the best."""
    happened = np.asarray(labels) == 1
    best = cheapest_threshold(labels, probabilities, costs)
    limits = (threshold, NEVER, -1.0, best)
    priced = np.stack([row_costs(happened, probabilities >= t, costs) for t in limits], axis=1)
    simple = 1 if priced[:, 1].mean() <= priced[:, 2].mean() else 2
    saved = priced[:, simple] - priced[:, 0]
    figures: list[Metric] = bootstrap.of_means(np.column_stack([priced, saved]))
    return CostReport(
        unit=costs.unit,
        operating=figures[0],
        nobody=figures[1],
        everybody=figures[2],
        best=figures[3],
        best_threshold=best,
        break_even=costs.break_even,
        saved=figures[4],
    )


def _ratio(part: Array, whole: Array) -> Array:
    """Divide resample by resample; NaN where there is nothing to divide by."""
    ratio: Array = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
