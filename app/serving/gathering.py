"""Gather what waits at the same moment and work on it together: a batch only where a queue is.

One that comes alone is worked on in the next turn of the event loop; no clock is waited for. What
came by then, under load, shares the cost of a batch. Knows the event loop; knows nothing of HTTP,
models or files.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class Gathering(Generic[Asked, Answered]):
    """Hands what waits, in the order in which it came, to a function that answers at once."""

    def __init__(self, work: Callable[[Sequence[Asked]], Sequence[Answered]], most: int) -> None:
        """`work` gives an answer for each of up to `most` at a time, or raises for them all."""
        self._work, self._most = work, most
        self._waiting: deque[tuple[Asked, asyncio.Future[Answered]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, asked: Asked) -> asyncio.Future[Answered]:
        """Wait for an answer: to be called, and awaited, on the event loop."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answered] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._answer_some, loop)
        self._waiting.append((asked, answer))
        return answer

    def _answer_some(self, loop: asyncio.AbstractEventLoop) -> None:
        taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        if self._waiting:
            loop.call_soon(self._answer_some, loop)
        # Who has gone away meanwhile is not worked for.
        there = [(asked, answer) for asked, answer in taken if not answer.done()]
        if not there:
            return
        try:
            answers = self._work([asked for asked, _ in there])
        # Whoever waits must be told, whatever it was: it is raised where it is awaited.
        except Exception as error:
            for _, answer in there:
                answer.set_exception(error)
            return
        for (_, answer), given in zip(there, answers, strict=True):
            answer.set_result(given)
