"""Look up the windows of rows that are to be scored, or say that they cannot be.

Knows the online store and the contract; knows nothing of HTTP, models or what a window means.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Contract
from app.contracts.times import MICROSECOND, micros_in, micros_of
from app.data.goodrows import PlainRow
from app.data.online import OnlineStore
from app.data.storefile import STORE_ERRORS
from app.serving.messages import Refused

logger = logging.getLogger(__name__)


def with_windows(
    accepted: pa.Table, contract: Contract, online: OnlineStore | None, at: datetime
) -> pa.Table:
    """Add the windows as of now, or as of the prediction time where that is past.

    Raises Refused with 503 while history is being read, or when the store does not answer.
    """
    if online is None:
        return accepted
    lead = pa.scalar(contract.lead, pa.duration("us"))
    time = micros_in(pc.subtract(accepted[contract.event_time], lead)).to_numpy()
    with _answering(online):
        values = online.values(accepted, np.minimum(time, micros_of(at)))
    for name in values.column_names:
        accepted = accepted.append_column(name, values[name])
    return accepted


class RowWindows:
    """Adds the windows to plain rows of one contract, as `with_windows` does to a table."""

    def __init__(self, contract: Contract, online: OnlineStore | None) -> None:
        """Look up where each row says whom it is about, and when."""
        self._online = online
        names = contract.schema.names
        self._keys = {key: names.index(key) for key in online.key_columns} if online else {}
        self._time, self._lead = names.index(contract.event_time), contract.lead // MICROSECOND

    def complete(self, rows: list[PlainRow], at: int) -> list[PlainRow]:
        """Give rows with their windows; `at` is now, in microseconds since 1970.

        Raises as `with_windows` does.
        """
        if self._online is None:
            return rows
        entities = {key: _column(rows, place) for key, place in self._keys.items()}
        moments = [min(time - self._lead, at) for time in _column(rows, self._time)]
        with _answering(self._online):
            values = self._online.row_values(entities, moments)
        return [[*row, *more] for row, more in zip(rows, values, strict=True)]


def _column(rows: Sequence[PlainRow], place: int) -> list[Any]:
    return [row[place] for row in rows]


def refuse_unfilled(online: OnlineStore) -> None:
    """Raise Refused with 503 while history is being read."""
    if not online.filled:
        raise Refused(503, "windows", "history is being read", "try again in a minute")


@contextmanager
def _answering(online: OnlineStore) -> Iterator[None]:
    """Ask a store that is filled. Raises Refused with 503."""
    try:
        refuse_unfilled(online)
        yield
    except STORE_ERRORS as error:
        logger.exception("the online store does not answer")
        got = "the window features cannot be looked up"
        raise Refused(503, "windows", got, "try again later") from error
