"""Bound what one connection may keep a server waiting for, and hold for it.

Uvicorn leaves that to a proxy: a head that never ends, in length or in time, a body that nobody
reads any more, an answer that nobody takes, each would hold a connection for ever. What is no HTTP
is told so in the form of all other errors, after the answers that are still due. Knows uvicorn's
protocol; knows nothing of requests that are whole.
"""

import asyncio
from collections.abc import Mapping

from uvicorn.protocols.http import auto

from app.serving.messages import Refused

# As long as a body may take by default; the edge gives ten.
HEAD_SECONDS = 20.0
# A token of an identity provider has some kilobytes, and the edge takes 64 in all.
MAX_HEAD_BYTES = 64 * 1024
HINT = "send HTTP/1.1, the head at once and no longer than 64 KiB"
PHRASES: Mapping[int, bytes] = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


class BoundedLine(auto.AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Uvicorn's protocol, with an end to everything."""

    head_seconds = HEAD_SECONDS
    max_head_bytes = MAX_HEAD_BYTES

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin a connection, which owes a head from now on."""
        super().connection_made(transport)
        self._owing_since: float | None = self.loop.time()
        self._head_bytes = 0
        self._unsent = 0
        self._watch = self.loop.call_later(self.head_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End it."""
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; note since when nothing but a head can follow."""
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and "method" in self.scope:
            self._owing_since = None
            self._head_bytes = 0
        else:
            self._still_owing(len(data))

    def _still_owing(self, num_bytes: int) -> None:
        if self._owing_since is None:
            # What else came with the first piece of a head is not known: it is not counted.
            self._owing_since, num_bytes = self.loop.time(), 0
        is_head = self.scope is not None and "method" not in self.scope
        self._head_bytes = self._head_bytes + num_bytes if is_head else 0
        if self._head_bytes > self.max_head_bytes:
            self._refuse(431, f"more than {self.max_head_bytes} bytes of head")

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, "no HTTP/1.1")

    def _should_upgrade_to_ws(self) -> bool:
        # Nothing speaks it here.
        return False

    def _unsupported_upgrade_warning(self) -> None:
        # The parser reads nothing behind an upgrade: what is asked is answered, and that is all.
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _ends_after_answer(self) -> bool:
        """Let the line end after the answer that is still due, if one is."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True

    def _refuse(self, status: int, got: str) -> None:
        if self.transport.is_closing() or self._ends_after_answer():
            return
        content = Refused(status, "request", got, HINT).body.model_dump_json(exclude_none=True)
        head = (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n"
        )
        body = content.encode()
        self.transport.write(head % (status, PHRASES[status], len(body)) + body)
        self.transport.close()

    def _look(self) -> None:
        """Look now and then whether the other side still does its part; hang up on it if not."""
        now = self.loop.time()
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self.transport.abort()
            return
        self._unsent = unsent
        since = self._owing_since
        is_late = since is not None and now - since >= self.head_seconds
        if is_late and not self._ends_after_answer():
            self.transport.close()
        self._watch = self.loop.call_later(self.head_seconds, self._look)
