"""Read the body of a request: so many bytes at most, within so many seconds.

Knows ASGI messages; knows nothing of what a body says. Works on a raw scope's headers and receive.
"""

import asyncio
from collections.abc import Iterable

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.serving.messages import Refused

CLOSING = {"Connection": "close"}


async def read_body(
    headers: Iterable[tuple[bytes, bytes]], receive: Receive, max_bytes: int, seconds: float
) -> bytes:
    """Read a body, whole or in pieces, of a length that was said or not.

    Raises Refused: 413 before anything is read when the length that was said is too large, and as
    soon as more has come; 408 when it is not whole in time. Raises ClientDisconnect.
    """
    refuse_length(headers, max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _joined(receive, max_bytes)
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


async def _joined(receive: Receive, max_bytes: int) -> bytes:
    # One buffer: a list would cost fifty bytes for each piece of one.
    joined = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        if len(joined) + len(piece) > max_bytes:
            raise _too_long(max_bytes)
        if not message.get("more_body", False):
            return bytes(joined + piece) if joined else piece
        joined += piece


def _too_long(max_bytes: int) -> Refused:
    got = f"more than {max_bytes} bytes"
    return Refused(413, "body", got, "send several smaller requests", CLOSING)
