"""Take requests and hand on answers as wholes: what has come is answered, and in one write.

Uvicorn writes an answer's head and body one after the other. A process that is killed in between
leaves a head without its body, and what has begun to be answered nobody can try again elsewhere.
One write is also a system call less. Knows uvicorn's protocol and transports; knows nothing of what
requests say.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp
from uvicorn.protocols.http import auto

from app.serving.lines import BoundedLine

# Ray Serve would keep two tasks a request, one to see whether the client hangs up, which costs an
# eighth of the request. Ours are kept and answered all the same, and bodies see it for themselves.
UNWATCHED = (b"x-request-disconnect-disabled", b"?1")


class Gathered:
    """A transport that writes at the end of the event loop's turn, all that came in it at once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Write to a transport; all that is not writing or closing is left to it."""
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write soon."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Close after what was written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(waiting))


class WholeAnswers(BoundedLine):
    """Uvicorn's protocol with its bounds, over a transport that gathers."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin a connection."""
        gathered: Any = Gathered(transport, self.loop)
        super().connection_made(gathered)

    def on_headers_complete(self) -> None:
        """Begin a request; whatever its client says of it, it is not watched."""
        self.headers.append(UNWATCHED)
        super().on_headers_complete()


def as_is(app: ASGIApp) -> ASGIApp:
    """Call what the server was given."""
    return app


def answer_whole(inward: Callable[[ASGIApp], ASGIApp] = as_is) -> None:
    """Let every server of uvicorn that begins later in this process answer whole, within bounds.

    Ray Serve begins its own and lets nobody choose its protocol, nor what it calls: `inward` says
    what is called instead, once for each connection.
    """

    class Inward(WholeAnswers):
        app: ASGIApp

        def connection_made(self, transport: asyncio.Transport) -> None:
            self.app = inward(self.app)
            super().connection_made(transport)

    auto.AutoHTTPProtocol = Inward
