"""Notice when a feed falls silent: its newest row grows too old although nothing is wrong with any.

Knows the newest time asked, the policy and the clock as parameters; knows nothing of sources. The
newest time is read from the footers of files, where it stands unless it is a private column.
"""

from datetime import datetime
from typing import Literal

from app.contracts.times import micros_of
from app.data.tables import Tables
from app.sections import IntakeConfig

MICROS_PER_HOUR = 3_600_000_000
Turn = Literal["stale", "fresh"]


def newest_asked(tables: Tables) -> int | None:
    """Return the newest time asked of the rows that are in, in microseconds since 1970."""
    latest = tables.latest("events", "prediction_time")
    return None if latest is None else micros_of(latest)


def is_stale(newest: int | None, at: datetime, policy: IntakeConfig) -> bool:
    """Tell whether the newest row is older than the policy allows; so is no row at all."""
    if policy.max_age_hours is None:
        return False
    return newest is None or micros_of(at) - newest > policy.max_age_hours * MICROS_PER_HOUR


def turn(was_stale: bool | None, stale: bool) -> Turn | None:
    """Say what is to be told: that it became stale, that it is fresh again, or nothing.

    >>> turn(None, True), turn(True, True), turn(True, False), turn(None, False)
    ('stale', None, 'fresh', None)
    """
    if stale and not was_stale:
        return "stale"
    return "fresh" if was_stale and not stale else None
