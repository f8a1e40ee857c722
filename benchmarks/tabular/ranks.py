"""Rank contenders over sets, with intervals by resampling the rows that were predicted.

A contender's figure on a set is the mean over its folds. A draw resamples the rows of every fold,
the same rows for all contenders; ranks are taken within the draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from app.model.evaluation import OneOutcome, Ranking, log_loss

Array = NDArray[np.float64]
FIGURES = ("roc_auc", "pr_auc", "log_loss")
NUM_DRAWS = 200
TAIL = 0.05


@dataclass(frozen=True)
class Predicted:
    """One contender's probabilities on one fold, beside the outcomes."""

    labels: NDArray[np.int64]
    scores: Array


@dataclass(frozen=True)
class Figures:
    """ROC-AUC, PR-AUC and log loss of one contender on one set, and the same in every draw."""

    point: Array
    """[3]."""
    draws: Array
    """[D, 3]."""

    def interval(self, figure: str) -> tuple[float, float, float]:
        """Give the value with a 90 % interval."""
        place = FIGURES.index(figure)
        low, high = np.nanquantile(self.draws[:, place], [TAIL, 1 - TAIL])
        return float(self.point[place]), float(low), float(high)


def figures_of(folds: Sequence[Predicted], num_draws: int = NUM_DRAWS) -> Figures:
    """Measure a contender on a set, mean over folds; draws are the same for every contender."""
    points, draws = [], []
    for number, fold in enumerate(folds):
        ranking = Ranking(fold.labels, fold.scores)
        clipped = np.clip(fold.scores, 1e-15, 1 - 1e-15)
        losses = -np.where(fold.labels == 1, np.log(clipped), np.log1p(-clipped))
        points.append([*ranking.areas(), log_loss(fold.labels, fold.scores)])
        chance = np.random.default_rng((len(fold.labels), number))
        draws.append([_draw(ranking, losses, chance) for _ in range(num_draws)])
    return Figures(np.mean(points, axis=0), np.mean(draws, axis=0))


def mean_ranks(
    by_set: Mapping[str, Mapping[str, Figures]],
) -> dict[str, tuple[float, float, float]]:
    """Rank contenders by ROC-AUC on each set, 1 the best, ties shared; mean over sets, 90 %.

    Only contenders that every set has are ranked.
    """
    names = [n for n in next(iter(by_set.values())) if all(n in each for each in by_set.values())]
    point = np.mean([_ranks([each[n].point[0] for n in names]) for each in by_set.values()], axis=0)
    drawn = np.mean(
        [_ranks(np.stack([each[n].draws[:, 0] for n in names])) for each in by_set.values()], axis=0
    )
    lows, highs = np.quantile(drawn, [TAIL, 1 - TAIL], axis=1)
    return {
        name: (float(point[i]), float(lows[i]), float(highs[i])) for i, name in enumerate(names)
    }


def _ranks(aucs: Sequence[float] | Array) -> Array:
    """Rank along the first axis, the highest first.

    Contenders that are equal to 1e-6 share a rank.
    """
    ranked: Array = rankdata(-np.round(np.asarray(aucs), 6), axis=0)
    return ranked


def _draw(ranking: Ranking, losses: Array, chance: np.random.Generator) -> tuple[float, ...]:
    num_rows = len(losses)
    counts = np.bincount(chance.integers(num_rows, size=num_rows), minlength=num_rows)
    weights = counts.astype(np.float64)
    loss = float(weights @ losses) / num_rows
    try:
        return (*ranking.areas(weights), loss)
    except OneOutcome:
        return (np.nan, np.nan, loss)
