"""Head and body of an answer go out in one write, also when the connection closes after it."""

import asyncio
import socket

import uvicorn
from ray.serve._private.http_util import parse_disconnect_disabled_header
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from app.serving.whole import UNWATCHED, Gathered, WholeAnswers

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n%s\r\n"


HEARD: list[tuple[bytes, bytes]] = []


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    HEARD[:] = scope["headers"]
    await PlainTextResponse("body" * 10)(scope, receive, send)


class Counted(asyncio.Transport):
    """Counts the writes to the transport below."""

    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport, self._writes = transport, writes

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self._writes.append(data)
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()


def writes_of(protocol: type, *requests: bytes) -> tuple[list[bytes], bytes]:
    """Send requests on one connection; give what was written, write by write, and what came."""
    writes: list[bytes] = []

    class Watched(protocol):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(Counted(transport, writes))

    async def run() -> bytes:
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(answer, http=Watched, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        came = b""
        for request in requests:
            writer.write(request)
            came += await reader.readuntil(b"body" * 10)
        ended = await reader.read() if b"close" in requests[-1] else b""
        writer.close()
        server.should_exit = True
        await serving
        return came + ended

    return writes, asyncio.run(run())


def test_an_answer_is_one_write_and_was_two() -> None:
    requests = [REQUEST % b"", REQUEST % b"Connection: close\r\n"]
    plain, expected = writes_of(AutoHTTPProtocol, *requests)
    whole, came = writes_of(WholeAnswers, *requests)

    assert len(plain) == 4
    assert len(whole) == 2
    assert all(w.startswith(b"HTTP/1.1 200") and w.endswith(b"body") for w in whole)
    assert came.count(b"HTTP/1.1 200") == expected.count(b"HTTP/1.1 200") == 2


def test_what_is_written_after_the_other_side_went_away_is_dropped() -> None:
    async def run() -> int:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        gathered = Gathered(transport, loop)
        gathered.write(b"late")
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        received = theirs.recv(10)
        theirs.close()
        return len(received)

    assert asyncio.run(run()) == 0


def test_no_request_is_watched_for_its_client_whatever_that_says() -> None:
    writes_of(WholeAnswers, REQUEST % b"X-Request-Disconnect-Disabled: ?0\r\n")
    # Serve reads them as this, and then its own parser says:
    assert parse_disconnect_disabled_header(dict(HEARD))
    assert dict([UNWATCHED]).items() <= dict(HEARD).items()
