"""Take requests in: bound their size and number, and work on them beside the event loop.

A request takes a place when all of it is here, so that one whose body comes slowly keeps no other
out; bodies that come in pieces share a number of bytes instead. Knows ASGI scopes and threads;
knows nothing of models, tables or what a message says.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope

from app.sections import ServingConfig
from app.serving.bodies import Room, read_body
from app.serving.documentation import JSON
from app.serving.messages import Refused, explain
from app.serving.waiting import Line

Message = TypeVar("Message", bound=BaseModel)
Outcome = TypeVar("Outcome")


class Places:
    """How many may be under way at a time. One event loop takes and gives them."""

    def __init__(self, most: int, what: str) -> None:
        """Take how many, and what they are, for whoever is refused."""
        self._most, self._what = most, what
        self._taken = 0

    def refuse_if_full(self) -> None:
        """Raise Refused with 503 when there is no place now."""
        if self._taken >= self._most:
            raise Refused(503, "server", f"{self._taken} {self._what} under way", "try again later")

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a place. Raises Refused with 503 when there is none."""
        self.refuse_if_full()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Desk:
    """What all requests of one replica share."""

    def __init__(
        self, serving: ServingConfig, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the bounds, and a clock in seconds that is never put back."""
        self.max_bytes = int(serving.max_body_mb * 2**20)
        self._seconds = serving.body_seconds
        self._places = Places(serving.max_ongoing_requests, "requests")
        self._room = Room(int(serving.max_bodies_mb * 2**20))
        self._line, self._steady = Line(), steady
        longest = serving.max_wait_ms
        self._longest_wait = float("inf") if longest is None else longest / 1000
        # Two: one may wait for the disk or the ledger while the other computes.
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="requests")
        # One: two that compute hand the interpreter's lock back and forth at every small operation.
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="computing")

    def place(self) -> AbstractContextManager[None]:
        """Count a request as under way. Raises Refused with 503 when too many are."""
        return self._places.take()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a place in the line of those who wait for predictions, whole as they have come.

        Raises Refused with 503 when there is none, or when its turn would come too late.
        """
        self.refuse_if_late()
        with self._places.take():
            self._line.enter(self._steady())
            try:
                yield
            finally:
                self._line.leave(self._steady())

    def refuse_if_late(self) -> None:
        """Raise Refused with 503 when a turn would come too late: before a body is read, too."""
        if (wait := self._line.wait) > self._longest_wait:
            got = f"{1000 * wait:.0f} ms of work before this request"
            raise Refused(503, "server", got, "try again later, or somewhere else")

    async def read(self, scope: Scope, receive: Receive, *others: str) -> bytes:
        """Read a body of bounded length, within bounded time, before a place is taken.

        It is JSON, or of one of the other content types. Raises Refused, and with 503 before
        anything is read when there is no place for the request now.
        """
        self._places.refuse_if_full()
        kind = content_type(scope)
        if kind != JSON and kind not in others:
            raise Refused(415, "content-type", kind[:100], f"send {' or '.join((JSON, *others))}")
        return await read_body(scope["headers"], receive, self.max_bytes, self._seconds, self._room)

    async def work(self, function: Callable[[], Outcome]) -> Outcome:
        """Call a function that takes its time, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, function)

    async def compute(self, function: Callable[[], Outcome]) -> Outcome:
        """Call a function that waits for nothing but the processor: one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._computing, function)

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        kind: type[Message],
        work: Callable[[Message], dict[str, Any]],
    ) -> bytes:
        """Read a message of a kind and give the outcome of the work as JSON."""
        body = await self.read(scope, receive)
        with self.place():
            return await self.work(lambda: orjson.dumps(work(parse(body, kind))))


def content_type(scope: Scope) -> str:
    """Say what a request says that its body is, without parameters; JSON where it says nothing."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind: str = value.decode("latin-1")
            return kind if kind == JSON else kind.partition(";")[0].strip().lower()
    return JSON


def refuse_encoded(scope: Scope) -> None:
    """Raise Refused with 415 for a compressed body: a few bytes of one may be any number."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            got = ascii(value.decode("latin-1"))[1:65].rstrip("'")
            raise Refused(415, "content-encoding", got, "send the body as it is")


def parse(body: bytes, kind: type[Message]) -> Message:
    """Read a message from JSON. Raises Refused with 400."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        got = f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Refused(
            400, "body", got, "send one JSON object; NaN and Infinity are not JSON"
        ) from None
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        change = "compare with the schema at /openapi.json"
        raise Refused(400, "body", explain(error), change) from None
