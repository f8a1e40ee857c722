"""Name rows that come without an id after their request, so that a second try names the same rows.

The edge gives a request an id, X-Request-ID, and sends the same when it tries a second replica:
what the first had logged before it died is then logged twice under one name, and counts once. Knows
requests and the contract; knows nothing of HTTP servers, models or tables.
"""

import hashlib
import re
from collections.abc import Iterable

import pyarrow as pa

from app.contracts.rows import Contract
from app.serving.arrivals import id_of
from app.serving.messages import PredictRequest

HEADER = b"x-request-id"
# Long enough to be drawn at random, short enough to be hashed; a UUID has 36, nginx's have 32.
PLAUSIBLE = re.compile(rb"[A-Za-z0-9._-]{16,128}")


class Namer:
    """Names the rows of one model's requests."""

    def __init__(self, contract: Contract) -> None:
        """Look up whether ids are made at all."""
        self._id = contract.id if contract.id in contract.generated else None

    def name(
        self, request: PredictRequest, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> PredictRequest:
        """Give the rows of a request that need one an id; a client's own ids and keys are kept.

        `headers` are those of an ASGI scope. Names come from the request's id, its body and the
        row's place: some clients say one request id all day, and no two bodies may share names. An
        id that was not drawn at random, as far as can be seen, is passed over.
        """
        if self._id is None or request.idempotency_keys is not None:
            return request
        seed = _seed(body, headers)
        if seed is None:
            return request
        rows = [self._named(row, place, seed) for place, row in enumerate(request.rows)]
        return request.model_copy(update={"rows": rows})

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

    def _named(self, row: object, place: int, seed: bytes) -> object:
        if not isinstance(row, dict) or row.get(self._id) is not None:
            return row
        return {**row, self._id: _name(place, seed)}


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
