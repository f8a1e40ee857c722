"""Compare two models on the same rows, with intervals from whole days.

Knows arrays; knows nothing of limits or of what the comparison decides. Rows of a day share weather
and trouble, so days are drawn, not rows. Source: Efron and Tibshirani, An Introduction to the
Bootstrap (1993), cluster form.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.contracts.records import Metric

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairedRows:
    """Rows with known outcomes, scored by both models. All arrays have one length."""

    label: NDArray[np.int8]
    old: Array
    new: Array
    day: NDArray[np.int64]
    """UTC day of prediction time, as days since 1970."""
    slices: dict[str, NDArray[np.object_]] = field(default_factory=dict)
    """Category of every row, by column."""
    unit: Literal["day", "part"] = "day"
    """What `day` numbers: days, or parts of rows that no day holds together."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def num_days(self) -> int:
        """Number of different days."""
        return len(np.unique(self.day))

    def only(self, chosen: NDArray[np.bool_]) -> "PairedRows":
        """Keep the chosen rows."""
        slices = {name: values[chosen] for name, values in self.slices.items()}
        arrays = (self.label[chosen], self.old[chosen], self.new[chosen], self.day[chosen])
        return PairedRows(*arrays, slices, self.unit)


@dataclass(frozen=True)
class Draws:
    """How a bootstrap is drawn."""

    num_bootstraps: int
    confidence: float
    seed: int


def auc_gain(rows: PairedRows, draws: Draws, *, within_days: bool = False) -> Metric | None:
    """Give AUC(new) − AUC(old) with its interval; None without both outcomes.

    Exact for every resample: pairs are counted once per pair of days, and a resample weighs those
    counts. `within_days` counts pairs of one day only, a stratified AUC: what a day brings to all
    its rows then cancels, and ten days tell what otherwise takes forty (docs/log.md). Parts have
    nothing of their own that could cancel: of them all pairs count.
    """
    within_days = within_days and rows.unit == "day"
    days, day = np.unique(rows.day, return_inverse=True)
    positives = np.bincount(day, weights=rows.label == 1, minlength=len(days))
    negatives = np.bincount(day, weights=rows.label == 0, minlength=len(days))
    if positives.sum() == 0 or negatives.sum() == 0:
        return None
    won_DD = _pairs_won(rows.label, rows.new, day) - _pairs_won(rows.label, rows.old, day)
    pairs_DD: Array = np.outer(positives, negatives).astype(np.float64)
    if within_days:
        won_DD, pairs_DD = np.diag(np.diag(won_DD)), np.diag(np.diag(pairs_DD))
        if not pairs_DD.any():
            return None
    counts_BD = _day_counts(len(days), draws)
    # A day drawn twice still holds its own pairs only.
    form = "bd,dd->b" if within_days else "bd,de,be->b"
    weights = (counts_BD,) if within_days else (counts_BD, counts_BD)
    gained_B = np.einsum(form, weights[0], won_DD, *weights[1:])
    pairs_B = np.einsum(form, weights[0], pairs_DD, *weights[1:])
    possible = pairs_B > 0
    value = float(won_DD.sum() / pairs_DD.sum())
    return _metric(value, gained_B[possible] / pairs_B[possible], draws.confidence)


def brier_gain(rows: PairedRows, draws: Draws) -> Metric | None:
    """Give Brier(old) − Brier(new), above 0 where the new model is better; None without rows."""
    if len(rows) == 0:
        return None
    days, day = np.unique(rows.day, return_inverse=True)
    gain = (rows.old - rows.label) ** 2 - (rows.new - rows.label) ** 2
    gained = np.bincount(day, weights=gain, minlength=len(days))
    sizes = np.bincount(day, minlength=len(days)).astype(np.float64)
    counts_BD = _day_counts(len(days), draws)
    drawn = (counts_BD @ gained) / (counts_BD @ sizes)
    return _metric(float(gain.mean()), drawn, draws.confidence)


def _day_counts(num_days: int, draws: Draws) -> Array:
    generator = np.random.default_rng(draws.seed)
    return generator.multinomial(
        num_days, np.full(num_days, 1 / num_days), size=draws.num_bootstraps
    ).astype(np.float64)


def _pairs_won(label: NDArray[np.int8], score: Array, day: NDArray[np.intp]) -> Array:
    """Count pairs (positive of day d, negative of day e) ranked rightly; ties count half."""
    num_days = int(day.max()) + 1
    positive, won = label == 1, np.zeros((num_days, num_days))
    for other in range(num_days):
        below = np.sort(score[(label == 0) & (day == other)])
        left = np.searchsorted(below, score[positive], side="left")
        right = np.searchsorted(below, score[positive], side="right")
        won[:, other] = np.bincount(day[positive], weights=(left + right) / 2, minlength=num_days)
    return won


def _metric(value: float, drawn: Array, confidence: float) -> Metric:
    if len(drawn) == 0:
        return Metric(value=value, low=-1.0, high=1.0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Metric(value=value, low=min(float(low), value), high=max(float(high), value))
