"""Make the row that others are explained against: the middle of the rows of training.

Knows an encoder and a profile; knows nothing of networks or of requests. The middle is taken column
by column, so it need be no row that ever was.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.data.categories import FIRST_KNOWN, NULL, CategoryFeature
from app.data.features import NULL_POSITION, Encoded, Encoder, NumberFeature
from app.data.profile import Histogram, Profile

# The centre of the circle of hours and of that of weekdays: no time of day, as of a null.
NO_TIME = 0.5
NUM_WAVES = 4


@dataclass(frozen=True)
class Reference:
    """One encoded row, and what stands in its columns: a number, a text, or None for no value."""

    encoded: Encoded
    values: Mapping[str, float | str | None]


@dataclass(frozen=True)
class Players:
    """Which encoded inputs belong to which column: a column's inputs move together."""

    names: tuple[str, ...]
    of_numbers: NDArray[np.int64]
    """[F]: place among the names of the column behind each encoded number."""
    of_categories: NDArray[np.int64]
    """[C]: likewise of each code."""


def middle_row(encoder: Encoder, profile: Profile) -> Reference:
    """Take the median of each number, the most frequent value of each category, and no time.

    A column more than half of which was null in training has a null in the middle. Of values that
    are equally frequent the first in the alphabet is taken.
    """
    values: dict[str, float | str | None] = {}
    positions, codes = [], []
    for number in encoder.numbers:
        position = _middle(number, profile.columns.get(number.name))
        positions.append(position)
        values[number.name] = _value_at(number, position)
    for name in encoder.times:
        positions += [NO_TIME] * NUM_WAVES
        values[name] = None
    for category in encoder.categories:
        code = _commonest(category, profile.columns.get(category.name))
        codes.append(code)
        values[category.name] = category.vocabulary[code - FIRST_KNOWN] if code != NULL else None
    encoded = Encoded(np.array([positions], np.float32), np.array([codes], np.int64))
    return Reference(encoded, values)


def players_of(encoder: Encoder) -> Players:
    """Say which encoded inputs belong to which column."""
    num_numbers, num_times = len(encoder.numbers), len(encoder.times)
    names = (
        *(number.name for number in encoder.numbers),
        *encoder.times,
        *(category.name for category in encoder.categories),
    )
    times = np.repeat(np.arange(num_times), NUM_WAVES) + num_numbers
    return Players(
        names=names,
        of_numbers=np.concatenate([np.arange(num_numbers), times]),
        of_categories=np.arange(len(encoder.categories)) + num_numbers + num_times,
    )


def _middle(number: NumberFeature, histogram: Histogram | None) -> float:
    # The encoder fills with the median of the values that training knew.
    mostly_null = histogram is not None and histogram.null_share > 0.5
    if number.has_null and (mostly_null or not number.edges):
        return NULL_POSITION
    return number.fill


def _value_at(number: NumberFeature, position: float) -> float | None:
    if position == NULL_POSITION or not number.edges:
        return None
    return float(np.interp(position, np.arange(len(number.edges)), number.edges))


def _commonest(category: CategoryFeature, histogram: Histogram | None) -> int:
    """Give the code of the most frequent value; values without a code of their own are no value."""
    if histogram is not None and histogram.counts[NULL:].any():
        return NULL + int(histogram.counts[NULL:].argmax())
    return FIRST_KNOWN if category.vocabulary else NULL
