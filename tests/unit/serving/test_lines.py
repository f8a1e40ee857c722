"""Every connection comes to an end: one that says nothing, never ends its head, takes no answer."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.serving.lines import BoundedLine
from app.serving.messages import ErrorResponse

GOOD = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
Scene = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


class Impatient(BoundedLine):
    """A line that waits for a fifth of a second, for a thousand bytes."""

    head_seconds = 0.2
    max_head_bytes = 1000


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer late where /late is asked, much where /much is, at once otherwise."""
    if scope["path"] == "/late":
        await asyncio.sleep(0.5)
    size = 2**24 if scope["path"] == "/much" else 4
    await PlainTextResponse("x" * size)(scope, receive, send)


@contextlib.asynccontextmanager
async def serving(protocol: type = Impatient) -> AsyncIterator[tuple[str, int]]:
    """Serve on a port of its own; an idle connection may be so for a minute."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        answer, http=protocol, lifespan="off", log_level="critical", timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield listening.getsockname()
    server.should_exit = server.force_exit = True
    await task


def on_a_line(scene: Scene) -> bytes:
    """Play a scene on one connection; it must end within ten seconds."""

    async def run() -> bytes:
        async with serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            async with asyncio.timeout(10):
                came = await scene(reader, writer)
            writer.close()
            return came

    return asyncio.run(run())


def sending(*pieces: bytes, pause: float = 0.0) -> Scene:
    """Make a scene: send pieces, then read until the other side hangs up."""

    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        return await reader.read()

    return scene


def refusal_of(came: bytes, status: int) -> ErrorResponse:
    head, _, body = came.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), came[:200]
    assert b"connection: close" in head
    assert b"content-length: %d" % len(body) in head
    return ErrorResponse.model_validate(orjson.loads(body))


@pytest.mark.parametrize("pieces", [[], [b"\r\n"], [b"GET / HT"], [GOOD[:-2], b"X: 1\r\n"]])
def test_a_head_that_does_not_come_ends_the_line(pieces: list[bytes]) -> None:
    assert on_a_line(sending(*pieces)) == b""


def test_a_head_that_comes_byte_by_byte_ends_the_line_all_the_same() -> None:
    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET /")
        while not reader.at_eof():
            writer.write(b"a")
            await asyncio.sleep(0.02)
            if reader.exception() is not None:
                return b""
        return await reader.read()

    assert on_a_line(scene) == b""


def test_what_follows_an_answer_must_be_a_head_and_come_soon() -> None:
    assert on_a_line(sending(GOOD, b"\r\n", pause=0.1)).count(b"200 OK") == 1


def test_a_line_that_rests_after_an_answer_is_left_alone() -> None:
    closed = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert on_a_line(sending(GOOD, closed, pause=1.0)).count(b"200 OK") == 2


def test_an_answer_may_take_longer_than_a_head() -> None:
    late = GOOD.replace(b"GET /", b"GET /late").replace(
        b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"
    )
    assert on_a_line(sending(late)).endswith(b"xxxx")


def test_a_head_that_is_too_long_is_431() -> None:
    pieces = [b"GET / HTTP/1.1\r\n", *[b"X-A: %s\r\n" % (b"y" * 400)] * 3]
    refusal = refusal_of(on_a_line(sending(*pieces, pause=0.02)), 431)
    assert refusal.error.got == "more than 1000 bytes of head"


@pytest.mark.parametrize(
    "said", [b"no http\r\n\r\n", b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n", b"\xff"]
)
def test_what_is_no_http_is_told_so_in_json(said: bytes) -> None:
    assert refusal_of(on_a_line(sending(said)), 400).error.got == "no HTTP/1.1"


def test_garbage_behind_a_request_does_not_take_its_answer_away() -> None:
    late = GOOD.replace(b"GET /", b"GET /late")
    came = on_a_line(sending(late + b"\x00garbage\r\n\r\n"))
    assert came.startswith(b"HTTP/1.1 200")
    assert came.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("kind", [b"websocket", b"h2c"])
def test_nothing_is_upgraded_and_the_line_ends_after_the_answer(kind: bytes) -> None:
    extra = b"Connection: Upgrade\r\nUpgrade: %s\r\n\r\n" % kind
    came = on_a_line(sending(GOOD.replace(b"\r\n\r\n", b"\r\n" + extra)))
    assert came.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in came


def test_whoever_takes_no_answer_is_hung_up_on() -> None:
    lost = asyncio.Event()

    class Watched(Impatient):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    async def run() -> float:
        async with serving(Watched) as address:
            line = socket.create_connection(address)
            began = time.monotonic()
            line.sendall(GOOD.replace(b"GET /", b"GET /much"))
            async with asyncio.timeout(10):
                await lost.wait()
            line.close()
            return time.monotonic() - began

    assert asyncio.run(run()) > 0.2
