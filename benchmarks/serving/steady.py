"""Call a server in an open loop: each request is sent when it is due, whatever became of others.

A process of its own, as lean as the closed loop's: connections are kept, one epoll loop sends and
reads, by TLS where a certificate is named. A request that is due while all connections
wait is sent when one is free, and its time counts from when it was due. Every answer is kept with
when it was due, how long it took, its status, and who turned it away.
"""

import contextlib
import itertools
import os
import re
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.bodies import Asked, Form, requests_of
from benchmarks.serving.load import (
    BROKEN,
    TIMEOUT_SECONDS,
    Answer,
    Heard,
    connect,
    read_answer,
    receive,
)

TOLERANCE = 1e-4
# Niceness, where it may be had.
FIRST = -10
GOT = re.compile(rb'"got"\s*:\s*"([^"]{0,80})')
_first_ids = itertools.count(0, 10_000_000)


class Sent(NamedTuple):
    """What became of one request; times in seconds, the first since the first was due."""

    due: float
    seconds: float
    status: int
    said: str
    """What a refusal says that was got; empty for an answer."""
    late: float = 0.0
    """How much later than due it was sent: the generator's own fault, and within `seconds`."""


class _UnderWay(NamedTuple):
    connection: socket.socket
    asked: Asked
    due: float
    late: float
    received: bytearray


class Senders:
    """Connections of which each carries one request at a time, sent when it is due."""

    def __init__(
        self, address: tuple[str, int], asked: Iterator[Asked], tls: ssl.SSLContext | None = None
    ) -> None:
        """Take where to call, what to ask, and whom to trust where it goes by TLS."""
        self._address, self._asked, self._tls = address, asked, tls
        self._poll = select.epoll()
        # The latest first: those that idle long are ended by the server.
        self._free: list[socket.socket] = []
        self._under_way: dict[int, _UnderWay] = {}
        self._sent: list[Sent] = []
        self._began = 0.0
        self.heard = Heard(tolerance=TOLERANCE)

    def run(self, dues: Sequence[float], num_connections: int) -> list[Sent]:
        """Send one request at each of these seconds, and await all answers.

        Connections are made before the first is due: that takes both sides longer than a request.
        """
        self._free = [self._connect() for _ in range(min(num_connections, len(dues)))]
        self._began = last = time.perf_counter()
        waiting: deque[float] = deque()
        coming = deque(dues)
        while coming or waiting or self._under_way:
            now = time.perf_counter() - self._began
            while coming and coming[0] <= now:
                waiting.append(coming.popleft())
            while waiting and (self._free or len(self._under_way) < num_connections):
                self._ask(waiting.popleft())
            pause = max(coming[0] - now, 0.0) if coming else 1.0
            events = self._poll.poll(pause)
            for number, _ in events:
                self._hear(number)
            last = time.perf_counter() if events or not self._under_way else last
            if time.perf_counter() - last > TIMEOUT_SECONDS:
                raise TimeoutError(f"{self._address}: no answer within {TIMEOUT_SECONDS} s")
        return self._sent

    def run_callers(self, num_callers: int, seconds: float) -> list[Sent]:
        """Let so many callers each send when they have their answer, and await the last answers."""
        self._began = time.perf_counter()
        while (now := time.perf_counter() - self._began) < seconds or self._under_way:
            while len(self._under_way) < num_callers and now < seconds:
                self._ask(now)
            for number, _ in self._poll.poll(TIMEOUT_SECONDS if self._under_way else 0.1):
                self._hear(number)
        return self._sent

    def _connect(self) -> socket.socket:
        connection = connect(self._address, self._tls)
        self._poll.register(connection, select.EPOLLIN)
        return connection

    def _idle(self) -> socket.socket:
        """Take a connection that the server has not ended, or make one.

        Those that were made in one moment and never used are ended in one moment, too.
        """
        while self._free:
            connection = self._free.pop()
            is_silent = not select.select([connection], [], [], 0)[0]
            if is_silent or receive(connection) is None:
                return connection
            connection.close()
        return self._connect()

    def _ask(self, due: float) -> None:
        asked = next(self._asked)
        connection = self._idle()
        try:
            connection.sendall(asked.content)
        except OSError:
            # Ended while it was idle, which is seen only now.
            connection.close()
            connection = self._connect()
            connection.sendall(asked.content)
        late = time.perf_counter() - self._began - due
        under_way = _UnderWay(connection, asked, due, late, bytearray())
        self._under_way[connection.fileno()] = under_way

    def _hear(self, number: int) -> None:
        under_way = self._under_way.get(number)
        if under_way is None:
            self._drop(number)
            return
        piece = receive(under_way.connection)
        if piece is None:
            return
        under_way.received.extend(piece)
        answer = read_answer(bytes(under_way.received)) if piece else Answer(BROKEN, b"", True)
        if answer is None:
            return
        del self._under_way[number]
        seconds = time.perf_counter() - self._began - under_way.due
        self.heard.note(answer, under_way.asked, seconds)
        said = GOT.search(answer.body) if answer.status != 200 else None
        told = said[1].decode(errors="replace") if said else ""
        self._sent.append(Sent(under_way.due, seconds, answer.status, told, under_way.late))
        if answer.closes:
            under_way.connection.close()
        else:
            self._free.append(under_way.connection)

    def _drop(self, number: int) -> None:
        """Close a connection that the server ended while it was idle."""
        idle = next(each for each in self._free if each.fileno() == number)
        if receive(idle) is not None:
            self._free.remove(idle)
            idle.close()


def steady(rate: float, seconds: float) -> list[float]:
    """Say when requests are due that come at a constant rate, a second.

    >>> steady(2, 2)
    [0.0, 0.5, 1.0, 1.5]
    """
    return [number / rate for number in range(round(rate * seconds))]


def ramp(first: float, last: float, seconds: float) -> list[float]:
    """Say when requests are due whose rate a second grows in a straight line.

    So many have come after t: first·t + (last - first)·t²/(2·seconds).

    >>> [round(due, 2) for due in ramp(0.0, 2.0, 3.0)]
    [0.0, 1.73, 2.45]
    """
    growth = (last - first) / seconds
    numbers = range(round((first + last) / 2 * seconds))
    if not growth:
        return steady(first, seconds)
    return [((first**2 + 2 * growth * n) ** 0.5 - first) / growth for n in numbers]


def act(
    file: str,
    address: tuple[str, int],
    trust: str | None,
    form: dict[str, Any],
    rows_per_request: int,
    dues: Sequence[float] = (),
    num_connections: int = 64,
    callers: tuple[int, float] | None = None,
) -> dict[str, Any]:
    """Send and tell what was heard: at times that are due, or by callers for some seconds.

    `trust` is the file of a certificate, for TLS.
    """
    # Callers have machines of their own: one that starves beside the servers measures itself.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    asked = requests_of(Path(file), Form(**form), rows_per_request, next(_first_ids))
    tls = ssl.create_default_context(cafile=trust) if trust is not None else None
    senders = Senders((address[0], address[1]), asked, tls)
    sent = senders.run_callers(*callers) if callers else senders.run(dues, num_connections)
    return {
        "sent": sent,
        "num_wrong": senders.heard.num_wrong,
        "example": senders.heard.example,
    }


if __name__ == "__main__":
    answer_commands(act)
