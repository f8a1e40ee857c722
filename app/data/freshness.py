"""Notice when a feed falls silent: its newest row grows too old although nothing is wrong with any.

Knows the newest time asked, the policy and the clock as parameters; knows nothing of sources. The
newest time is read from the footers of files, where it stands unless it is a private column.
"""

from datetime import datetime
from typing import Literal

from app.contracts.times import MICROS_PER_HOUR, micros_of
from app.data.halting import is_too_old
from app.data.tables import Tables
from app.sections import IntakeConfig

Turn = Literal["stale", "fresh"]


def newest_asked(tables: Tables) -> int | None:
    """Return the newest time asked of the rows that are in, in microseconds since 1970."""
    latest = tables.latest("events", "prediction_time")
    return None if latest is None else micros_of(latest)


def age_of(newest: int | None, at: datetime) -> float | None:
    """Give the age of the newest row in hours, None when there is none."""
    return None if newest is None else (micros_of(at) - newest) / MICROS_PER_HOUR


def is_stale(newest: int | None, at: datetime, policy: IntakeConfig) -> bool:
    """Tell whether the newest row is older than the policy allows; so is no row at all."""
    return is_too_old(age_of(newest, at), policy)


def turn(was_stale: bool | None, stale: bool) -> Turn | None:
    """Say what is to be told: that it became stale, that it is fresh again, or nothing.

    >>> turn(None, True), turn(True, True), turn(True, False), turn(None, False)
    ('stale', None, 'fresh', None)
    """
    if stale and not was_stale:
        return "stale"
    return "fresh" if was_stale and not stale else None
