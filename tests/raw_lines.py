"""Send bytes over sockets and read what is answered: no client stands between.

Every attempt has a connection of its own and ends in answers, or in a connection that the server
closed, or in neither, which is a fault.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from tests.malformed_requests import Attempt, Maker

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n")
LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)
CLOSED, LEFT = "closed", "left"
# SO_LINGER on, zero seconds: close sends a reset.
RESET = struct.pack("ii", 1, 0)


@dataclass
class Outcome:
    """What came of attempts, counted."""

    statuses: Counter[str] = field(default_factory=Counter)
    """By status; connections that were closed without an answer, and that the sender left."""
    kinds: Counter[str] = field(default_factory=Counter)
    """By kind and status."""
    faults: list[str] = field(default_factory=list)
    """Whatever must not be, each with its number."""


class Answers:
    """Reads whole answers from what came on a connection."""

    def __init__(self, is_head: bool) -> None:
        """Take whether HEAD was asked, whose answer has no body."""
        self._is_head = is_head
        self._left = b""
        self.told: list[tuple[int, bytes]] = []

    def add(self, piece: bytes) -> None:
        """Take a piece. Raises ValueError when it is no HTTP that was agreed on."""
        self._left += piece
        while b"\r\n\r\n" in self._left:
            head, _, rest = self._left.partition(b"\r\n\r\n")
            found, length = STATUS.match(head + b"\r\n"), LENGTH.search(head + b"\r\n")
            if found is None:
                raise ValueError(f"no answer: {head[:200]!r}")
            status = int(found[1])
            size = int(length[1]) if length and status >= 200 and not self._is_head else 0
            if length is None and status >= 200:
                raise ValueError(f"an answer without a length: {head[:300]!r}")
            if len(rest) < size:
                return
            self._left = rest[size:]
            if status >= 200:
                self.told.append((status, rest[:size]))


@dataclass(frozen=True)
class Target:
    """Who is spoken to, in TLS where a certificate is to be trusted."""

    host: str
    port: int
    trust: ssl.SSLContext | None = None


async def attempt(target: Target, made: Attempt, seconds: float) -> Answers:
    """Make an attempt; raises TimeoutError when it is neither answered nor hung up on in time."""
    answers = Answers(made.pieces[0].startswith(b"HEAD"))
    reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.trust)
    try:
        with contextlib.suppress(ConnectionError):
            await _sent(writer, made, answers, reader)
            _half_closed(writer, made)
            if made.end != "reset":
                async with asyncio.timeout(seconds):
                    await _read(reader, answers, made.answers)
    finally:
        if made.end == "reset":
            line = writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort() if made.end == "reset" else writer.close()
    return answers


async def _sent(
    writer: asyncio.StreamWriter, made: Attempt, answers: Answers, reader: asyncio.StreamReader
) -> None:
    """Send the pieces, as long as the other side listens."""
    for piece in made.pieces:
        if reader.at_eof() or reader.exception() is not None:
            return
        writer.write(piece)
        if made.pause:
            await asyncio.sleep(made.pause)
    # What the other side does not read is not waited for: it may have answered already.


def _half_closed(writer: asyncio.StreamWriter, made: Attempt) -> None:
    """Say that nothing more is sent, to whoever is still there; TLS has no word for it."""
    if made.end == "half" and writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _read(reader: asyncio.StreamReader, answers: Answers, most: int) -> None:
    while len(answers.told) < most:
        piece = await reader.read(65536)
        if not piece:
            return
        answers.add(piece)


def judge(number: int, made: Attempt, answers: Answers, outcome: Outcome) -> None:
    """Count what came of an attempt, and note what must not be."""
    silent = LEFT if made.end == "reset" else CLOSED
    for status, body in answers.told or [(silent, b"")]:
        outcome.statuses[str(status)] += 1
        outcome.kinds[f"{made.kind} {status}"] += 1
        if isinstance(status, str) or status < 400:
            continue
        if status >= 500:
            outcome.faults.append(f"{number} {made.kind}: {status} {body[:300]!r}")
        is_head = made.pieces[0].startswith(b"HEAD")
        with contextlib.suppress(orjson.JSONDecodeError):
            if is_head or "error" in orjson.loads(body):
                continue
        outcome.faults.append(f"{number} {made.kind}: {status} in another form {body[:300]!r}")


async def storm(
    target: Target,
    maker: Maker,
    numbers: Sequence[int],
    together: int,
    seconds: float,
    outcome: Outcome,
) -> None:
    """Make many attempts, some together; a good request in between must be answered."""
    left = iter(numbers)

    async def one_after_another() -> None:
        for number in left:
            made = maker.make(number)
            try:
                judge(number, made, await attempt(target, made, seconds), outcome)
            except TimeoutError:
                outcome.faults.append(f"{number} {made.kind}: neither answered nor closed")
            except (OSError, ValueError) as error:
                outcome.faults.append(f"{number} {made.kind}: {error!r}")
            if number % 200 == 0:
                await _good(target, maker, number, outcome)

    await asyncio.gather(*(one_after_another() for _ in range(together)))


async def _good(target: Target, maker: Maker, number: int, outcome: Outcome) -> None:
    made = Attempt("good", (maker.good(number // 200 % 40),))
    answers = await attempt(target, made, 30)
    for status, body in answers.told:
        outcome.statuses[f"good {status}"] += 1
        if status == 200 and 0 <= orjson.loads(body)["predictions"][0]["probability"] <= 1:
            return
    outcome.faults.append(f"{number}: a good request got {answers.told}")
