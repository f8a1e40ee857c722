"""A body is bounded in length and in time, however it is sent."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.requests import ClientDisconnect

from app.serving.api import build_api
from app.serving.bodies import Room, read_body
from app.serving.messages import Refused
from tests.serving_world import make_rows
from tests.unit.serving.conftest import World

NOTHING: list[tuple[bytes, bytes]] = []


class Sender:
    """Sends pieces as a server hands them on; None is a client that says nothing more."""

    def __init__(self, *pieces: bytes | None, whole: bool = True) -> None:
        self.pieces = list(pieces)
        self.whole = whole
        self.num_taken = 0

    async def __call__(self) -> dict[str, Any]:
        self.num_taken += 1
        piece = self.pieces.pop(0) if self.pieces else None
        if piece is None:
            await asyncio.sleep(60)
        if piece == b"gone":
            return {"type": "http.disconnect"}
        more = bool(self.pieces) or not self.whole
        return {"type": "http.request", "body": piece, "more_body": more}


def read(
    sender: Sender, headers: Any = NOTHING, seconds: float = 5.0, room: Room | None = None
) -> bytes:
    return asyncio.run(read_body(headers, sender, 100, seconds, room or Room(100)))


def refused(
    sender: Sender, headers: Any = NOTHING, seconds: float = 5.0, room: Room | None = None
) -> Refused:
    with pytest.raises(Refused) as caught:
        read(sender, headers, seconds, room)
    return caught.value


@pytest.mark.parametrize(
    "pieces", [[b""], [b"x" * 100], [b"a", b"", b"b" * 98, b"c"], [b"x"] * 100]
)
def test_a_body_of_the_greatest_length_is_read_however_it_is_cut(pieces: list[bytes]) -> None:
    assert read(Sender(*pieces)) == b"".join(pieces)


@pytest.mark.parametrize("said", [b"101", b"9" * 30, b"9" * 5000])
def test_a_length_that_is_said_to_be_too_large_is_refused_before_anything_is_read(
    said: bytes,
) -> None:
    sender = Sender(b"x")
    refusal = refused(sender, [(b"content-length", said)])

    assert (refusal.status, sender.num_taken) == (413, 0)
    assert refusal.headers["Connection"] == "close"


@pytest.mark.parametrize("said", [b"-5", b"ten", b"", b"1.5", b"\xb2"])
def test_a_length_that_is_no_number_is_refused(said: bytes) -> None:
    assert refused(Sender(b"x"), [(b"content-length", said)]).status == 400


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_long() -> None:
    sender = Sender(*[b"x" * 30] * 10)
    assert refused(sender).status == 413
    assert sender.num_taken == 4


def test_a_body_that_says_less_than_it_sends_is_refused_all_the_same() -> None:
    assert refused(Sender(b"x" * 101), [(b"content-length", b"5")]).status == 413


@pytest.mark.parametrize("pieces", [[None], [b"x", None], [b"x", b"", b"", None]])
def test_a_body_that_does_not_come_is_refused_when_its_time_is_over(
    pieces: list[bytes | None],
) -> None:
    refusal = refused(Sender(*pieces), seconds=0.05)
    assert (refusal.status, refusal.headers) == (408, {"Connection": "close"})
    assert "no whole body in 0.05 s" in str(refusal)


def test_a_client_that_leaves_is_no_error_of_ours() -> None:
    with pytest.raises(ClientDisconnect):
        read(Sender(b"x", b"gone"))


@pytest.fixture
def port(world: World) -> Iterator[int]:
    """The endpoint behind a real server, on a real socket, with half a second for a body."""
    serving = world.config.serving.model_copy(update={"body_seconds": 0.5})
    config = world.config.model_copy(update={"serving": serving})
    world.replica.predictor = replace(world.replica.predictor, config=config)
    server = uvicorn.Server(uvicorn.Config(build_api(world.replica), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def head(world: World, *lines: str) -> bytes:
    """Write the head of a request to predict."""
    key = world.client.headers["Authorization"]
    given = [
        "POST /v1/flights/predict HTTP/1.1",
        "Host: localhost",
        f"Authorization: {key}",
        "Content-Type: application/json",
        *lines,
    ]
    return "\r\n".join([*given, "", ""]).encode()


def answer_to(port: int, *pieces: bytes, pause: float = 0.0) -> tuple[int, bytes]:
    """Send pieces over a socket and read until the server closes it or says nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        for piece in pieces:
            line.sendall(piece)
            time.sleep(pause)
        got = b""
        while b"}" not in got:
            part = line.recv(65536)
            if not part:
                break
            got += part
    return int(got.split(b" ", 2)[1]), got


def test_a_slow_sender_is_told_408_and_its_line_is_closed(world: World, port: int) -> None:
    status, got = answer_to(port, head(world, "Content-Length: 100"), b'{"rows"')
    assert status == 408
    assert b"connection: close" in got.lower()
    assert b"no whole body in 0.5 s" in got


def test_a_slow_sender_takes_no_place_for_longer(world: World, port: int) -> None:
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    for line in lines:
        line.sendall(head(world, "Content-Length: 100") + b"{")
    time.sleep(1.0)

    status, _ = answer_to(port, head(world, "Content-Length: 2") + b"{}")

    assert status == 400
    for line in lines:
        line.close()


def test_many_slow_senders_keep_no_quick_request_out(world: World, port: int) -> None:
    most = world.config.serving.max_ongoing_requests
    body = orjson.dumps({"rows": make_rows(world.config.contract, 1)})
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * most)]
    for line in lines:
        line.sendall(head(world, f"Content-Length: {len(body)}") + body[:-1])

    quick = [
        answer_to(port, head(world, f"Content-Length: {len(body)}") + body)[0] for _ in range(5)
    ]

    assert quick == [200] * 5
    # Those that come slowly are not refused for it: their last byte brings them an answer, or the
    # end of their time does.
    lines[0].sendall(body[-1:])
    status = int(lines[0].recv(65536).split(b" ", 2)[1])
    assert status in (200, 408)
    for line in lines:
        line.close()


def test_pieces_of_bodies_share_a_room_and_what_comes_whole_needs_none() -> None:
    room = Room(150)
    room.take(100)

    assert refused(Sender(b"a" * 60, b"b"), room=room).status == 503
    assert read(Sender(b"a" * 40, b"b" * 60), room=room) == b"a" * 40 + b"b" * 60
    assert read(Sender(b"c" * 100), room=room) == b"c" * 100
    # Whatever became of them, what they held is free again.
    room.take(50)
    with pytest.raises(Refused):
        room.take(1)


def test_a_length_over_the_limit_is_answered_before_the_body_comes(world: World, port: int) -> None:
    status, got = answer_to(port, head(world, f"Content-Length: {2**40}"))
    assert status == 413
    assert b"connection: close" in got.lower()


def test_a_chunked_body_is_read_and_bounded(world: World, port: int) -> None:
    body = orjson.dumps({"rows": [{}]})
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    chunked = head(world, "Transfer-Encoding: chunked")
    status, _ = answer_to(port, chunked, chunks + b"0\r\n\r\n")
    assert status == 422

    large = b"%x\r\n%s\r\n" % (2**16, b"x" * 2**16)
    status, got = answer_to(port, chunked, *[large] * 16, b"1\r\nx\r\n0\r\n\r\n")
    assert status == 413
    assert b"more than 1048576 bytes" in got
