"""Add up doubles exactly, so that a sum depends on no order, and taking back undoes adding.

A number is split into four whole parts of 32 bits: a multiple of 2**-64 below 2**63. Every double
of at least 2**-12 in size is such a multiple; a smaller one is rounded to the nearest, a larger one
than 2**63 is clipped, and infinities with it. Parts are added as 64-bit integers: exact for 2**31
numbers. Knows numbers and nothing of what they count.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUM_PARTS = 4
PART = 2.0**32
LARGEST = float(2**63 - 2**10)
UNITS_LOG2 = 64
# Whole numbers up to here are doubles.
PLAIN = 2**53


def split(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Split numbers [n], none of them NaN, into parts [4, n], the least one first.

    >>> split(np.array([1.5, -3.0])).tolist()
    [[0, 0], [2147483648, 0], [1, -3], [0, 0]]
    """
    size = np.minimum(np.abs(values), LARGEST)
    whole = np.floor(size)
    high = np.floor(whole / PART)
    fraction = (size - whole) * PART
    middle = np.floor(fraction)
    least = np.rint((fraction - middle) * PART)
    parts = np.stack([least, middle, whole - high * PART, high]).astype(np.int64)
    return np.where(values < 0, -parts, parts)


def ratio(parts: NDArray[np.int64], divisor: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide exact sums [4, n] by whole numbers over 0 [n]: `quotient`, many at a time.

    >>> ratio(split(np.array([0.1, 0.3])), np.array([1, 3])).tolist()
    [0.1, 0.09999999999999999]
    """
    small = (parts[0] == 0) & (parts[1] == 0) & (np.abs(parts[3]) < 2**20)
    small &= np.abs(parts[2]) < PLAIN
    whole = np.where(small, parts[2] + (parts[3] << 32), 0)
    small &= np.abs(whole) <= PLAIN
    # Both operands are exact, so IEEE division rounds the true quotient.
    quotients: NDArray[np.float64] = whole.astype(np.float64) / divisor.astype(np.float64)
    for place in np.flatnonzero(~small).tolist():
        quotients[place] = quotient(parts[:, place].tolist(), int(divisor[place]))
    return quotients


def quotient(parts: Sequence[int], divisor: int) -> float:
    """Divide one exact sum of four parts by a whole number over 0; rounded once, correctly.

    >>> quotient([0, 2**31, 1, 0], 3)
    0.5
    """
    least, low, high, highest = parts
    total = least + (low << 32) + (high << 64) + (highest << 96)
    return total / (divisor << UNITS_LOG2)
