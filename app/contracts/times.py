"""Times as whole numbers: microseconds and UTC days since 1970, as tables and logs count them.

Knows the calendar; knows nothing of what happens at a time.
"""

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.contracts.rows import TIMESTAMP

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MICROS_PER_HOUR = 3_600_000_000
MICROS_PER_DAY = 24 * MICROS_PER_HOUR


def micros_of(at: datetime) -> int:
    """Give microseconds since 1970, exactly.

    >>> moment(micros_of(datetime(2013, 4, 1, tzinfo=UTC))).isoformat()
    '2013-04-01T00:00:00+00:00'
    """
    return (at - EPOCH) // MICROSECOND


def moment(micros: int) -> datetime:
    """Give the time that lies so many microseconds after 1970 began, in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def micros_in(times: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Read a column of times as microseconds since 1970; null stays null."""
    return times.cast(TIMESTAMP).cast(pa.int64())


def day_numbers(times: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Give the UTC day of each time, in days since 1970; none may be null."""
    days: npt.NDArray[np.int64] = np.floor_divide(micros_in(times).to_numpy(), MICROS_PER_DAY)
    return days


def number_of(day: date) -> int:
    """Give the days from 1970-01-01 to a date.

    >>> day_of(number_of(date(2013, 4, 1)))
    datetime.date(2013, 4, 1)
    """
    return (day - EPOCH.date()).days


def day_of(number: int) -> date:
    """Give the date so many days after 1970-01-01."""
    return EPOCH.date() + timedelta(days=int(number))


def midnight(day: date) -> datetime:
    """Give the time at which a day begins in UTC."""
    return datetime.combine(day, time(), UTC)
