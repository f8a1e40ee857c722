"""Read the body of a request: so many bytes at most, within so many seconds.

Knows ASGI messages; knows nothing of what a body says. Works on a raw scope's headers and receive.
"""

import asyncio
from collections.abc import Iterable

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.serving.messages import Refused

CLOSING = {"Connection": "close"}


class Room:
    """How many bytes of bodies that are not whole may be held. One event loop takes and gives."""

    def __init__(self, most_bytes: int) -> None:
        """Take how many."""
        self._most, self._taken = most_bytes, 0

    def take(self, num_bytes: int) -> None:
        """Hold more bytes. Raises Refused with 503 when there is no room for them."""
        if self._taken + num_bytes > self._most:
            got = f"{self._taken} bytes of other requests under way"
            raise Refused(503, "server", got, "try again later", CLOSING)
        self._taken += num_bytes

    def give(self, num_bytes: int) -> None:
        """Give bytes back."""
        self._taken -= num_bytes


async def read_body(
    headers: Iterable[tuple[bytes, bytes]],
    receive: Receive,
    max_bytes: int,
    seconds: float,
    room: Room,
) -> bytes:
    """Read a body, whole or in pieces, of a length that was said or not.

    Raises Refused: 413 before anything is read when the length that was said is too large, and as
    soon as more has come; 408 when it is not whole in time; 503 when pieces find no room. Raises
    ClientDisconnect.
    """
    refuse_length(headers, max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _joined(receive, max_bytes, room)
    except TimeoutError:
        got = f"no whole body in {seconds:g} s"
        raise Refused(408, "body", got, "send it faster, or in smaller requests") from None


def refuse_length(headers: Iterable[tuple[bytes, bytes]], max_bytes: int) -> None:
    """Raise Refused with 413 when a body is said to be too long, with 400 for no number."""
    for name, value in headers:
        if name != b"content-length":
            continue
        if not value.isdigit():
            raise Refused(400, "content-length", "no number of bytes", "send one", CLOSING)
        if len(value) > 18 or int(value) > max_bytes:
            raise _too_long(max_bytes)


async def _joined(receive: Receive, max_bytes: int, room: Room) -> bytes:
    # One buffer: a list would cost fifty bytes for each piece of one.
    joined = bytearray()
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece: bytes = message.get("body", b"")
            if len(joined) + len(piece) > max_bytes:
                raise _too_long(max_bytes)
            if not message.get("more_body", False):
                return bytes(joined + piece) if joined else piece
            # What comes whole is never held here.
            room.take(len(piece))
            joined += piece
    finally:
        room.give(len(joined))


def _too_long(max_bytes: int) -> Refused:
    got = f"more than {max_bytes} bytes"
    return Refused(413, "body", got, "send several smaller requests", CLOSING)
