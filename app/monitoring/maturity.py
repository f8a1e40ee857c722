"""Say how old predictions must be to count: as configured, or as the delays of outcomes teach.

Knows predicted rows, label reports and settings; knows nothing of figures, files or Ray.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.maturity import Estimate, Maturity
from app.contracts.times import MICROS_PER_DAY, micros_in, micros_of
from app.data.delays import DelayCounts, DelayCurve, hourly_edges, observe_delays
from app.monitoring.fold import MARGIN_DAYS
from app.sections import MonitoringConfig


class Learned(NamedTuple):
    """What the delays of outcomes teach: their curve, and when predictions are old enough."""

    curve: DelayCurve
    maturity: Maturity


def learning_days(config: MonitoringConfig) -> int:
    """Say how far back delays are looked at: as far as the monitor remembers."""
    return config.window_days + MARGIN_DAYS


def learn(
    predictions: pa.Table,
    labels: pa.Table,
    at: datetime,
    config: MonitoringConfig,
    *,
    by_arrival: bool = True,
) -> Learned:
    """Learn the delays of outcomes, in whole hours, from what was known at a time.

    Args:
        predictions: `row_id`, `prediction_time` and `served_at`; those made later, or asked longer
            ago than the monitor remembers, are left out.
        labels: reports; see observe_delays.
        at: nothing that was known, or came, later is looked at.
        config: whether the age is fixed or learned, and for which share of outcomes.
        by_arrival: delays end when an outcome has reached us, else when the world knows it.
    """
    days = learning_days(config)
    recent = pc.greater_equal(
        micros_in(predictions["prediction_time"]), micros_of(at - timedelta(days))
    )
    made = pc.less_equal(micros_in(predictions["served_at"]), micros_of(at))
    asked = predictions.filter(pc.and_(recent, made)).select(["row_id", "prediction_time"])
    seen = observe_delays(asked, labels, at, by_arrival=by_arrival)
    counts = DelayCounts.of(seen, hourly_edges(days))
    curve = DelayCurve.fit(counts)
    return Learned(curve, _maturity(counts, curve, config))


def _maturity(counts: DelayCounts, curve: DelayCurve, config: MonitoringConfig) -> Maturity:
    """Use the learned age that is reached with confidence, or else the configured one."""
    target = config.maturity_coverage
    learned = curve.age_of(target)
    is_learned = config.maturity == "learned" and learned.high is not None
    days = float(config.maturity_days)
    if is_learned:
        assert learned.high is not None
        days = learned.high
    return Maturity(
        mode="learned" if is_learned else "fixed",
        days=days,
        target=target,
        learned_days=learned,
        expected_coverage=curve.expected(np.array([round(days * MICROS_PER_DAY)])),
        num_rows=counts.num_rows,
        num_closed=counts.num_closed,
        reason=_reason(learned, target, config, days),
    )


def _reason(learned: Estimate, target: float, config: MonitoringConfig, days: float) -> str:
    if config.maturity == "fixed":
        return f"monitoring.maturity_days says {config.maturity_days}"
    if learned.high is None:
        return (
            f"outcomes were not seen to reach {target:.0%} with confidence, so that "
            f"monitoring.maturity_days says {config.maturity_days}"
        )
    too_long = days >= config.window_days
    advice = "; that is no less than monitoring.window_days, raise it" if too_long else ""
    return f"{target:.0%} of outcomes come within {days:.1f} days{advice}"
