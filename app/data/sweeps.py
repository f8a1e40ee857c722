"""Ask many groups of intervals at many moments at once: how much counts, what came last.

Knows whole numbers: groups, moments, weights; knows nothing of what they stand for. Everything is
sorted once and swept once, in 64-bit integers, so that results are exact and free of order.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def tally(
    groups: Ints, moments: Ints, weights: Ints, asked_groups: Ints, asked_moments: Ints
) -> Ints:
    """Add up the weights [k, n] of a group's moments that are not after the one asked: [k, q].

    >>> one = np.array([[1, 1, -1]])
    >>> tally(np.array([7, 7, 7]), np.array([1, 2, 5]), one, np.array([7, 7]), np.array([2, 5]))
    array([[2, 1]])
    """
    order, found = _swept(groups, moments, asked_groups, asked_moments)
    num_asked = len(asked_groups)
    padded = np.concatenate([weights, np.zeros((len(weights), num_asked), np.int64)], axis=1)
    sums = np.zeros((len(weights), len(order) + 1), np.int64)
    np.cumsum(padded[:, order], axis=1, out=sums[:, 1:])
    sorted_groups = np.concatenate([groups, asked_groups])[order]
    before = np.searchsorted(sorted_groups, asked_groups)
    return sums[:, found + 1] - sums[:, before]


def latest(
    groups: Ints, moments: Ints, times: Ints, asked_groups: Ints, asked_moments: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """Find the greatest time among a group's moments not after the one asked, where there is one.

    >>> latest(np.array([7, 7]), np.array([1, 2]), np.array([9, 4]), np.array([7]), np.array([2]))
    (array([9]), array([ True]))
    """
    if not len(groups):
        return np.zeros_like(asked_groups), np.zeros(len(asked_groups), bool)
    by_time = np.lexsort((times, groups))
    order, found = _swept(groups, moments, asked_groups, asked_moments)
    ranks = np.full(len(order), -1)
    ranks[by_time] = np.arange(len(by_time))
    # Ranks rise with the group: the highest so far is of the same group, or it has none so far.
    highest = np.maximum.accumulate(ranks[order])[found]
    place = by_time[np.maximum(highest, 0)]
    return times[place], (highest >= 0) & (groups[place] == asked_groups)


def merge_spans(groups: Ints, starts: Ints, ends: Ints) -> tuple[Ints, Ints, Ints]:
    """Unite the intervals [start, end) of each group that overlap or touch, ordered by group.

    >>> merge_spans(np.array([1, 1, 1]), np.array([8, 0, 3]), np.array([9, 4, 5]))
    (array([1, 1]), array([0, 8]), array([5, 9]))
    """
    if not len(groups):
        return groups, starts, ends
    order = np.lexsort((starts, groups))
    groups, starts, ends = groups[order], starts[order], ends[order]
    by_end = np.lexsort((ends, groups))
    ranks = np.empty_like(by_end)
    ranks[by_end] = np.arange(len(by_end))
    reached = ends[by_end][np.maximum.accumulate(ranks)]
    fresh = np.ones(len(groups), bool)
    fresh[1:] = (np.diff(groups) != 0) | (starts[1:] > reached[:-1])
    return groups[fresh], starts[fresh], reached[np.append(fresh[1:], True)]


def _swept(
    groups: Ints, moments: Ints, asked_groups: Ints, asked_moments: Ints
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order entries and questions by group and moment, a question last; say where they come."""
    is_asked = np.repeat([0, 1], [len(groups), len(asked_groups)])
    together = np.concatenate([moments, asked_moments])
    order = np.lexsort((is_asked, together, np.concatenate([groups, asked_groups])))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return order, place[len(groups) :]
