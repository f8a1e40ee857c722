"""Learn how long outcomes take to arrive, from those that came and those that have not yet.

Knows ages, delays and counts; knows nothing of models, files or Ray. A row without an outcome is no
row without a delay: it is known to have taken longer than its age (it is right-censored). The
product-limit estimator of Kaplan and Meier (1958) uses both kinds. A void outcome closes a row as
any other does; a revision does not open it again.

Two assumptions, to be judged by whoever uses it: delays do not depend on when a row was asked, and
rows close independently. Outcomes that come in daily batches keep neither within a day: coverage at
an age is then a mean over the hours of the day, and its true interval is wider than the one given.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.maturity import Estimate
from app.contracts.times import MICROS_PER_DAY, micros_in, micros_of

Numbers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]

MICROS_PER_HOUR = MICROS_PER_DAY // 24
# Longer than every age: an outcome that has not come.
PENDING = int(np.iinfo(np.int64).max)
DEFAULT_CONFIDENCE = 0.95


class Observed(NamedTuple):
    """Rows seen at a time, in microseconds: ages [rows], delays [rows] with PENDING for none."""

    delays: Numbers
    ages: Numbers


def observe_delays(
    asked: pa.Table, labels: pa.Table, at: datetime, *, by_arrival: bool = True
) -> Observed:
    """Say how old every row was at a time, and after how long its first outcome had come.

    Args:
        asked: `row_id` and `prediction_time`; of a row that was asked twice the first time counts,
            rows asked at or after `at` are left out, as they are from a window that ends there.
        labels: reports, as in the labels table; revisions of a row may be among them.
        at: what is known then is counted, nothing later.
        by_arrival: an outcome comes when it is known *and* has reached us; else when it is known in
            the world. An outcome that comes before its question has delay 0.
    """
    now = micros_of(at)
    first = asked.group_by("row_id").aggregate([("prediction_time", "min")])
    times = micros_in(first["prediction_time_min"]).to_numpy()
    closing = micros_in(labels["known_at"]).to_numpy()
    if by_arrival:
        closing = np.maximum(closing, micros_in(labels["received_at"]).to_numpy())
    place = pc.index_in(labels["row_id"], value_set=first["row_id"].combine_chunks())
    place = place.fill_null(-1).to_numpy().astype(np.int64)
    counted = (place >= 0) & (closing <= now)
    closed = np.full(first.num_rows, PENDING)
    np.minimum.at(closed, place[counted], closing[counted])
    delays = np.where(closed == PENDING, PENDING, np.maximum(closed - times, 0))
    begun = times < now
    return Observed(delays[begun], now - times[begun])


def hourly_edges(num_days: int) -> Numbers:
    """Give the ages of whole hours from 0 up to so many days, in microseconds."""
    return np.arange(24 * num_days + 1, dtype=np.int64) * MICROS_PER_HOUR


def exact_edges(observed: Observed) -> Numbers:
    """Give every delay that was seen as an edge: counts on these lose nothing.

    The edges depend on the rows, so counts of different rows do not merge.
    """
    seen: Numbers = np.unique(observed.delays[observed.delays <= observed.ages])
    return seen if len(seen) else np.zeros(1, np.int64)


@dataclass(frozen=True)
class DelayCounts:
    """Rows counted by delay and age on fixed edges, in microseconds; exact to add up.

    Delays are rounded up to an edge and ages down, so that a row counts at an edge only when it was
    watched until there. The product-limit estimate of the counts is exactly that of the rounded
    rows; with `exact_edges` it is that of the rows themselves. Between edges it says what held at
    the edge before.

    `closed` [edges] counts rows that closed at an edge; `open_` [edges + 1] rows that were open
    when last seen, by the number of edges that they had passed; `watched` [edges + 1] all rows, by
    the number of edges that their age has passed.
    """

    edges: Numbers
    closed: Numbers
    open_: Numbers
    watched: Numbers

    @classmethod
    def of(cls, observed: Observed, edges: Numbers) -> Self:
        """Count rows. Raises ValueError for edges that do not rise or rows not asked yet."""
        if not len(edges) or edges[0] < 0 or (np.diff(edges) <= 0).any():
            raise ValueError("delays: edges must rise from 0 or above; sort them, each once")
        if len(observed.ages) and observed.ages.min() < 0:
            raise ValueError(
                f"delays: ages must be 0 or more, got {observed.ages.min()} µs; leave out rows "
                "that were not asked yet"
            )
        passed = np.searchsorted(edges, observed.ages, side="right")
        bins = np.searchsorted(edges, observed.delays, side="left")
        is_closed = bins < passed
        return cls(
            edges=edges,
            closed=np.bincount(bins[is_closed], minlength=len(edges)),
            open_=np.bincount(passed[~is_closed], minlength=len(edges) + 1),
            watched=np.bincount(passed, minlength=len(edges) + 1),
        )

    def merge(self, other: Self) -> Self:
        """Add the counts of other rows that were seen at the same time, on the same edges."""
        if not np.array_equal(self.edges, other.edges):
            raise ValueError("delays: counts on different edges do not add up; use the same edges")
        return replace(
            self,
            closed=self.closed + other.closed,
            open_=self.open_ + other.open_,
            watched=self.watched + other.watched,
        )

    @property
    def num_rows(self) -> int:
        """Rows counted."""
        return int(self.watched.sum())

    @property
    def num_closed(self) -> int:
        """Rows that were seen to close."""
        return int(self.closed.sum())

    @property
    def at_risk(self) -> Numbers:
        """Rows that were open before an edge and watched until it, [edges]."""
        gone = np.cumsum(self.closed) - self.closed + np.cumsum(self.open_)[:-1]
        at_risk: Numbers = self.num_rows - gone
        return at_risk

    @property
    def old_enough(self) -> Numbers:
        """Rows that are as old as an edge, open or closed, [edges]."""
        old: Numbers = self.num_rows - np.cumsum(self.watched)[:-1]
        return old


@dataclass(frozen=True)
class DelayCurve:
    """The share of outcomes that have come by an age, as far as rows were watched.

    All arrays are [ages]: rising ages in microseconds, and coverage with pointwise bounds in 0..1.
    It is a step function: between two ages the earlier one holds.
    """

    ages: Numbers
    coverage: Reals
    low: Reals
    high: Reals

    @classmethod
    def fit(cls, counts: DelayCounts, confidence: float = DEFAULT_CONFIDENCE) -> Self:
        """Estimate the curve from counts: product-limit, Greenwood's variance, log-log bounds.

        Kaplan and Meier, J. Am. Stat. Assoc. 53 (1958) 457; Greenwood, The Natural Duration of
        Cancer, Rep. Public Health Med. Subj. 33 (1926); bounds on the scale log(-log S) as in
        Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data (1980), 1.3. After
        the last closing the upper bound of coverage widens as fewer rows are watched, after Dorey
        and Korn, Stat. Med. 6 (1987) 679. Where no row or every row has closed these say nothing;
        then the binomial bounds of Clopper and Pearson, Biometrika 26 (1934) 404, take their place,
        for the rows that are old enough to have closed.
        """
        at_risk = counts.at_risk
        seen = at_risk > 0
        at_risk, closed = at_risk[seen], counts.closed[seen]
        open_share: Reals = np.cumprod(1.0 - closed / at_risk, dtype=np.float64)
        spread = _spread(at_risk, closed, open_share)
        low, high = _bounds(spread, open_share, counts.old_enough[seen], confidence)
        coverage: Reals = 1.0 - open_share
        return cls(counts.edges[seen], coverage, low, high)

    def at(self, ages: Numbers) -> tuple[Reals, Reals, Reals]:
        """Give coverage at ages [rows], in microseconds, with its bounds.

        Beyond the last age that was watched nothing more is known than that coverage does not fall:
        its value holds and the upper bound is 1.
        """
        if not len(self.ages):
            return np.zeros(len(ages)), np.zeros(len(ages)), np.ones(len(ages))
        place = np.searchsorted(self.ages, ages, side="right") - 1
        young, beyond = place < 0, np.asarray(ages) > self.ages[-1]
        value, low, high = (
            np.where(young, 0.0, each[place]) for each in (self.coverage, self.low, self.high)
        )
        # Before the first age nothing was counted: it may have begun already.
        high = np.where(young, self.high[0], np.where(beyond, 1.0, high))
        return value, low, high

    def expected(self, ages: Numbers) -> Estimate:
        """Give the share of outcomes that a cohort of rows of these ages should have.

        The bounds are means of pointwise bounds, which is on the safe side: errors at different
        ages cannot add up to more. No rows give no figure.
        """
        if not len(ages):
            return Estimate()
        value, low, high = (float(each.mean()) for each in self.at(ages))
        return Estimate(value=value, low=low, high=high)

    def age_of(self, share: float) -> Estimate:
        """Give the age, in days, at which coverage reaches a share in (0, 1).

        `low` and `high` are the ages at which the upper and the lower bound of coverage reach it
        (Brookmeyer and Crowley, Biometrics 38 (1982) 29); None where it was not seen to.

        >>> hour = MICROS_PER_HOUR
        >>> seen = Observed(np.array([hour, 2 * hour, PENDING]), np.array([9 * hour] * 3))
        >>> curve = DelayCurve.fit(DelayCounts.of(seen, hourly_edges(1)))
        >>> 24 * curve.age_of(0.5).value
        2.0
        """
        if not 0 < share < 1:
            raise ValueError(f"delays: a share of outcomes lies between 0 and 1, got {share}")
        return Estimate(
            value=self._first(self.coverage, share),
            low=self._first(self.high, share),
            high=self._first(self.low, share),
        )

    def still_to_come(self, ages: Numbers, within: timedelta | None = None) -> float:
        """Give how many outcomes to expect of rows that are open at these ages [rows].

        Within a time from now, or as far as delays were seen: rows that were never seen to close
        are not promised to.
        """
        if not len(self.ages) or not len(ages):
            return 0.0
        now = self.at(ages)[0]
        until = self.ages[-1] if within is None else ages + within // timedelta(microseconds=1)
        then = np.maximum(self.at(np.broadcast_to(until, np.shape(ages)))[0], now)
        left = 1 - now
        chance = np.divide(then - now, left, out=np.zeros(len(ages)), where=left > 0)
        return float(chance.sum())

    def _first(self, curve: Reals, share: float) -> float | None:
        # A share reached but for rounding is reached.
        reached = np.flatnonzero(curve >= share - 1e-12)
        return float(self.ages[reached[0]] / MICROS_PER_DAY) if len(reached) else None


def _spread(at_risk: Numbers, closed: Numbers, open_share: Reals) -> tuple[Reals, Reals]:
    """Give the standard errors of log(-log S) downwards and upwards, 0 where S is 0 or 1."""
    left = at_risk - closed
    inside = (open_share > 0) & (open_share < 1)
    terms = np.divide(closed, at_risk * left.astype(float), out=np.zeros(len(left)), where=left > 0)
    scale = np.abs(np.log(open_share, out=np.full(len(left), -1.0), where=inside))
    error = np.where(inside, np.sqrt(np.cumsum(terms)) / scale, 0.0)
    latest = np.maximum.accumulate(np.where(closed > 0, np.arange(len(left)), 0))
    return error, error * np.sqrt(at_risk[latest] / at_risk)


def _bounds(
    errors: tuple[Reals, Reals], open_share: Reals, old_enough: Numbers, confidence: float
) -> tuple[Reals, Reals]:
    """Give the bounds of coverage at each age."""
    z, tail = NormalDist().inv_cdf((1 + confidence) / 2), (1 - confidence) / 2
    binomial = tail ** (1 / old_enough)
    low = 1 - open_share ** np.exp(-z * errors[0])
    high = 1 - open_share ** np.exp(z * errors[1])
    low = np.where(open_share <= 0, binomial, np.where(open_share >= 1, 0.0, low))
    high = np.where(open_share <= 0, 1.0, np.where(open_share >= 1, 1 - binomial, high))
    # Coverage does not fall, so what bounds it from below at an age does so at later ones.
    return np.maximum.accumulate(low), high
