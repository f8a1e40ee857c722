"""Name rows that come without an id after their request, so that a second try names the same rows.

The edge gives a request an id, X-Request-ID, and sends the same when it tries a second replica:
what the first had logged before it died is then logged twice under one name, and counts once. So
that it is one row in time as well, a time that is made on arrival is when the edge had the request,
X-Request-Start. Knows requests and the contract; knows nothing of HTTP servers, models or tables.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pyarrow as pa

from app.contracts.rows import Contract
from app.serving.arrivals import arrive_times, id_of
from app.serving.messages import PredictRequest

HEADER, TIME_HEADER = b"x-request-id", b"x-request-start"
# Long enough to be drawn at random, short enough to be hashed; a UUID has 36, nginx's have 32.
PLAUSIBLE = re.compile(rb"[A-Za-z0-9._-]{16,128}")
START = re.compile(rb"t=([0-9]{9,11}\.[0-9]{3})")
# A request and its second try take less; clocks of edge and replicas may differ by the rest.
MOST_SECONDS_AGO, MOST_SECONDS_AHEAD = 120.0, 5.0


class Namer:
    """Names the rows of one model's requests, and says when they came."""

    def __init__(self, contract: Contract, wall: Callable[[], float] | None = None) -> None:
        """Look up what is made on arrival.

        `wall` is the clock that the model goes by, in seconds since 1970; without one, as where the
        clock is driven, the edge's times are no times of the model's.
        """
        made = contract.generated
        self._id = contract.id if contract.id in made else None
        self._time = contract.event_time if contract.event_time in made else None
        self._contract, self._wall = contract, wall

    def name(
        self, request: PredictRequest, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> PredictRequest:
        """Give the rows of a request that need one an id; a client's own ids and keys are kept.

        `headers` are those of an ASGI scope. Names come from the request's id, its body and the
        row's place: some clients say one request id all day, and no two bodies may share names. An
        id that was not drawn at random, as far as can be seen, is passed over.
        """
        keyed = self._id is None or request.idempotency_keys is not None
        seed, at = None if keyed else _seed(body, headers), self._came(headers)
        if seed is None and at is None:
            return request
        rows = [self._completed(row, place, seed, at) for place, row in enumerate(request.rows)]
        return request.model_copy(update={"rows": rows})

    def timed(self, table: pa.Table, headers: Iterable[tuple[bytes, bytes]]) -> pa.Table:
        """Say when the rows of a table came, where it does not and the edge does."""
        at = self._came(headers)
        return table if at is None else arrive_times(table, self._contract.event_time, at)

    def keys(
        self, table: pa.Table, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> list[str] | None:
        """Give a table that has no column of ids keys to make them from; None where it has one."""
        if self._id is None or self._id in table.column_names:
            return None
        seed = _seed(body, headers)
        if seed is None:
            return None
        return [_name(place, seed) for place in range(table.num_rows)]

    def _completed(
        self, row: object, place: int, seed: bytes | None, at: datetime | None
    ) -> object:
        if not isinstance(row, dict):
            return row
        made: dict[str | None, str] = {}
        if seed is not None and row.get(self._id) is None:
            made[self._id] = _name(place, seed)
        if at is not None and row.get(self._time) is None:
            made[self._time] = at.isoformat()
        return {**row, **made} if made else row

    def _came(self, headers: Iterable[tuple[bytes, bytes]]) -> datetime | None:
        """Tell when the edge had a request; None where it does not matter or cannot be."""
        if self._time is None or self._wall is None:
            return None
        found = {value for name, value in headers if name == TIME_HEADER}
        told = START.fullmatch(found.pop()) if len(found) == 1 else None
        if told is None:
            return None
        seconds, now = float(told.group(1)), self._wall()
        if not now - MOST_SECONDS_AGO <= seconds <= now + MOST_SECONDS_AHEAD:
            return None
        return datetime.fromtimestamp(seconds, UTC)


def _seed(body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    asked = request_id(headers)
    if asked is None:
        return None
    # The length divides the two: no id's end is taken for the beginning of a body.
    seed = hashlib.blake2b(b"%d " % len(asked) + asked, digest_size=32)
    seed.update(body)
    return seed.digest()


def _name(place: int, seed: bytes) -> str:
    return id_of(b"%d" % place, seed)


def new_request_id() -> str:
    """Make an id for a request that has none: 32 hexadecimal digits, as the edge's."""
    return os.urandom(16).hex()


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Find the id that the edge gave a request; None for none, an odd one, or several.

    >>> request_id([(b"x-request-id", b"5f0c9a3be7d64c0f8a3d1b2e4c5d6f70")])
    b'5f0c9a3be7d64c0f8a3d1b2e4c5d6f70'
    >>> request_id([(b"x-request-id", b"1")]) is None
    True
    """
    found = {value for name, value in headers if name == HEADER}
    if len(found) != 1:
        return None
    (value,) = found
    return value if PLAUSIBLE.fullmatch(value) else None
