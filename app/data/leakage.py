"""Suspect columns that know the outcome: because they are it, follow from it, or are made after it.

Knows arrays of one sample; knows nothing of files or contracts. A suspect is a question to the
person who knows the table; the reason says what was seen.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.rows import Kind
from app.contracts.times import micros_in
from app.data.kinds import words_of

# Alone, one column of a fair table hardly ever ranks outcomes like this.
SUSPECT_AUC = 0.99
STRONG_AUC = 0.95
MIN_ROWS = 30
MIN_PURE = 20
GENERIC = frozenset(words_of("label_target_y_class_outcome_result_status_flag_is_has"))
NUM_FOLDS = 5
# So many standard errors from a half: an order that chance does not give.
ORDER_SIGMAS = 6.0
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Suspicion:
    """What a column seems to know, and whether that is enough to leave it out."""

    leaves_out: bool
    why: str


def suspect(
    name: str, kind: Kind, values: pa.Array, labels: Labels, label_name: str
) -> Suspicion | None:
    """Look at one column of a sample with known outcomes; None where there is nothing to say."""
    if kind == "identifier":
        return None
    shared = set(words_of(label_name)) - GENERIC
    if shared and shared <= set(words_of(name)):
        return Suspicion(True, f"the name speaks of {label_name}: is it known before?")
    there = values.is_valid().to_numpy(zero_copy_only=False)
    filled = _filled(there, labels)
    if filled:
        return Suspicion(True, filled)
    chosen = values.filter(pa.array(there))
    known = labels[there]
    if not _enough(known):
        return None
    if kind == "category":
        area = category_auc(chosen, known)
        same = _is_copy(chosen, known)
    else:
        numbers = micros_in(chosen) if kind == "time" else chosen
        area = auc(numbers.to_numpy(zero_copy_only=False).astype(float), known)
        same = _is_copy(numbers.cast(pa.string()), known)
    if same:
        return Suspicion(True, "each value goes with one outcome only: the label in other words?")
    strength = max(area, 1 - area)
    if strength >= SUSPECT_AUC:
        return Suspicion(True, f"alone it ranks outcomes almost perfectly (AUC {strength:.3f})")
    if strength >= STRONG_AUC:
        return Suspicion(False, f"strong alone (AUC {strength:.3f}): make sure it is known before")
    return None


def suspect_later(values: pa.Array, event_times: pa.Array) -> str:
    """Say when a time mostly lies after the event; empty when it does not."""
    later = pc.greater(values, event_times).drop_null()
    if len(later) < MIN_ROWS:
        return ""
    share = float(pc.mean(later.cast(pa.float64())).as_py())
    return f"{share:.0%} of its times lie after the event" if share > 0.05 else ""


def order_auc(places: NDArray[np.float64], labels: Labels) -> float | None:
    """Give the AUC of rows' order for the outcome, when it is no chance; else None.

    The standard error is that of ranks under no relation (Mann and Whitney, 1947).
    """
    if not _enough(labels):
        return None
    num_positive = int(labels.sum())
    num_negative = len(labels) - num_positive
    error = np.sqrt((len(labels) + 1) / (12.0 * num_positive * num_negative))
    area = auc(places, labels)
    return area if abs(area - 0.5) > max(ORDER_SIGMAS * error, 0.1) else None


def auc(scores: NDArray[np.float64], labels: Labels) -> float:
    """Give the share of pairs of a 1 and a 0 that scores rank rightly; ties count half.

    >>> auc(np.array([1.0, 2.0, 3.0, 3.0]), np.array([0, 0, 1, 0]))
    0.8333333333333334
    """
    _, codes, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[codes]
    num_positive = int(labels.sum())
    num_negative = len(labels) - num_positive
    won = ranks[labels == 1].sum() - num_positive * (num_positive + 1) / 2
    return float(won / (num_positive * num_negative))


def category_auc(values: pa.Array, labels: Labels) -> float:
    """Give the AUC of each value's share of 1s, taken from the other folds.

    Judged on the rows that made it, a share of many rare values would know every outcome by heart.
    """
    codes = values.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    fold = np.arange(len(labels)) % NUM_FOLDS
    num_values = int(codes.max()) + 1
    scores = np.empty(len(labels))
    for number in range(NUM_FOLDS):
        others = fold != number
        ones = np.bincount(codes[others], weights=labels[others], minlength=num_values)
        counts = np.bincount(codes[others], minlength=num_values)
        base = labels[others].mean()
        shares = (ones + base) / (counts + 1)
        scores[~others] = shares[codes[~others]]
    return auc(scores, labels)


def _enough(labels: Labels) -> bool:
    num_positive = int(labels.sum())
    few = min(num_positive, len(labels) - num_positive)
    return len(labels) >= MIN_ROWS and few >= MIN_ROWS // 3


def _is_copy(texts: pa.Array, labels: Labels) -> bool:
    """Tell whether two values stand for the two outcomes, one each."""
    encoded = texts.dictionary_encode()
    if len(encoded.dictionary) != 2:
        return False
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    agree = float((codes == labels).mean())
    return max(agree, 1 - agree) >= 0.999


def _filled(there: NDArray[np.bool_], labels: Labels) -> str:
    """Say whether a column is filled, or empty, only where one outcome is: known afterwards."""
    for chosen, what in ((there, "filled"), (~there, "empty")):
        inside, outside = labels[chosen], labels[~chosen]
        if min(len(inside), len(outside)) < MIN_PURE:
            continue
        share, base = float(inside.mean()), float(labels.mean())
        pure = min(share, 1 - share) <= 0.005
        # How often chance would leave so many rows with one outcome.
        chance = (base if share > 0.5 else 1 - base) ** len(inside)
        if pure and chance < 1e-6:
            return f"{what} only where the outcome is {round(share)}: known afterwards?"
    return ""
