"""Find the rows that a model does worst on, as conditions on one column or on two.

Every condition and every pair of conditions is a slice; its mean loss is compared with that of all
other rows by Welch's test. Rows of one day share what happened that day: where rows come with
clusters, a slice must be met in three of them, and its error is at least the one that whole
clusters show. Of the slices that stand the control of false discoveries, those come
first whose excess is certain to be large, so that a few unlucky rows never win. Sources: Chung et
al., Automated data slicing for model validation: Slice Finder (2019), for slices, effect size and
test; Benjamini and Yekutieli (2001) for the control, which holds for slices that overlap; Liang and
Zeger (1986) for errors by cluster. Knows cut columns and errors a row; knows nothing of
tables or models.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.model.conditions import Cut
from app.model.intervals import Array, deviate

Kind = Literal["loss", "too_low", "too_high"]
# Pairs are made of so many columns at most, those with the largest excess by themselves.
MAX_PAIRED_CUTS = 48
# Two slices that share more than this share of their rows are one finding.
MAX_OVERLAP = 0.5
MAX_LOOKED_AT = 2000
MIN_CLUSTERS = 3
MAX_CLUSTERS = 20


@dataclass(frozen=True)
class Found:
    """A slice that stands out: its conditions as (cut, code), and how much."""

    parts: tuple[tuple[int, int], ...]
    kind: Kind
    num_rows: int
    excess: float
    sure_effect: float
    """Lower end of the excess, in standard deviations of a row's error."""
    q_value: float

    def mask(self, cuts: Sequence[Cut]) -> NDArray[np.bool_]:
        """Tell which rows it holds."""
        masks = [cuts[place].codes == code for place, code in self.parts]
        met: NDArray[np.bool_] = np.logical_and.reduce(masks)
        return met


@dataclass(frozen=True)
class Tally:
    """Slices side by side: who they are, their rows, and sums of each error and of its square."""

    parts: NDArray[np.int32]
    """[S, 4]: cut and code, cut and code; -1 for no second condition."""
    counts: Array
    sums: Array
    """[S, E]."""
    squares: Array
    clustered: Array
    """[S, E]: sum over clusters of the squared sum of a cluster's deviations."""
    num_clusters: Array

    def over(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> "Tally":
        """Keep some slices."""
        return Tally(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence["Tally"]) -> "Tally":
        """Put tallies under one another."""
        columns = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        return cls(*map(np.concatenate, columns))


@dataclass(frozen=True)
class Errors:
    """What is looked at in each row, [N, E], and the cluster that the row stands in."""

    values: Array
    clusters: NDArray[np.int64]
    num_clusters: int

    @classmethod
    def of(cls, errors: Mapping[Kind, Array], clusters: NDArray[np.integer] | None) -> "Errors":
        """Stack errors; neighbouring clusters are put together where there are very many."""
        values = np.stack(list(errors.values()), axis=1)
        if clusters is None:
            return cls(values, np.zeros(len(values), np.int64), 1)
        known, codes = np.unique(clusters, return_inverse=True)
        num = min(len(known), MAX_CLUSTERS)
        return cls(values, codes * num // len(known), num)


@dataclass(frozen=True)
class Findings:
    """What a search looked at and found, the worst first."""

    num_tested: int
    num_significant: int
    found: tuple[Found, ...]


def find_slices(
    cuts: Sequence[Cut],
    errors: Mapping[Kind, Array],
    *,
    clusters: NDArray[np.integer] | None = None,
    min_rows: int,
    most: int,
    false_discovery_share: float,
    confidence: float,
) -> Findings:
    """Search slices whose mean of an error, [N] each, is above that of all other rows.

    `clusters`, [N], says which rows are no independent evidence, such as those of a day.
    """
    if not cuts or not errors:
        return Findings(0, 0, ())
    kinds, stacked = list(errors), Errors.of(errors, clusters)
    singles = _singles(cuts, stacked, min_rows)
    pairs, num_skipped = _pairs(cuts, singles, stacked, min_rows)
    tally = Tally.joined([singles, *pairs])
    z_SE, effect_SE, excess_SE = _compare(tally, stacked, deviate(confidence))
    num_tests = (len(tally.counts) + num_skipped) * len(kinds)
    q_SE = q_values(z_SE.ravel(), num_tests).reshape(z_SE.shape)
    significant = (q_SE <= false_discovery_share) & (effect_SE > 0)
    worse = significant & _beats_its_parts(tally, singles, effect_SE)
    order = np.argsort(-np.where(worse, effect_SE, -np.inf), axis=None, kind="stable")
    ranked = (
        Found(
            parts=_parts(tally.parts[s]),
            kind=kinds[e],
            num_rows=int(tally.counts[s]),
            excess=float(excess_SE[s, e]),
            sure_effect=float(effect_SE[s, e]),
            q_value=float(q_SE[s, e]),
        )
        for s, e in (divmod(int(at), len(kinds)) for at in order[: int(worse.sum())])
    )
    found = tuple(_without_repeats(ranked, cuts, most))
    return Findings(len(tally.counts), int(significant.any(axis=1).sum()), found)


def q_values(z: Array, num_tests: int) -> Array:
    """Turn one-sided normal deviates into Benjamini and Yekutieli's false discovery shares.

    Tests that were counted and not made are as good as failed: that can only raise the shares.

    >>> q_values(np.array([6.0, 0.0]), 2).round(6).tolist()
    [0.0, 0.75]
    """
    order = np.argsort(-z, kind="stable")
    p = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in z[order]])
    harmonic = float(np.sum(1.0 / np.arange(1, num_tests + 1)))
    raw = p * num_tests * harmonic / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate(raw[::-1])[::-1].clip(0, 1)
    return q


def _singles(cuts: Sequence[Cut], errors: Errors, min_rows: int) -> Tally:
    parts = []
    for place, cut in enumerate(cuts):
        codes = np.arange(-1, len(cut.says), dtype=np.int32)
        none = np.full(len(codes), -1, np.int32)
        who = np.stack([np.full(len(codes), place, np.int32), codes, none, none], axis=1)
        parts.append(_tallied(who, cut.codes + 1, errors).over(codes >= 0))
    joined = Tally.joined(parts)
    return joined.over(_supported(joined, errors, min_rows))


def _pairs(
    cuts: Sequence[Cut], singles: Tally, errors: Errors, min_rows: int
) -> tuple[list[Tally], int]:
    """Tally the pairs of the cuts that stand out most; count the slices of all other pairs."""
    z_SE, _, _ = _compare(singles, errors, 0.0)
    strongest = [
        float(np.abs(z_SE[singles.parts[:, 0] == place]).max(initial=0.0))
        for place in range(len(cuts))
    ]
    chosen = sorted(np.argsort(-np.array(strongest), kind="stable")[:MAX_PAIRED_CUTS].tolist())
    tallies = [
        _pair(cuts, (first, second), errors, min_rows)
        for rank, first in enumerate(chosen)
        for second in chosen[rank + 1 :]
    ]
    sizes = np.array([len(cut.says) for cut in cuts], np.float64)
    kept = sizes[chosen]
    num_all = (sizes.sum() ** 2 - (sizes**2).sum()) / 2
    num_kept = (kept.sum() ** 2 - (kept**2).sum()) / 2
    return tallies, round(num_all - num_kept)


def _pair(cuts: Sequence[Cut], places: tuple[int, int], errors: Errors, min_rows: int) -> Tally:
    first, second = cuts[places[0]], cuts[places[1]]
    width = len(second.says) + 1
    joint = (first.codes + 1) * width + second.codes + 1
    one, other = np.divmod(np.arange((len(first.says) + 1) * width, dtype=np.int32), width)
    here, there = (np.full(len(one), place, np.int32) for place in places)
    tally = _tallied(np.stack([here, one - 1, there, other - 1], axis=1), joint, errors)
    counts = tally.counts
    # Where one condition implies the other, the pair is no new slice.
    alone = np.minimum(np.bincount(one, counts)[one], np.bincount(other, counts)[other])
    keep = (one > 0) & (other > 0) & (counts < alone)
    return tally.over(keep & _supported(tally, errors, min_rows))


def _supported(tally: Tally, errors: Errors, min_rows: int) -> NDArray[np.bool_]:
    least = min(MIN_CLUSTERS, errors.num_clusters)
    return (tally.counts >= min_rows) & (tally.num_clusters >= least)


def _tallied(who: NDArray[np.int32], codes: NDArray[np.int32], errors: Errors) -> Tally:
    """Count rows and add up errors by code and cluster, one row of `who` a code."""
    size, width = len(who), errors.num_clusters
    joint = codes.astype(np.int64) * width + errors.clusters
    counts_SG = np.bincount(joint, minlength=size * width).reshape(size, width)
    counts = counts_SG.sum(axis=1).astype(np.float64)
    sums, squares, clustered = [], [], []
    for values in errors.values.T:
        sums_SG = np.bincount(joint, values, size * width).reshape(size, width)
        total = sums_SG.sum(axis=1)
        means = total / np.maximum(counts, 1)
        sums.append(total)
        squares.append(np.bincount(codes, values**2, size))
        clustered.append(((sums_SG - means[:, None] * counts_SG) ** 2).sum(axis=1))
    present = (counts_SG > 0).sum(axis=1).astype(np.float64)
    return Tally(
        who,
        counts,
        np.stack(sums, axis=1),
        np.stack(squares, axis=1),
        np.stack(clustered, axis=1),
        present,
    )


def _compare(tally: Tally, errors: Errors, half_width: float) -> tuple[Array, Array, Array]:
    """Give Welch's deviate, the sure effect size and the excess of each slice and error, [S, E].

    With a long right tail, as losses have it, the deviate of a bad slice is too small rather than
    too large: a high mean comes with a high variance.
    """
    values, counts, groups = errors.values, tally.counts[:, None], tally.num_clusters[:, None]
    rest = len(values) - counts
    totals, total_squares = values.sum(axis=0), (values**2).sum(axis=0)
    inside, outside = tally.sums / counts, (totals - tally.sums) / rest
    within = tally.squares / counts - inside**2
    without = (total_squares - tally.squares) / rest - outside**2
    tiny = np.finfo(np.float64).tiny
    # Of one cluster there is no spread to see; rows alone speak then.
    by_cluster = tally.clustered / counts**2 * groups / np.maximum(groups - 1, 1)
    by_row = within / counts + without / rest
    error = np.sqrt(np.maximum(np.maximum(by_row, by_cluster), tiny))
    spread = np.sqrt(np.maximum((within + without) / 2, tiny))
    excess = inside - outside
    return excess / error, (excess - half_width * error) / spread, excess


def _beats_its_parts(tally: Tally, singles: Tally, effect_SE: Array) -> NDArray[np.bool_]:
    """Tell which pairs are surely worse than either of their conditions; singles always are."""
    num_singles = len(singles.counts)
    place = {(int(p[0]), int(p[1])): i for i, p in enumerate(singles.parts)}
    beats = np.ones(effect_SE.shape, np.bool_)
    pairs = tally.parts[num_singles:]
    if len(pairs):
        first = [place[int(p[0]), int(p[1])] for p in pairs]
        second = [place[int(p[2]), int(p[3])] for p in pairs]
        parents = np.maximum(effect_SE[first], effect_SE[second])
        beats[num_singles:] = effect_SE[num_singles:] > parents
    return beats


def _without_repeats(ranked: Iterator[Found], cuts: Sequence[Cut], most: int) -> Iterator[Found]:
    """Pass over slices that are mostly the rows of one before them."""
    masks: list[NDArray[np.bool_]] = []
    for looked_at, one in enumerate(ranked):
        if len(masks) >= most or looked_at >= MAX_LOOKED_AT:
            return
        mask = one.mask(cuts)
        if any((mask & other).sum() > MAX_OVERLAP * (mask | other).sum() for other in masks):
            continue
        masks.append(mask)
        yield one


def _parts(row: NDArray[np.int32]) -> tuple[tuple[int, int], ...]:
    first, second = (int(row[0]), int(row[1])), (int(row[2]), int(row[3]))
    return (first,) if second[0] < 0 else (first, second)
