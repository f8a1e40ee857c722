"""Say how sure a figure is: bootstrap over rows, drawn as counts, and normal intervals of means.

Knows arrays; knows nothing of what they measure. Equal seeds draw the same rows, so that figures of
one set of rows move together. Source: Davison and Hinkley, Bootstrap methods and their application
(1997), chapter 5.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from app.contracts.records import Metric

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of so many rows; the same again for equal settings."""

    num_rows: int
    num_draws: int = 200
    confidence: float = 0.9
    seed: int = 0

    def counts(self) -> Iterator[Array]:
        """Draw each resample as how often every row is in it, [N]."""
        generator = np.random.default_rng(self.seed)
        for _ in range(self.num_draws):
            drawn = generator.integers(self.num_rows, size=self.num_rows)
            yield np.bincount(drawn, minlength=self.num_rows).astype(np.float64)

    def means(self, values_NM: Array) -> Array:
        """Give the mean of each column in each resample, [draws, M]."""
        return np.stack([counts @ values_NM for counts in self.counts()]) / self.num_rows

    def metric(self, value: float, draws: Array) -> Metric:
        """Give the percentile interval, widened to hold the value.

        Resamples for which the figure does not exist (NaN) say nothing.
        """
        low, high = self._quantiles(value, draws)
        return Metric(value=value, low=min(low, value), high=max(high, value))

    def pivotal(self, value: float, draws: Array) -> Metric:
        """Give the basic interval of a figure that resampling pushes up and that is never under 0.

        A calibration error is a sum of absolute values: every resample adds noise to it, so that
        percentiles would lie above the figure itself.
        """
        low, high = self._quantiles(value, draws)
        least, most = max(2 * value - high, 0.0), max(2 * value - low, 0.0)
        return Metric(value=value, low=min(least, value), high=max(most, value))

    def of_means(self, values_NM: Array) -> list[Metric]:
        """Give the mean of each column with its interval."""
        draws = self.means(values_NM)
        return [
            self.metric(float(values.mean()), drawn)
            for values, drawn in zip(values_NM.T, draws.T, strict=True)
        ]

    def _quantiles(self, value: float, draws: Array) -> tuple[float, float]:
        if not np.isfinite(draws).any():
            return value, value
        tail = (1 - self.confidence) / 2
        low, high = np.nanquantile(draws, [tail, 1 - tail])
        return float(low), float(high)


def deviate(confidence: float) -> float:
    """Give the half width of a two-sided normal interval in standard errors.

    >>> round(deviate(0.9), 3)
    1.645
    """
    return NormalDist().inv_cdf((1 + confidence) / 2)


def normal(value: float, error: float, confidence: float) -> Metric:
    """Give a normal interval around a value with a standard error."""
    half = deviate(confidence) * error
    return Metric(value=value, low=value - half, high=value + half)


def mean_of(values: Array, confidence: float) -> Metric:
    """Give the mean of independent rows with its normal interval."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return normal(float(values.mean()), spread / math.sqrt(len(values)), confidence)


def share_of(num_hits: int, num_rows: int, confidence: float) -> Metric:
    """Give a share with Wilson's score interval (1927), which never leaves 0..1.

    >>> share = share_of(0, 10, 0.9)
    >>> share.low, round(share.high, 3)
    (0.0, 0.213)
    """
    square = deviate(confidence) ** 2
    share = num_hits / num_rows
    middle = (share + square / (2 * num_rows)) / (1 + square / num_rows)
    variance = share * (1 - share) / num_rows + square / (4 * num_rows**2)
    half = math.sqrt(square * variance) / (1 + square / num_rows)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return Metric(value=share, low=min(low, share), high=max(high, share))
