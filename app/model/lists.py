"""Measure the order of rows within lists, with intervals over lists.

Knows relevances (0 and above), scores and which list each row stands in, [N] each. Ties: NDCG takes
the mean over all orders of tied rows (McSherry and Najork, 2008), as scikit-learn does; the
reciprocal rank takes the worst of them. Source of NDCG: Järvelin and Kekäläinen, Cumulated
gain-based evaluation of IR techniques (2002), with the relevance itself as the gain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.contracts.records import Metric
from app.model.intervals import Array, Bootstrap

CUTOFFS = (5, 10)


@dataclass(frozen=True)
class Lists:
    """Rows sorted by list and, within it, by falling score."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    """[L]: where each list begins."""
    rank: NDArray[np.int64]
    """[N]: place within the list, from 0."""
    tie_starts: NDArray[np.int64]
    """[T]: where each run of equal scores of one list begins."""
    list_of_tie: NDArray[np.int64]

    @classmethod
    def sorted_by(cls, scores: Array, groups: NDArray[np.generic]) -> Self:
        """Sort rows; groups may be of any type that can be told apart."""
        _, codes = np.unique(groups, return_inverse=True)
        order = np.lexsort((-scores, codes))
        codes, ordered = codes[order], scores[order]
        new_list = np.append(True, np.diff(codes) != 0)
        new_tie = new_list | np.append(True, np.diff(ordered) != 0)
        starts, tie_starts = np.flatnonzero(new_list), np.flatnonzero(new_tie)
        rank = np.arange(len(codes)) - starts[codes]
        return cls(order, starts, rank, tie_starts, codes[tie_starts])


def ndcg(relevance: Array, scores: Array, groups: NDArray[np.generic], cutoff: int) -> Array:
    """Give the normalised discounted cumulative gain at a cutoff of each list, sorted by group.

    NaN for a list without any relevant row: every order of it is as good.
    """
    _refuse_negative(relevance)
    ideal = _gain(relevance, Lists.sorted_by(relevance, groups), cutoff)
    gained = _gain(relevance, Lists.sorted_by(scores, groups), cutoff)
    normalised: Array = np.full(len(ideal), np.nan)
    np.divide(gained, ideal, out=normalised, where=ideal > 0)
    return normalised


def reciprocal_rank(relevance: Array, scores: Array, groups: NDArray[np.generic]) -> Array:
    """Give 1 / the place of the first relevant row of each list, sorted by group.

    NaN for a list without any. A row that ties with others stands last among them.
    """
    _refuse_negative(relevance)
    lists = Lists.sorted_by(scores, groups)
    relevant = np.maximum.reduceat(relevance[lists.order] > 0, lists.tie_starts)
    last_rank = np.append(lists.tie_starts[1:], len(scores)) - 1
    places = np.where(relevant, lists.rank[last_rank] + 1.0, np.inf)
    best = np.full(len(lists.starts), np.inf)
    np.minimum.at(best, lists.list_of_tie, places)
    return np.where(np.isfinite(best), 1 / best, np.nan)


def list_figures(
    relevance: Array,
    scores: Array,
    groups: NDArray[np.generic],
    bootstrap: Bootstrap,
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, Metric]:
    """Give mean NDCG at each cutoff and the mean reciprocal rank, with intervals over lists.

    Lists without a relevant row are left out. What is resampled is lists, whatever number of rows
    the bootstrap was made for: rows of one list are no independent evidence. Raises ValueError
    without any list.
    """
    columns = [ndcg(relevance, scores, groups, cutoff) for cutoff in cutoffs]
    columns.append(reciprocal_rank(relevance, scores, groups))
    values = np.stack(columns, axis=1)
    values = values[~np.isnan(values).any(axis=1)]
    if not len(values):
        raise ValueError("evaluation needs a list with a relevant row, got none")
    names = [*(f"ndcg_at_{cutoff}" for cutoff in cutoffs), "mrr"]
    figures = replace(bootstrap, num_rows=len(values)).of_means(values)
    return dict(zip(names, figures, strict=True))


def _gain(relevance: Array, lists: Lists, cutoff: int) -> Array:
    """Give the discounted gain of each list; tied rows share the discounts of their places."""
    discount = np.where(lists.rank < cutoff, 1 / np.log2(lists.rank + 2.0), 0.0)
    sizes = np.diff(np.append(lists.tie_starts, len(lists.order)))
    gains = np.add.reduceat(relevance[lists.order], lists.tie_starts) / sizes
    discounts = np.add.reduceat(discount, lists.tie_starts)
    gained = np.bincount(lists.list_of_tie, gains * discounts, len(lists.starts))
    return gained.astype(np.float64)


def _refuse_negative(relevance: Array) -> None:
    if not len(relevance):
        raise ValueError("evaluation needs rows with known outcomes, got none")
    if relevance.min() < 0:
        raise ValueError(f"relevance must be 0 or more, got {relevance.min():g}")
