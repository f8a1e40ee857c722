"""Call a server in a closed loop: each caller sends its next request when it has its answer.

A process of its own that costs a few microseconds a request: sockets that are kept open, one epoll
loop, HTTP/1.1 read by hand. Every answer's status is counted, and its probabilities are held
against the bundle's own.
"""

import itertools
import re
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.bodies import Asked, Form, requests_of

TOLERANCE = 1e-6
RECEIVE = 1 << 18
TIMEOUT_SECONDS = 120.0
PROBABILITY = re.compile(rb'"probability"\s*:\s*([0-9.eE+-]+)')
# How an Arrow stream begins.
STREAM = b"\xff\xff\xff\xff"
LENGTH = re.compile(rb"(?i)\r\ncontent-length:\s*(\d+)")
CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:\s*chunked")
CLOSING = re.compile(rb"(?i)\r\nconnection:\s*close")
# What is counted where a connection broke off instead of an answer.
BROKEN = 0
# Ids of one process go on from run to run.
_first_ids = itertools.count(0, 100_000_000)


@dataclass
class Heard:
    """What callers heard."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    num_wrong: int = 0
    example: str = ""
    tolerance: float = TOLERANCE
    """A wide network's sums differ by more, by how many rows are worked on together."""

    def note(self, answer: "Answer", asked: Asked, seconds: float) -> None:
        """Count one answer, and keep an example of those that are not what they should be."""
        self.seconds.append(seconds)
        self.statuses[answer.status] += 1
        right = answer.status == 200 and _agree(answer.body, asked.probabilities, self.tolerance)
        if not right:
            self.num_wrong += answer.status == 200
            self.example = self.example or answer.body[:300].decode(errors="replace")

    def summary(self, elapsed: float) -> dict[str, Any]:
        """Give counts, requests a second, and latencies in milliseconds."""
        p50, p99 = np.percentile(self.seconds or [0.0], [50, 99]) * 1e3
        return {
            "statuses": {str(status): number for status, number in self.statuses.items()},
            "num_wrong": self.num_wrong,
            "example": self.example,
            "requests": self.statuses[200],
            "elapsed_s": elapsed,
            "requests_per_s": self.statuses[200] / elapsed,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
        }


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    closes: bool


def read_answer(received: bytes) -> Answer | None:
    """Read an answer; None when more must come."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    length = LENGTH.search(head)
    whole: bytes | None = body
    if length is None and CHUNKED.search(head):
        whole = _joined(body)
    elif len(body) < int(length[1] if length else 0):
        whole = None
    return None if whole is None else Answer(int(head[9:12]), whole, bool(CLOSING.search(head)))


def _joined(body: bytes) -> bytes | None:
    pieces = []
    while body:
        size, separator, rest = body.partition(b"\r\n")
        number = int(size or b"0", 16)
        if not separator or len(rest) < number + 2:
            return None
        if not number:
            return b"".join(pieces)
        pieces.append(rest[:number])
        body = rest[number + 2 :]
    return None


def _agree(body: bytes, expected: Sequence[float], tolerance: float) -> bool:
    found = _probabilities(body)
    return len(found) == len(expected) and all(
        abs(got - wanted) <= tolerance for got, wanted in zip(found, expected, strict=True)
    )


def _probabilities(body: bytes) -> list[float]:
    if not body.startswith(STREAM):
        return [float(digits) for digits in PROBABILITY.findall(body)]
    found: list[float] = pa.ipc.open_stream(body).read_all()["probability"].to_pylist()
    return found


class Callers:
    """Connections with a request under way on each."""

    def __init__(
        self, address: tuple[str, int], asked: Iterator[Asked], tls: ssl.SSLContext | None = None
    ) -> None:
        """Take where to call, what to ask, and whom to trust where it goes by TLS."""
        self._address, self._asked, self._tls = address, asked, tls
        self._poll = select.epoll()
        self._under_way: dict[int, tuple[socket.socket, Asked, float, bytearray]] = {}
        self.heard = Heard()

    def run(self, num_callers: int, seconds: float) -> dict[str, Any]:
        """Let each ask for some seconds, and wait for the last answers."""
        began = time.perf_counter()
        deadline = began + seconds
        for _ in range(num_callers):
            self._ask(self._connect())
        while self._under_way:
            events = self._poll.poll(TIMEOUT_SECONDS)
            if not events:
                raise TimeoutError(f"{self._address}: no answer within {TIMEOUT_SECONDS} s")
            for number, _ in events:
                connection = self._hear(number)
                if connection is not None and time.perf_counter() < deadline:
                    self._ask(connection)
                elif connection is not None:
                    connection.close()
        return self.heard.summary(time.perf_counter() - began)

    def _connect(self) -> socket.socket:
        connection = connect(self._address, self._tls)
        self._poll.register(connection, select.EPOLLIN)
        return connection

    def _ask(self, connection: socket.socket) -> None:
        asked = next(self._asked)
        self._under_way[connection.fileno()] = (connection, asked, time.perf_counter(), bytearray())
        connection.sendall(asked.content)

    def _hear(self, number: int) -> socket.socket | None:
        """Read what came; return a connection that is free again."""
        connection, asked, began, received = self._under_way[number]
        piece = receive(connection)
        if piece is None:
            return None
        received += piece
        answer = read_answer(bytes(received)) if piece else Answer(BROKEN, b"", True)
        if answer is None:
            return None
        del self._under_way[number]
        self.heard.note(answer, asked, time.perf_counter() - began)
        if not answer.closes:
            return connection
        connection.close()
        return self._connect()


def connect(address: tuple[str, int], tls: ssl.SSLContext | None) -> socket.socket:
    """Open a connection that is used for one request after another."""
    connection = socket.create_connection(address, TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection if tls is None else tls.wrap_socket(connection, server_hostname=address[0])


def receive(connection: socket.socket) -> bytes | None:
    """Take what is there: nothing when the connection is at its end, None when it may come."""
    try:
        if not isinstance(connection, ssl.SSLSocket):
            return connection.recv(RECEIVE)
        return _receive_secret(connection)
    except (ConnectionError, ssl.SSLEOFError):
        return b""


def _receive_secret(connection: ssl.SSLSocket) -> bytes | None:
    """Take what is there of TLS: not all that wakes a reader is for it, and records are small."""
    connection.settimeout(0.0)
    pieces = []
    try:
        while not pieces or connection.pending():
            pieces.append(connection.recv(RECEIVE))
            if not pieces[-1]:
                break
    except ssl.SSLWantReadError:
        return None
    finally:
        connection.settimeout(TIMEOUT_SECONDS)
    return b"".join(pieces)


def act(
    file: str,
    address: tuple[str, int],
    form: dict[str, Any],
    num_callers: int,
    seconds: float,
    rows_per_request: int = 1,
    trust: str | None = None,
) -> dict[str, Any]:
    """Call a server and tell what was heard; `trust` is the file of a certificate, for TLS."""
    asked = requests_of(Path(file), Form(**form), rows_per_request, next(_first_ids))
    tls = ssl.create_default_context(cafile=trust) if trust is not None else None
    return Callers((address[0], address[1]), asked, tls).run(num_callers, seconds)


if __name__ == "__main__":
    answer_commands(act)
